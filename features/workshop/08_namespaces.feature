Feature: Namespaces
  The workshop's section "Namespaces": each kind gives a container its own view of one thing.

  Background:
    Given the image "busybox"

  Scenario: NET gives a networking stack of its own
    When I run `docker run --rm --net none busybox sh -c 'ls /sys/class/net; cat /proc/net/route | wc -l'`
    Then its output is
      """
      lo
      1
      """
    When I run `docker run --rm --net host busybox readlink /proc/self/ns/net | grep -cxF "$(readlink /proc/self/ns/net)"`
    Then its output is "1"
    When I run `docker run --rm --net none busybox readlink /proc/self/ns/net | grep -cxF "$(readlink /proc/self/ns/net)"`
    Then its output is "0"

  Scenario: PID gives process ids of its own
    When I run `docker run --rm --net none busybox sh -c 'echo $$; ls -d /proc/[0-9]* | wc -l'`
    Then its output matches "^1$"
    And no line of its output matches "^[1-9][0-9]+$"
    When I run `docker run --rm --net none --pid host busybox ps`
    Then its output does not contain "    1 root      ps"

  Scenario: PID can be shared with another container
    Given I ran `docker run -d --net none --name simple1 busybox sleep 4321`
    When I run `docker run --rm --net none --pid container:simple1 busybox ps`
    Then its output contains "sleep 4321"
    When I run `docker run --rm --net none busybox ps`
    Then its output does not contain "sleep 4321"

  Scenario: MNT gives a root file system of its own
    Given a file "seen" with
      """
      the host's
      """
    When I run `docker run --rm --net none busybox sh -c 'echo inside > /only-here; ls /only-here; ls /home'`
    Then its output contains "/only-here"
    And there is no file "/only-here"
    When I run `docker run --rm --net none -v "$PWD:/mapped" busybox cat /mapped/seen`
    Then its output is "the host's"

  Scenario: UTS gives a hostname of its own
    When I run `docker run --rm --net none -h web busybox hostname`
    Then its output is "web"
    When I run `docker run --rm --net none --uts host busybox hostname | grep -cxF "$(hostname)"`
    Then its output is "1"
    When I run `docker run --rm --net none busybox hostname`
    Then its output matches "^[0-9a-f]{12}$"

  Scenario: IPC gives queues and shared memory of its own
    When I run `docker run --rm --net none busybox readlink /proc/self/ns/ipc | grep -cxF "$(readlink /proc/self/ns/ipc)"`
    Then its output is "0"
    When I run `docker run --rm --net none --ipc host busybox readlink /proc/self/ns/ipc | grep -cxF "$(readlink /proc/self/ns/ipc)"`
    Then its output is "1"
    When I run `docker run --rm --net none busybox sh -c 'touch /dev/shm/mine; ls /dev/shm'`
    Then its output is "mine"
    When I run `docker run --rm --net none busybox ls /dev/shm`
    Then it prints nothing

  Scenario: USER lets processes be somebody else
    When I run `docker run --rm --net none --user 1000:1001 busybox sh -c 'id -u; id -g; touch /x || echo refused'`
    Then its output is
      """
      1000
      1001
      refused
      """
    When I run `docker run --rm --net none busybox id -u`
    Then its output is "0"

  @specrun
  Scenario: The same from a spec
    Given the workshop's spec "08-namespaces.yaml"
    When I run `specrun apply 08-namespaces.yaml`
    Then it succeeds
    And its output contains "pid 1, user 1000, host web"
