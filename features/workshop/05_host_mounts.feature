Feature: Adding host mounts
  The workshop's section "Adding host mounts": a container's files are its own, but for what is mounted into it.

  Background:
    Given the image "busybox"

  Scenario: The file system of a container is its own
    When the workshop says `docker run --rm busybox ls -l /home`
    Then it succeeds
    And its output is "total 0"

  Scenario: The current folder appears in the container
    Given a file "README.md" with
      """
      read me
      """
    And an executable file "hello.sh" with
      """
      #!/bin/sh
      """
    When the workshop says `docker run --rm -v $(pwd):/home busybox ls -l /home`
    Then it succeeds
    And its output matches "^-rw-r--r-- +1 .* README.md$"
    And its output matches "^-rwxr-xr-x +1 .* hello.sh$"

  Scenario: What is done in the folder is seen at once, on either side
    When I run `docker run --rm -v $(pwd):/home busybox sh -c 'echo from the container > /home/made'`
    Then it succeeds
    And the file "made" contains "from the container"
    When I run `echo from the host > made; docker run --rm -v $(pwd):/home busybox cat /home/made`
    Then its output is "from the host"

  Scenario: A read-only mount can't be written to
    When I run `docker run --rm -v $(pwd):/home:ro busybox touch /home/made`
    Then it exits with 1
    And its errors contain "Read-only file system"
    And there is no file "made"

  Scenario: A folder that the host lacks is made
    When I run `docker run --rm -v $(pwd)/new:/home busybox sh -c 'echo here > /home/made'`
    Then it succeeds
    And the file "new/made" contains "here"

  Scenario: --mount wants the folder to be there
    When I run `docker run --rm --mount type=bind,source=$(pwd)/new,target=/home busybox true`
    Then it exits with 125
    And its errors contain "bind source path does not exist"

  Scenario: A named volume outlives its containers, and begins with what the image has there
    Given I ran `docker run --rm -v data:/etc busybox sh -c 'echo kept > /etc/kept'`
    When I run `docker run --rm -v data:/home busybox sh -c 'cat /home/kept; ls /home/passwd'`
    Then its output is
      """
      kept
      /home/passwd
      """
    When I run `docker volume ls -q`
    Then its output is "data"
    When I run `docker volume rm data`
    Then it succeeds

  Scenario: A volume that a container uses is not removed
    Given I ran `docker run --name user -v data:/home busybox true`
    When I run `docker volume rm data`
    Then it exits with 1
    And its errors contain "volume is in use"

  Scenario: An anonymous volume goes with --rm
    Given I ran `docker run --rm -v /home busybox touch /home/made`
    When I run `docker volume ls -q`
    Then it prints nothing

  Scenario: A folder in memory is gone with the container
    When I run `docker run --rm --tmpfs /home:size=1m busybox sh -c 'mount | grep -c "tmpfs on /home"; touch /home/made'`
    Then its output is "1"

  Scenario: Files are copied in and out without a mount
    Given I ran `docker create --name box busybox cat /home/note`
    When I run `echo copied > note; docker cp note box:/home/; docker start -a box; docker cp box:/home/note back; cat back`
    Then its output is
      """
      copied
      copied
      """

  @specrun
  Scenario: The same from a spec
    Given the workshop's spec "05-host-mounts.yaml"
    And a file "README.md" with
      """
      read me
      """
    When I run `specrun apply 05-host-mounts.yaml`
    Then it succeeds
    And its output contains "README.md"
    And its output contains "written by the first"
    When I run `specrun plan 05-host-mounts.yaml`
    Then its output contains "nothing to change"
