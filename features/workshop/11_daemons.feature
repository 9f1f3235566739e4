Feature: Daemons
  The workshop's section "Daemons": a server that outlives the shell that started it.

  Background:
    Given the image "python:3"

  Scenario: A server in the background answers, and is listed with its port
    When the workshop says `docker run --rm -d -p 5000:5000 --name=simple1 library/python:3 python -m http.server 5000`
    Then it succeeds
    And its output matches "^[0-9a-f]{64}$"
    And eventually within 20s http://localhost:5000 answers with a page that contains "Directory listing"
    When the workshop says `curl http://localhost:5000`
    Then its output contains "<!DOCTYPE HTML"
    When the workshop says `docker ps`
    Then its output matches "(library/)?python:3 +.python -m http.serv.* +Up .*0\.0\.0\.0:5000->5000/tcp.* +simple1$"

  Scenario: Nothing of it stays when it is stopped
    Given I ran `docker run --rm -d -p 5000:5000 --name=simple1 library/python:3 python -m http.server 5000`
    When I run `docker stop -t 1 simple1`
    Then it succeeds
    And nothing answers at http://localhost:5000
    And eventually within 5s there is no container "simple1"

  @specrun
  Scenario: The same from a spec
    Given the workshop's spec "11-daemons.yaml"
    When I run `specrun apply 11-daemons.yaml`
    Then it succeeds
    And eventually within 20s http://localhost:5000 answers with a page that contains "Directory listing"
    When I run `docker ps`
    Then its output matches "0\.0\.0\.0:5000->5000/tcp.* +simple1$"

  @learner
  Scenario: Your server answers
    Then the container "simple1" is running
    And http://localhost:5000 answers with 200
