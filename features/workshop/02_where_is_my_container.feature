Feature: Where is my container?
  The workshop's section "Where is my container?": containers end with their command, stay until they are removed,
  and are found by `ps`.

  Background:
    Given the image "busybox"

  Scenario: The listing has Docker's columns
    When the workshop says `docker ps`
    Then it succeeds
    And its output matches "^CONTAINER ID +IMAGE +COMMAND +CREATED +STATUS +PORTS +NAMES$"

  Scenario: A running container is listed
    Given I ran `docker run -d --name simple1 busybox sleep 60`
    When the workshop says `docker ps`
    Then it succeeds
    And its output matches "^[0-9a-f]{12} +busybox +.sleep 60. +.*second.* ago +Up .* +simple1$"

  Scenario: A container that has finished is not listed, but is still there
    Given I ran `docker run --name finished busybox echo "hello world"`
    When the workshop says `docker ps`
    Then its output does not contain "finished"
    When the workshop says `docker ps -a`
    Then it succeeds
    And its output matches "busybox +.echo .hello world.. .*Exited \(0\) .*ago +finished$"

  Scenario: Every container has an id of its own
    Given I ran `docker run busybox true`
    And I ran `docker run busybox true`
    When I run `docker ps -aq`
    Then its output has 2 different lines

  Scenario: A container is removed by its name
    Given I ran `docker run --name my_container_name_or_id busybox true`
    When the workshop says `docker rm my_container_name_or_id`
    Then it succeeds
    And its output is "my_container_name_or_id"
    When I run `docker ps -aq`
    Then its output is ""

  Scenario: A container is removed by its id
    Given I ran `docker run busybox true`
    When I run `docker rm $(docker ps -aq)`
    Then it succeeds
    When I run `docker ps -aq`
    Then its output is ""

  Scenario: A running container is not removed by accident
    Given I ran `docker run -d --name simple1 busybox sleep 60`
    When I run `docker rm simple1`
    Then it exits with 1
    And its errors contain "You cannot remove a running container"

  Scenario: --rm removes it as soon as it ends
    When I run `docker run --rm busybox echo "hello world"`
    Then its output is "hello world"
    When I run `docker ps -aq`
    Then its output is ""

  @specrun
  Scenario: The same from a spec
    Given the workshop's spec "02-where-is-my-container.yaml"
    When I run `specrun apply 02-where-is-my-container.yaml`
    Then its output matches "^hello world$"
    When I run `docker ps --format "{{.Names}}"`
    Then its output is "running"
    When I run `docker ps -a --format "{{.Names}}" | sort | xargs`
    Then its output is "finished running"
    When I run `specrun plan 02-where-is-my-container.yaml`
    Then it succeeds

  @learner
  Scenario: You have seen a container end
    When I run `docker ps -a`
    Then its output matches "Exited \(\d+\)"
