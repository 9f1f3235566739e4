Feature: Environment variables
  The workshop's section "Environment variables": the image sets some, and a run overrides them.

  Background:
    Given the image "busybox"
    And the workshop's files

  Scenario: Runtime takes precedence over build time
    Given the workshop says `cd docker/busybox-env`
    When the workshop says `cat hello.sh`
    Then its output contains "hello, $BUILD1 and $RUN1!"
    When the workshop says `docker build -t hello:v4 .`
    Then its output contains "Step 3/4 : ENV BUILD1 Bob"
    When the workshop says `docker run --rm -e RUN1=Alice hello:v4`
    Then its output is "hello, Bob and Alice!"
    When the workshop says `docker run --rm -e BUILD1=Jon -e RUN1=Alice hello:v4`
    Then its output is "hello, Jon and Alice!"

  Scenario: The image's variables are there unless the start says otherwise
    Given I ran `docker build -t hello:v4 docker/busybox-env`
    When I run `docker run --rm hello:v4`
    Then its output is "hello, Bob and !"
    When I run `docker run --rm -e BUILD1=Jon -e RUN1=Alice hello:v4`
    Then its output is "hello, Jon and Alice!"

  @specrun
  Scenario: The same from a spec
    Given the workshop's spec "21-environment-in-builds.yaml"
    When I run `specrun apply 21-environment-in-builds.yaml`
    Then its output matches "Alice"
    When I run `specrun plan 21-environment-in-builds.yaml`
    Then it succeeds

  @learner
  Scenario: You have built an image with a variable
    When I run `docker image inspect -f '{{json .Config.Env}}' hello:v4`
    Then its output contains "BUILD1=Bob"
