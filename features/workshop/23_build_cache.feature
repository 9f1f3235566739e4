Feature: Build layers and caching
  The workshop's section "Build layers and caching": a step whose inputs are the same is not done again.

  Background:
    Given the image "busybox"
    And the workshop's files

  Scenario: One letter makes a difference
    When the workshop says `ls -l docker/cache/`
    Then its output contains "script.sh"
    Given the workshop says `cd docker/cache`
    When the workshop says `docker build -t hello:v6 .`
    Then its output contains "Step 4/4 : ENTRYPOINT /script.sh"
    When the workshop says `docker run --rm hello:v6`
    Then its output is "hello, hello!"
    Given the workshop says `cp script2.sh script.sh`
    When the workshop says `docker build -t hello:v7 .`
    Then its output matches "^Step 2/4 : ADD file /file\n ---> Using cache$"
    And its output does not contain "script.sh\n ---> Using cache"
    When the workshop says `docker run --rm hello:v7`
    Then its output is "Hello, hello!"

  Scenario: Nothing is done twice, unless it is asked for
    Given I ran `docker build -t hello:v6 docker/cache`
    When I run `docker build -t hello:v6 docker/cache`
    Then its output matches "^Step 3/4 : ADD script.sh /script.sh\n ---> Using cache$"
    When I run `docker build --no-cache=true -t hello:v6 docker/cache`
    Then its output does not contain "Using cache"

  @specrun
  Scenario: The build says why a step was done again
    Given I ran `docker build -t hello:v6 docker/cache`
    And I ran `cp docker/cache/script2.sh docker/cache/script.sh`
    When I run `docker build --explain -t hello:v7 docker/cache`
    Then its output contains "not cached: file script.sh changed"

  Scenario: Layers before the change are the same, the others are not
    Given I ran `docker build -t hello:v6 docker/cache`
    And I ran `cp docker/cache/script2.sh docker/cache/script.sh`
    And I ran `docker build -t hello:v7 docker/cache`
    When I run `docker image inspect -f '{{index .RootFS.Layers 1}}' hello:v6 hello:v7 | sort -u | wc -l`
    Then its output is "1"
    When I run `docker image inspect -f '{{index .RootFS.Layers 2}}' hello:v6 hello:v7 | sort -u | wc -l`
    Then its output is "2"

  @specrun
  Scenario: The same from a spec
    Given the workshop's spec "23-build-cache.yaml"
    When I run `specrun apply 23-build-cache.yaml`
    Then it succeeds
    When I run `specrun plan 23-build-cache.yaml`
    Then it succeeds

  @learner
  Scenario: Your two versions share a layer
    When I run `docker image inspect -f '{{index .RootFS.Layers 1}}' hello:v6 hello:v7 | sort -u | wc -l`
    Then its output is "1"
    And there is an image "hello:v7"
