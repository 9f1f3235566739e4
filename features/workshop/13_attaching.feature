Feature: Attaching to a running container
  The workshop's section "Attaching to a running container": one process more, in the namespaces of one that runs.

  Background:
    Given the image "busybox"
    And I ran `docker run -d --name simple1 busybox sleep 300`

  Scenario: A shell in a terminal
    When the workshop says, in a terminal, `docker exec -ti simple1 /bin/sh`
    Then the terminal shows "/ #"
    When I type there what the workshop says: "ps uax"
    Then the terminal shows "sleep 300"
    And the terminal shows "/bin/sh"
    When I type "tty; exit 3"
    Then the terminal shows "/dev/pts/"
    And the command in the terminal exits with 3

  Scenario: The container's command is process 1
    When I run `docker exec simple1 ps`
    Then its output matches "^ +1 root +sleep 300$"
    And its output matches "^ +[0-9]+ root +ps$"

  Scenario: Its exit status is passed on
    When I run `docker exec simple1 sh -c 'exit 42'`
    Then it exits with 42

  Scenario: It is in the same namespaces
    When I run `docker exec simple1 sh -c 'for n in cgroup ipc mnt net pid uts; do [ $(readlink /proc/1/ns/$n) = $(readlink /proc/self/ns/$n) ] && echo $n; done'`
    Then its output is
      """
      cgroup
      ipc
      mnt
      net
      pid
      uts
      """

  Scenario: Input only on demand
    When I run `echo hello | docker exec simple1 cat`
    Then it prints nothing
    When I run `echo hello | docker exec -i simple1 cat`
    Then its output is "hello"

  Scenario: As another user, with more variables, elsewhere
    When I run `docker exec -u 1000:1000 -e HELLO=world -w /tmp simple1 sh -c 'id -u; pwd; echo $HELLO'`
    Then its output is
      """
      1000
      /tmp
      world
      """

  Scenario: A container that does not run
    Given I ran `docker kill simple1`
    When I run `docker exec simple1 true`
    Then it exits with 1
    And its errors contain "is not running"

  @specrun
  Scenario: The same from a spec
    Given the workshop's spec "13-attaching.yaml"
    And I ran `docker rm -f simple1`
    When I run `specrun apply 13-attaching.yaml`
    Then it succeeds
    When I run `docker exec simple1 cat /proc/1/comm`
    Then its output is "sleep"
    When I run `specrun plan 13-attaching.yaml`
    Then it succeeds
