Feature: Inspecting a running container
  The workshop's section "Inspecting a running container": what a container has written, and all that is known of it.

  Background:
    Given the image "busybox"

  Scenario: Its log is what it has written
    Given I ran `docker run -d --name simple1 busybox sh -c 'echo one line; echo one error >&2; sleep 300'`
    Then eventually within 10s the log of "simple1" contains "one error"
    When the workshop says `docker logs simple1`
    Then it succeeds
    And its output is "one line"
    And its errors contain "one error"

  Scenario: The log outlives the container's command
    Given I ran `docker run --name simple1 busybox echo "hello world"`
    When the workshop says `docker logs simple1`
    Then its output is "hello world"

  Scenario: All that is known of a container
    Given I ran `docker run --name kind_bell busybox echo "hello world"`
    When the workshop says `docker inspect kind_bell`
    Then it succeeds
    And its output matches "^        .Id.: .[0-9a-f]{64}.,$"
    And its output matches "^        .Path.: .echo.,$"
    And its output contains "hello world"
    And its output matches "^            .Status.: .exited.,$"

  Scenario Outline: One fact of it
    Given I ran `docker run -d --name kind_bell -e HELLO=world -h box busybox sleep 300`
    When I run `docker inspect -f '<template>' kind_bell`
    Then its output is "<value>"

    Examples:
      | template                     | value       |
      | {{.State.Status}}            | running     |
      | {{.Path}} {{join .Args ","}} | sleep 300   |
      | {{.Name}}                    | /kind_bell  |
      | {{index .Config.Env 0}}      | HELLO=world |
      | {{.Config.Hostname}}         | box         |
      | {{json .State.Running}}      | true        |

  Scenario: What there is not
    When I run `docker inspect no_such_thing`
    Then it exits with 1
    And its errors contain "no_such_thing"

  @specrun
  Scenario: The same from a spec
    Given the workshop's spec "12-inspecting.yaml"
    When I run `specrun apply 12-inspecting.yaml`
    Then it succeeds
    When I run `specrun check 12-inspecting.yaml`
    Then it succeeds
    And its output contains "2 hold, 0 do not."
    When I run `specrun plan 12-inspecting.yaml`
    Then it succeeds
