Feature: Adding environment variables
  The workshop's section "Adding environment variables": a container gets few variables, and those that it is given.

  Background:
    Given the image "busybox"

  Scenario: The variables that are there by default
    When the workshop says `docker run --rm busybox env`
    Then it succeeds
    And its output matches "^PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin$"
    And its output matches "^HOSTNAME=[0-9a-f]{12}$"
    And its output matches "^HOME=/root$"
    And its output has 3 lines

  Scenario: A variable more
    When the workshop says `docker run --rm -e HELLO=world busybox env`
    Then it succeeds
    And its output matches "^HELLO=world$"
    And its output has 4 lines

  Scenario: Nothing of the caller's environment leaks in, unless it is named
    When I run `SECRET=1 GIVEN=2 docker run --rm -e GIVEN -e NOT_SET busybox env`
    Then its output does not contain "SECRET"
    And its output matches "^GIVEN=2$"
    And its output does not contain "NOT_SET"

  Scenario: Variables from a file, and the host name by choice
    Given a file "vars" with
      """
      # a remark
      ONE=1
      TWO=two words
      """
    When I run `docker run --rm --env-file vars -e ONE=uno -h web busybox sh -c 'echo $ONE, $TWO, $HOSTNAME'`
    Then its output is "uno, two words, web"

  @specrun
  Scenario: The same from a spec
    Given the workshop's spec "03-environment-variables.yaml"
    When I run `specrun apply 03-environment-variables.yaml`
    Then it succeeds
    And its output contains "HELLO=world"
