Feature: Viewing images
  The workshop's section "Viewing images": what has been built is listed with its name, id, age and size.

  Background:
    Given the workshop's files
    And I ran `docker build -t hello docker/scratch`

  Scenario: The listing has Docker's columns, and the image of 31 bytes
    When the workshop says `docker images`
    Then it succeeds
    And its output matches "^REPOSITORY +TAG +IMAGE ID +CREATED +SIZE$"
    And its output matches "^hello +latest +[0-9a-f]{12} +.*ago +31B$"

  @specrun
  Scenario: The same from a spec
    Given the workshop's spec "17-viewing-images.yaml"
    When I run `specrun apply 17-viewing-images.yaml`
    Then it succeeds
    When I run `specrun check 17-viewing-images.yaml`
    Then it succeeds
    And its output contains "2 hold, 0 do not."
    When I run `specrun plan 17-viewing-images.yaml`
    Then it succeeds
