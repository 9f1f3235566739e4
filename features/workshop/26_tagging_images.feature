Feature: Tagging images
  The workshop's section "Tagging images": a tag is a name, and can be given to another image.

  Background:
    Given the image "busybox"
    And the workshop's files
    And I ran `docker build -t hello docker/busybox`
    And I ran `docker build -t hello:v7 docker/busybox-v2`

  Scenario: The tag latest moves to another version
    When the workshop says `docker images | grep hello`
    Then its output matches "^hello +v7 +[0-9a-f]{12} "
    And its output matches "^hello +latest +[0-9a-f]{12} "
    When I run `docker run --rm hello /hello.sh`
    Then its output is "hello, world!"
    When the workshop says `docker tag hello:v7 hello:latest`
    Then it succeeds
    When the workshop says `docker images | grep hello`
    Then its output matches "^hello +v7 +([0-9a-f]{12}) "
    When I run `docker run --rm hello /hello.sh`
    Then its output is "hello, world v2!"
    When I run `docker images -q hello | sort -u | wc -l`
    Then its output is "1"

  Scenario: The image that has lost its name is dangling, and goes with a prune
    Given I ran `docker tag hello:v7 hello:latest`
    When I run `docker images -q -f dangling=true | wc -l`
    Then its output is "1"
    When I run `docker image prune -f`
    Then its output contains "Deleted Images:"
    When I run `docker images -q -f dangling=true | wc -l`
    Then its output is "0"

  Scenario: A name with a registry's address is one more name
    When I run `docker tag hello:v7 127.0.0.1:5000/hello:v7`
    Then it succeeds
    When I run `docker images 127.0.0.1:5000/hello`
    Then its output matches "^127.0.0.1:5000/hello +v7 "
    When I run `docker rmi 127.0.0.1:5000/hello:v7`
    Then its output is "Untagged: 127.0.0.1:5000/hello:v7"

  @specrun
  Scenario: The same from a spec
    Given the workshop's spec "26-tagging-images.yaml"
    When I run `specrun apply 26-tagging-images.yaml`
    Then it succeeds
    When I run `docker images -q greeting | sort -u | wc -l`
    Then its output is "1"
    When I run `docker run --rm --network none greeting echo hello`
    Then its output is "hello"
    When I run `docker rmi greeting:latest`
    And I run `specrun plan 26-tagging-images.yaml`
    Then its output contains "tags missing: greeting:latest"

  Scenario: Both names stand for one image
    Given I ran `docker tag hello:v7 hello:latest`
    When I run `docker image inspect -f '{{.Id}}' hello:v7 hello:latest | sort -u | wc -l`
    Then its output is "1"
    When I run `docker run --rm hello /hello.sh`
    Then its output is "hello, world v2!"
