Feature: Sneak peek into the container environment
  The workshop's section "Sneak peek into the container environment": a container sees its own processes only.

  Background:
    Given the image "busybox"

  Scenario: The command is the first and only process, and root
    When the workshop says `docker run --rm busybox ps uax`
    Then it succeeds
    And its output matches "^PID +USER +(TIME +)?COMMAND$"
    And its output matches "^ +1 root +(0:00 )?ps uax$"
    And its output has 2 lines

  Scenario: The host's processes can be neither seen nor signalled
    When I run `docker run --rm busybox sh -c "kill -0 $$ && echo reached"`
    Then it fails
    And its errors contain "No such process"

  Scenario: Another user by choice
    When I run `docker run --rm -u 1000:1000 busybox sh -c 'id -u; touch /etc/made'`
    Then it exits with 1
    And its output is "1000"
    And its errors contain "Permission denied"

  @specrun
  Scenario: The same from a spec
    Given the workshop's spec "04-sneak-peek.yaml"
    When I run `specrun apply 04-sneak-peek.yaml`
    Then it succeeds
    And its output contains "ps uax"
