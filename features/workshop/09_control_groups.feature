Feature: Control groups
  The workshop's section "Control groups": how much a container may use is limited, and counted.

  Background:
    Given the image "busybox"

  Scenario: Memory
    When I run `docker run --rm --net none -m 64m busybox cat /sys/fs/cgroup/memory/memory.limit_in_bytes`
    Then its output is "67108864"
    When I run `docker run --rm --net none -m 16m --memory-swap 16m busybox sh -c 'x=a; while :; do x=$x$x; done'`
    Then it exits with 137

  Scenario: Processor time
    When I run `docker run --rm --net none --cpus 0.5 busybox cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us`
    Then its output is "50000"
    When I run `docker run --rm --net none --cpu-shares 512 busybox cat /sys/fs/cgroup/cpu/cpu.shares`
    Then its output is "512"
    When I run `docker run --rm --net none --cpuset-cpus 0 busybox grep Cpus_allowed_list /proc/self/status`
    Then its output matches "^Cpus_allowed_list:\s0$"

  Scenario: The number of processes
    When I run `docker run --rm --net none --pids-limit 20 busybox cat /sys/fs/cgroup/pids/pids.max`
    Then its output is "20"
    When I run `docker run --rm --net none --pids-limit 10 busybox sh -c 'for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1 & done; wait'`
    Then its errors contain "can't fork"

  Scenario: Devices
    When I run `docker run --rm --net none busybox sh -c 'mknod /dev/mem c 1 1 && cat /dev/mem'`
    Then it fails
    And its errors match "not permitted|denied"

  @specrun
  Scenario: The same from a spec
    Given the workshop's spec "09-control-groups.yaml"
    When I run `specrun apply 09-control-groups.yaml`
    Then it succeeds
    And its output contains "67108864"
