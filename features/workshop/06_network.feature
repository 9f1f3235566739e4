Feature: Network
  The workshop's section "Network": a container has interfaces of its own, `eth0` on the default network and `lo`.

  Background:
    Given the image "busybox"

  Scenario: The interfaces inside a running container
    When the workshop says `docker run --rm busybox ifconfig`
    Then it succeeds
    And its output matches "^eth0 +Link encap:Ethernet +HWaddr 02:42:"
    And its output matches "^ +inet addr:172\.[0-9.]+ +Bcast:172\.[0-9.]+ +Mask:255\.255\.0\.0$"
    And its output matches "^ +UP BROADCAST RUNNING MULTICAST +MTU:1500 +Metric:1$"
    And its output matches "^lo +Link encap:Local Loopback"
    And its output matches "^ +inet addr:127\.0\.0\.1 +Mask:255\.0\.0\.0$"
    And its output matches "^ +UP LOOPBACK RUNNING +MTU:65536 +Metric:1$"

  @specrun
  Scenario: The first container of the first network has the address that everybody knows
    When I run `docker run --rm busybox ifconfig eth0`
    Then its output contains "HWaddr 02:42:AC:11:00:02"
    And its output contains "inet addr:172.17.0.2  Bcast:172.17.255.255  Mask:255.255.0.0"

  Scenario: Without a network there is only loopback
    When I run `docker run --rm --network none busybox ifconfig -a`
    Then it succeeds
    And its output matches "^lo +Link encap:Local Loopback"
    And its output does not contain "eth0"

  Scenario: The container knows its own name, and the way out
    When I run `docker run --rm --hostname web busybox sh -c 'cat /etc/hosts; ip route'`
    Then it succeeds
    And its output matches "^172\.[0-9.]+\sweb$"
    And its output matches "^default via 172\.[0-9.]+\.1 dev eth0"

  Scenario: Containers of one network find each other by name
    Given I ran `docker network create back`
    And I ran `docker run -d --name db --network back --network-alias database busybox sleep 60`
    When I run `docker run --rm --network back busybox ping -c 1 -W 3 db`
    Then it succeeds
    And its output contains "1 packets received"
    When I run `docker run --rm --network back busybox ping -c 1 -W 3 database`
    Then it succeeds
    When I run `docker network rm back`
    Then it fails
    And its errors contain "has active endpoints"

  @specrun
  Scenario: The same from a spec
    Given the workshop's spec "06-network.yaml"
    When I run `specrun apply 06-network.yaml`
    Then it succeeds
    And its output contains "1 packets received"
    When I run `specrun plan 06-network.yaml`
    Then its output contains "nothing to change"
