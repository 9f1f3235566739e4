Feature: Build arguments
  The workshop's section "Build arguments". Its command gives ARG1 where the file declares BUILD1: as Docker does,
  the build says so, and the argument has no effect.

  Background:
    Given the image "busybox"
    And the workshop's files

  Scenario: An argument that the file does not declare is warned of
    Given the workshop says `cd docker/busybox-arg`
    When the workshop says `docker build --build-arg=ARG1="Alice and Bob" -t hello:v5 .`
    Then it succeeds
    And its output contains "[Warning] One or more build-args [ARG1] were not consumed"
    When the workshop says `docker run hello:v5`
    Then its output is "hello, !"

  Scenario: The argument that it declares
    Given I ran `cd docker/busybox-arg`
    And I ran `docker build --build-arg=BUILD1="Alice and Bob" -t hello:v5 .`
    When I run `docker run --rm hello:v5`
    Then its output is "hello, Alice and Bob!"

  @specrun
  Scenario: The same from a spec
    Given the workshop's spec "22-build-arguments.yaml"
    When I run `specrun apply 22-build-arguments.yaml`
    Then its output matches "Alice and Bob"
    When I run `specrun plan 22-build-arguments.yaml`
    Then it succeeds

  @learner
  Scenario: You have built an image with an argument
    Then there is an image "hello:v5"
