Feature: Entry point
  The workshop's section "Entry point": what runs when no command is given, and gets the arguments when they are.

  Background:
    Given the image "busybox"
    And the workshop's files

  Scenario: Arguments go to the entry point
    Given the workshop says `cd docker/busybox-entrypoint`
    When the workshop says `cat Dockerfile`
    Then its output contains "ENTRYPOINT"
    When the workshop says `docker build -t hello:v3 .`
    Then it succeeds
    When the workshop says `docker run --rm hello:v3`
    Then its output is "hello, world !"
    When the workshop says `docker run --rm hello:v3 woo`
    Then its output is "hello, world woo!"

  @specrun
  Scenario: The same from a spec
    Given the workshop's spec "20-entry-point.yaml"
    When I run `specrun apply 20-entry-point.yaml`
    Then its output matches "woo"
    When I run `specrun plan 20-entry-point.yaml`
    Then it succeeds

  @learner
  Scenario: You have built an image with an entry point
    When I run `docker image inspect -f '{{json .Config.Entrypoint}}' hello:v3`
    Then its output contains "hello.sh"
