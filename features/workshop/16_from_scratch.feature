Feature: Starting from scratch
  The workshop's section "Starting from scratch": a Dockerfile of two instructions, and an image of one file.

  Background:
    Given the workshop's files

  Scenario: The first image is built
    Given the workshop says `cd docker/scratch`
    When the workshop says `cat hello.sh`
    Then its output contains "hello, world!"
    When the workshop says `docker build -t hello .`
    Then it succeeds
    And its output matches "^Step 1/2 : FROM scratch$"
    And its output matches "^ ---> ?$"
    And its output matches "^Step 2/2 : ADD hello.sh /hello.sh$"
    And its output matches "^ ---> [0-9a-f]{12}$"
    And its output matches "^Successfully built [0-9a-f]{12}$"
    And its output contains "Successfully tagged hello:latest"

  Scenario: The image holds the script and nothing else
    Given I ran `cd docker/scratch`
    And I ran `docker build -t hello .`
    When I run `docker images hello --format "{{.Size}}"`
    Then its output is "31B"
    When I run `docker run --rm hello /hello.sh`
    Then it fails
    And its errors contain "no such file or directory"

  @specrun
  Scenario: The same from a spec
    Given the workshop's spec "16-from-scratch.yaml"
    When I run `specrun apply 16-from-scratch.yaml`
    Then it succeeds
    When I run `docker images hello --format "{{.Size}}"`
    Then its output is "31B"
    When I run `specrun plan 16-from-scratch.yaml`
    Then it succeeds

  @learner
  Scenario: You have built an image
    Then there is an image "hello"
