Feature: Hello, world
  The workshop's section "Hello, world": a container is as simple as a process. In every scenario `docker` is the
  engine under test, and the command lines are the workshop's own.

  Background:
    Given the image "busybox"

  Scenario: The classic
    When the workshop says `docker run busybox echo "hello world"`
    Then it succeeds
    And its output is "hello world"

  Scenario: The command's words reach the container unchanged
    When I run `docker run busybox echo "hello   world" '$HOME' '*'`
    Then it succeeds
    And its output is "hello   world $HOME *"

  Scenario: Binaries are the image's, the kernel is the host's
    When I run `docker run --rm busybox sh -c 'uname -r; busybox | head -n 1'`
    Then it succeeds
    And its output contains the host's kernel release
    And its output contains "BusyBox v"

  Scenario Outline: The exit status is the command's
    When I run `docker run --rm busybox sh -c 'exit <status>'`
    Then it exits with <status>

    Examples:
      | status |
      | 0      |
      | 1      |
      | 42     |
      | 255    |

  Scenario: A command that the image does not have
    When I run `docker run --rm busybox no-such-command`
    Then it exits with 127
    And its errors contain "executable file not found in $PATH"

  @specrun
  Scenario: The same from a spec
    Given the workshop's spec "01-hello-world.yaml"
    When I run `specrun apply 01-hello-world.yaml`
    Then its output matches "^hello world$"
    When I run `specrun plan 01-hello-world.yaml`
    Then it succeeds
