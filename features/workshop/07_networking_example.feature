Feature: Networking example
  The workshop's section "Networking example": a web server in a container, on a published port.

  Background:
    Given the image "python:3"

  Scenario: The command as it is, on a host that has Python
    Given Python on the host
    When the workshop says, in the background, `python -m http.server 5000`
    Then eventually within 20s http://localhost:5000 answers with a page that contains "Directory listing"
    When I press Ctrl-C there
    Then it ends within 15 seconds

  Scenario: A server in the foreground answers on the published port until Ctrl-C
    When the workshop says, in the background, `docker run --rm -p 5000:5000 library/python:3 python -m http.server 5000`
    Then eventually within 20s http://localhost:5000 answers with a page that contains "Directory listing"
    When the workshop says `curl http://localhost:5000`
    Then it succeeds
    And its output contains "<!DOCTYPE HTML"
    When I press Ctrl-C there
    Then it ends within 15 seconds
    And nothing answers at http://localhost:5000
    When I run `docker ps -aq`
    Then its output is ""

  Scenario: A port that somebody has is refused, and nothing starts
    Given I ran `docker run -d --name first -p 5000:5000 library/python:3 python -m http.server 5000`
    When I run `docker run --name second -p 5000:5000 library/python:3 python -m http.server 5000`
    Then it exits with 125
    And its errors contain "port is already allocated"
    When I run `docker ps -q`
    Then its output has 1 lines

  Scenario: Where a port is published
    Given I ran `docker run -d --name web -p 5000:5000 -p 127.0.0.1:6000:60/udp library/python:3 python -m http.server 5000`
    When I run `docker port web`
    Then its output contains "5000/tcp -> 0.0.0.0:5000"
    And its output contains "60/udp -> 127.0.0.1:6000"
    When I run `docker port web 5000`
    Then its output contains "0.0.0.0:5000"

  @specrun
  Scenario: The same from a spec, whose ports change without a restart
    Given the workshop's spec "07-networking-example.yaml"
    When I run `specrun apply 07-networking-example.yaml`
    Then it succeeds
    And eventually within 20s http://localhost:5000 answers with a page that contains "Directory listing"
    When I run `docker inspect -f '{{.State.StartedAt}}' web > before; sed -i 's/5000:5000/5001:5000/' 07-networking-example.yaml`
    And I run `specrun apply 07-networking-example.yaml`
    Then it succeeds
    And http://localhost:5001 answers with a page that contains "Directory listing"
    And nothing answers at http://localhost:5000
    When I run `docker inspect -f '{{.State.StartedAt}}' web | diff before -`
    Then it succeeds
