Feature: Starting and stopping containers
  The workshop's section "Starting and stopping containers".

  Background:
    Given the image "busybox"

  Scenario: Stopped and started again
    Given I ran `docker run -d --name simple1 busybox sh -c 'echo begun; trap "exit 0" TERM; while :; do sleep 0.1; done'`
    Then eventually within 10s the log of "simple1" contains "begun"
    When the workshop says `docker stop simple1`
    Then it succeeds
    And its output is "simple1"
    And the container "simple1" is exited
    When the workshop says `docker start simple1`
    Then it succeeds
    And its output is "simple1"
    And the container "simple1" is running

  Scenario: What it has changed is kept
    Given I ran `docker run --name simple1 busybox sh -c 'echo again >> /count; cat /count'`
    And the workshop says `docker start simple1`
    And I ran `docker wait simple1`
    When I run `docker logs simple1`
    Then its output is
      """
      again
      again
      again
      """

  Scenario: The stop signal comes first
    Given I ran `docker run -d --name simple1 busybox sh -c 'trap "echo caught; exit 7" TERM; echo ready; while :; do sleep 0.1; done'`
    Then eventually within 10s the log of "simple1" contains "ready"
    Given the workshop says `docker stop simple1`
    When I run `docker inspect -f '{{.State.ExitCode}}' simple1`
    Then its output is "7"
    And the log of "simple1" contains "caught"

  Scenario: Who does not listen is killed
    Given I ran `docker run -d --name simple1 busybox sh -c 'trap "" TERM; echo ready; while :; do sleep 0.1; done'`
    Then eventually within 10s the log of "simple1" contains "ready"
    When I run `docker stop -t 1 simple1`
    Then it succeeds
    When I run `docker inspect -f '{{.State.ExitCode}}' simple1`
    Then its output is "137"

  Scenario: A name stands for one container
    Given I ran `docker run -d --name simple1 busybox sleep 300`
    When I run `docker run -d --name simple1 busybox sleep 300`
    Then it exits with 125
    And its errors contain "is already in use by container"
    When I run `docker ps -q`
    Then its output has 1 lines

  Scenario: A name is free again when its container is removed
    Given I ran `docker run --name simple1 busybox true`
    And I ran `docker rm simple1`
    When I run `docker run --rm --name simple1 busybox echo again`
    Then its output is "again"

  @specrun
  Scenario: The same from a spec
    Given the workshop's spec "15-starting-and-stopping.yaml"
    When I run `specrun apply 15-starting-and-stopping.yaml`
    Then the container "simple1" is running
    Given I ran `docker stop simple1`
    When I run `specrun plan 15-starting-and-stopping.yaml`
    Then it exits with 2
    And its output contains "start it again"
    Given I ran `specrun apply 15-starting-and-stopping.yaml`
    Then the container "simple1" is running
    When I run `specrun plan 15-starting-and-stopping.yaml`
    Then it succeeds

  @learner
  Scenario: You have stopped and started it
    Then the container "simple1" is running
