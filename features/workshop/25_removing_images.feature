Feature: Removing images and containers
  The workshop's section "Removing images and containers": an image that a container uses stays, and the container is
  named; then both go.

  Background:
    Given the image "busybox"

  Scenario: First the container, then the image
    Given the workshop's files
    And I ran `docker build -t myubuntu docker/busybox`
    And I ran `docker create --name 292d1e8d5103 myubuntu true`
    When the workshop says `docker rmi myubuntu`
    Then it fails
    And its errors match "conflict: unable to remove repository reference .myubuntu. \(must force\) - container [0-9a-f]{12} is using its referenced image [0-9a-f]{12}"
    When the workshop says `docker ps -a`
    Then its output matches "myubuntu .*292d1e8d5103$"
    When the workshop says `docker rm 292d1e8d5103`
    Then its output is "292d1e8d5103"
    When the workshop says `docker rmi myubuntu`
    Then it succeeds
    And its output contains "Untagged: myubuntu:latest"
    And there is no image "myubuntu"

  Scenario: An image in use stays whole, and nothing keeps it afterwards
    Given I ran `docker tag busybox mine`
    And I ran `docker rmi busybox`
    And I ran `docker create --name user mine echo "still here"`
    When I run `docker rmi mine`
    Then it fails
    And there is an image "mine"
    When I run `docker start -a user`
    Then its output is "still here"
    Given I ran `docker rm user`
    When I run `docker rmi mine`
    Then it succeeds
    And there is no image "mine"

  @specrun
  Scenario: The same from a spec
    Given the workshop's spec "25-removing-images.yaml"
    And I ran `specrun apply --profile myubuntu 25-removing-images.yaml`
    Then the container "user" is running
    When I run `docker rmi myubuntu`
    Then it fails
    When I run `specrun plan --prune 25-removing-images.yaml`
    Then it exits with 2
    And its output contains "2 to change: 0 create, 0 update, 0 replace, 2 delete"
    When I run `specrun apply --prune 25-removing-images.yaml`
    Then it succeeds
    And there is no container "user"
    And there is no image "myubuntu"
    And there is an image "busybox"
    When I run `specrun plan 25-removing-images.yaml`
    Then it succeeds
