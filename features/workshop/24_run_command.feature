@internet
Feature: RUN command
  The workshop's section "RUN command": packages are installed by commands of the build. The image is Debian's, and
  with the file's shell form of ENTRYPOINT the arguments of `run` do not reach curl, as with Docker.

  Background:
    Given the image "debian:bookworm-slim"
    And the workshop's files

  Scenario: An image with curl
    Given the workshop says `cd docker/ubuntu`
    When the workshop says `docker build -t myubuntu .`
    Then it succeeds
    And its output matches "^Step 3/4 : RUN apt-get install -y curl$"
    And its output contains "Setting up curl"
    When the workshop says `docker run myubuntu https://google.com`
    Then it exits with 2
    And its errors contain "curl --help"
    When I run `docker run --rm --entrypoint curl myubuntu --version`
    Then its output matches "^curl [0-9.]+"
    When the workshop says `docker images`
    Then its output matches "^myubuntu +latest +[0-9a-f]{12} +.*ago +[0-9.]+MB$"

  @specrun
  Scenario: The same from a spec
    Given the workshop's spec "24-run-command.yaml"
    When I run `specrun apply 24-run-command.yaml`
    Then it succeeds
    When I run `docker run --rm --network none --entrypoint curl myubuntu --version`
    Then its output matches "^curl [0-9.]+"
    When I run `specrun plan 24-run-command.yaml`
    Then it succeeds

  @learner
  Scenario: You have built an image with a package more
    Then there is an image "myubuntu"
