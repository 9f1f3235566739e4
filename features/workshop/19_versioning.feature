Feature: Versioning
  The workshop's section "Versioning": a tag names a version, and `latest` does not move by itself.

  Background:
    Given the image "busybox"
    And the workshop's files
    And I ran `docker build -t hello docker/busybox`

  Scenario: A second version beside the first
    Given the workshop says `cd docker/busybox-v2`
    When the workshop says `cat Dockerfile`
    Then its output contains "ADD hello.sh /hello.sh"
    When the workshop says `docker build -t hello:v2 .`
    Then its output contains "Successfully tagged hello:v2"
    When the workshop says `docker images`
    Then its output matches "^hello +v2 +[0-9a-f]{12} "
    And its output matches "^hello +latest +[0-9a-f]{12} "
    When the workshop says `docker run --rm hello:v2 /hello.sh`
    Then its output is "hello, world v2!"
    When I run `docker run --rm hello /hello.sh`
    Then its output is "hello, world!"

  Scenario: A new version does not become the latest by itself
    Given I ran `docker build -t hello:v2 docker/busybox-v2`
    When I run `docker run --rm hello /hello.sh`
    Then its output is "hello, world!"
    When I run `docker run --rm hello:v2 /hello.sh`
    Then its output is "hello, world v2!"

  @specrun
  Scenario: The same from a spec
    Given the workshop's spec "19-versioning.yaml"
    When I run `specrun apply 19-versioning.yaml`
    Then its output matches "^hello, world v2!$"
    When I run `docker run --rm hello /hello.sh`
    Then its output is "hello, world!"
    When I run `specrun plan 19-versioning.yaml`
    Then it succeeds
