Feature: Capabilities
  The workshop's section "Capabilities": even root may not do everything.

  Background:
    Given the image "busybox"

  Scenario: Without NET_ADMIN nobody manages network interfaces
    When I run `docker run --rm --net none busybox ip link set lo down`
    Then it fails
    And its errors contain "Operation not permitted"
    When I run `docker run --rm --net none --cap-add NET_ADMIN busybox ip link set lo down`
    Then it succeeds

  Scenario: Without NET_ADMIN nobody changes routes
    When I run `docker run --rm --net none busybox ip route add 10.99.0.0/16 dev lo`
    Then it fails
    When I run `docker run --rm --net none --cap-add NET_ADMIN busybox sh -c 'ip route add 10.99.0.0/16 dev lo && ip route'`
    Then its output contains "10.99.0.0/16 dev lo"

  Scenario: What is dropped is gone, also for root
    When I run `docker run --rm --net none busybox chown 1 /tmp`
    Then it succeeds
    When I run `docker run --rm --net none --cap-drop CHOWN busybox chown 1 /tmp`
    Then it fails
    And its errors contain "Operation not permitted"

  Scenario: All of them
    When I run `docker run --rm --net none busybox grep CapEff /proc/self/status`
    Then its output matches "^CapEff:\s00000000a80425fb$"
    When I run `docker run --rm --net none --cap-drop ALL busybox grep CapEff /proc/self/status`
    Then its output matches "^CapEff:\s0000000000000000$"
    When I run `docker run --rm --net none --cap-drop ALL --cap-add KILL busybox grep CapEff /proc/self/status`
    Then its output matches "^CapEff:\s0000000000000020$"

  Scenario: A name that is none
    When I run `docker run --rm --net none --cap-add MOON busybox true`
    Then it exits with 125
    And its errors contain "CAP_MOON"

  @specrun
  Scenario: The same from a spec
    Given the workshop's spec "10-capabilities.yaml"
    When I run `specrun apply 10-capabilities.yaml`
    Then it succeeds
    And its output matches "CapEff:\s0000000000001000"
