Feature: Attaching to containers input
  The workshop's section "Attaching to containers input": a container gets the caller's input only with `-i`.

  Background:
    Given the image "busybox"

  Scenario: Without -i there is no input
    When the workshop says `echo "hello there" | docker run --rm busybox grep hello`
    Then it exits with 1
    And it prints nothing

  Scenario: With -i there is
    When the workshop says `echo "hello there" | docker run --rm -i busybox grep hello`
    Then it succeeds
    And its output is "hello there"

  Scenario: All of it, whatever it is
    Given I ran `head -c 2000000 /dev/urandom > data`
    When I run `docker run --rm -i busybox cat < data | cmp - data && echo the same`
    Then its output is "the same"

  Scenario: The end of the input is passed on
    When I run `printf 'one\ntwo\n' | docker run --rm -i busybox wc -l`
    Then its output is "2"

  @specrun
  Scenario: The same from a spec
    Given the workshop's spec "14-attaching-to-input.yaml"
    When I run `specrun apply 14-attaching-to-input.yaml`
    Then its output matches "^hello there$"
    When I run `specrun check 14-attaching-to-input.yaml`
    Then it succeeds
    When I run `specrun plan 14-attaching-to-input.yaml`
    Then it succeeds
