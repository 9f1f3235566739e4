Feature: Running the image
  The workshop's section "Running the image": a script needs a shell, which the image `busybox` has.

  Background:
    Given the image "busybox"
    And the workshop's files

  Scenario: An image without a shell cannot run a script
    Given I ran `docker build -t hello docker/scratch`
    When the workshop says `docker run --rm hello /hello.sh`
    Then it fails
    And its errors contain "no such file or directory"

  Scenario: The same on a base that has one
    Given the workshop says `cd docker/busybox`
    When the workshop says `docker build -t hello .`
    Then it succeeds
    And its output matches "^Step 1/2 : FROM busybox$"
    And its output matches "^Successfully built [0-9a-f]{12}$"
    When the workshop says `docker images`
    Then its output matches "^hello +latest +[0-9a-f]{12} +.*ago +[0-9.]+MB$"
    When the workshop says `docker run --rm hello /hello.sh`
    Then its output is "hello, world!"

  @specrun
  Scenario: The same from a spec
    Given the workshop's spec "18-running-the-image.yaml"
    When I run `specrun apply 18-running-the-image.yaml`
    Then its output matches "^hello, world!$"
    When I run `specrun plan 18-running-the-image.yaml`
    Then it succeeds

  @learner
  Scenario: Your image has a base now
    When I run `docker image inspect -f '{{len .RootFS.Layers}}' hello`
    Then its output is "2"
