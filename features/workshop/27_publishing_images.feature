Feature: Publishing images
  The workshop's section "Publishing images": a registry of one's own, push and pull.

  Background:
    Given the image "busybox"
    And I ran `docker tag busybox hello:v7`

  Scenario: By way of a registry in a container
    Given the image "registry:2"
    And the workshop says `docker run --rm -p 5000:5000 --name registry -d registry:2`
    Then eventually within 30s http://127.0.0.1:5000/v2/ answers with 200
    Given the workshop says `docker tag hello:v7 127.0.0.1:5000/hello:v7`
    When the workshop says `docker push 127.0.0.1:5000/hello:v7`
    Then it succeeds
    And its output contains "The push refers to repository [127.0.0.1:5000/hello]"
    And its output matches "^v7: digest: sha256:[0-9a-f]{64} size: \d+$"
    When the workshop says `docker pull 127.0.0.1:5000/hello:v7`
    Then it succeeds
    And its output contains "v7: Pulling from hello"
    And its output matches "^Digest: sha256:[0-9a-f]{64}$"
    And its output contains "Status: Image is up to date for 127.0.0.1:5000/hello:v7"
    Given I ran `docker rmi 127.0.0.1:5000/hello:v7 hello:v7`
    When I run `docker pull 127.0.0.1:5000/hello:v7`
    Then it succeeds
    When I run `docker run --rm 127.0.0.1:5000/hello:v7 echo "hello world"`
    Then its output is "hello world"

  @specrun
  Scenario: By way of a registry without a container
    Given I started `specrun registry serve` in the background
    Then eventually within 30s http://127.0.0.1:5000/v2/ answers with 200
    Given I ran `docker tag hello:v7 127.0.0.1:5000/hello:v7`
    When I run `docker push 127.0.0.1:5000/hello:v7`
    Then it succeeds
    And its output matches "^v7: digest: sha256:[0-9a-f]{64} size: \d+$"
    Given I ran `docker rmi 127.0.0.1:5000/hello:v7`
    When I run `docker pull 127.0.0.1:5000/hello:v7`
    Then its output contains "Status: Downloaded newer image for 127.0.0.1:5000/hello:v7"
    When I press Ctrl-C there
    Then it ends within 30 seconds

  Scenario: A registry that is not there
    Given I ran `docker tag hello:v7 127.0.0.1:5999/hello:v7`
    When I run `docker push 127.0.0.1:5999/hello:v7`
    Then it exits with 1
    And its errors match "refused|reached"

  @specrun
  Scenario: The same from a spec
    Given the image "registry:2"
    And the workshop's spec "27-publishing-images.yaml"
    When I run `specrun apply 27-publishing-images.yaml`
    Then it succeeds
    When I run `specrun plan 27-publishing-images.yaml`
    Then it succeeds
    When I run `docker pull 127.0.0.1:5000/hello:v7`
    Then its output contains "v7: Pulling from hello"
