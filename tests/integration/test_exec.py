"""`exec`, `attach` and terminals, on a real pseudoterminal where one is needed."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.host import COMMAND, Host


class Screen:
    """A command on a terminal of 24 x 80."""

    def __init__(self, host: Host, *words: str) -> None:
        self.master, other = pty.openpty()
        self.shown = ""
        self.process = subprocess.Popen(
            [
                "setsid",
                "--ctty",
                "--wait",
                "sh",
                "-c",
                'stty rows 24 cols 80; "$@"; s=$?; stty -a; exit $s',
                "sh",
                COMMAND,
            ]
            + list(words),
            stdin=other,
            stdout=other,
            stderr=other,
            env=host.environment,
        )
        os.close(other)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def awaits(self, text: str, seconds: float = 15) -> bool:
        deadline = time.monotonic() + seconds
        while text not in self.shown and time.monotonic() < deadline:
            ready, _, _ = select.select([self.master], [], [], 0.1)
            if ready:
                try:
                    self.shown += os.read(self.master, 65536).decode("utf-8", "replace")
                except OSError:
                    break
        return text in self.shown

    def end(self) -> int:
        """The exit status; the terminal must be as it was."""
        assert self.awaits(" -echoprt", 15), self.shown  # the last line of stty -a
        status = self.process.wait(15)
        assert not {"-icanon", "-echo", "-opost", "-isig"} & set(self.shown.split()), self.shown
        os.close(self.master)
        return status


@contextmanager
def running(host: Host, *options: str, script: str = "while :; do sleep 0.1; done") -> Iterator[str]:
    host.ok("run", "-d", "--name", "one", "--network", "none", *options, "busybox", "sh", "-c", script)
    yield "one"


def test_streams_and_the_exit_status(host: Host) -> None:
    with running(host):
        done = host.run("exec", "one", "sh", "-c", "echo out; echo err >&2; exit 7")
        assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"err\n")
        assert host.run("exec", "one", "cat").stdout == b""
        data = os.urandom(3 << 20)
        assert host.run("exec", "-i", "one", "cat", input=data).stdout == data
        assert host.run("exec", "one", "sh", "-c", "kill -9 $$").returncode == 137


def test_what_cannot_be_executed(host: Host) -> None:
    with running(host):
        assert host.run("exec", "one", "no-such").returncode == 127
        assert host.run("exec", "one", "/etc/passwd").returncode == 126
        assert host.run("exec", "-u", "nobody-at-all", "one", "true").returncode != 0
    host.ok("kill", "one")
    host.ok("wait", "one")
    done = host.run("exec", "one", "true")
    assert done.returncode == 1 and b"is not running" in done.stderr
    assert host.run("exec", "nosuch", "true").returncode == 1


def test_who_it_is_and_where(host: Host) -> None:
    with running(host, "-e", "FROM=container", "-w", "/etc"):
        assert host.ok("exec", "one", "sh", "-c", "pwd; echo $FROM; id -u") == "/etc\ncontainer\n0\n"
        line = host.ok(
            "exec", "-e", "FROM=exec", "-w", "/tmp", "-u", "5:6", "one", "sh", "-c", "pwd; echo $FROM; id -u; id -g"
        )
        assert line == "/tmp\nexec\n5\n6\n"


def status_of(text: str) -> dict[str, str]:
    wanted = ("Cap", "NoNewPrivs", "Seccomp", "SigBlk", "SigIgn")
    return dict(line.split(":\t") for line in text.splitlines() if line.startswith(wanted))


def test_it_has_the_rights_and_limits_of_the_container(host: Host) -> None:
    with running(host, script="cat /proc/self/status > /first; while :; do sleep 0.1; done"):
        mine = host.ok("exec", "one", "cat", "/proc/self/status")
        assert status_of(mine) == status_of(host.ok("exec", "one", "cat", "/first"))
        assert status_of(mine)["Seccomp"] == "2"
        namespaces = "for n in cgroup ipc mnt net pid uts time; do readlink /proc/{}/ns/$n; done"
        both = [host.ok("exec", "one", "sh", "-c", namespaces.format(pid)) for pid in ("self", "1")]
        assert both[0] == both[1]
        groups = host.ok("exec", "one", "sh", "-c", "cat /proc/self/cgroup; ls /proc/self/fd | wc -l")
        assert all(line.endswith(":/") for line in groups.splitlines()[:-1])
        assert groups.splitlines()[-1] == "4"  # 0, 1, 2, and the folder that ls reads
        rights = status_of(host.ok("exec", "--privileged", "one", "cat", "/proc/self/status"))["CapEff"]
        assert int(rights, 16) > int(status_of(mine)["CapEff"], 16)


def test_detached(host: Host) -> None:
    with running(host):
        assert host.ok("exec", "-d", "one", "sh", "-c", "echo seen > /done") == ""
        assert host.ok("exec", "-d", "-t", "one", "sh", "-c", "tty > /tty; sleep 0.5; tty >> /tty") == ""
        time.sleep(1.5)
        assert host.ok("exec", "one", "cat", "/done") == "seen\n"
        assert host.ok("exec", "one", "cat", "/tty").splitlines() == ["/dev/pts/0"] * 2


def test_it_ends_with_its_container(host: Host) -> None:
    with running(host):
        process = host.spawn("exec", "one", "sleep", "300")
        time.sleep(0.5)
        host.ok("rm", "-f", "one")
        assert process.wait(10) == 137


def test_run_in_a_terminal(host: Host) -> None:
    screen = Screen(host, "run", "--rm", "-ti", "--network", "none", "busybox", "sh")
    assert screen.awaits("/ # "), screen.shown
    screen.type("stty size; tty; echo $TERM; readlink /dev/console || echo no link\n")
    assert screen.awaits("24 80") and screen.awaits("/dev/pts/0") and screen.awaits("xterm"), screen.shown
    screen.type("sleep 100\n")
    time.sleep(0.3)
    screen.type("\x03")  # ctrl-c goes to the container's own foreground process
    screen.type("echo still $((40 + 2)) here; exit 5\n")
    assert screen.awaits("still 42 here"), screen.shown
    assert screen.end() == 5
    assert host.containers() == []


def test_start_in_a_terminal(host: Host) -> None:
    host.ok("create", "-ti", "--name", "one", "--network", "none", "busybox", "sh")
    screen = Screen(host, "start", "-ai", "--detach-keys", "ctrl-x", "one")
    assert screen.awaits("/ # "), screen.shown
    screen.type("stty size; echo is $((40 + 2))\n")
    assert screen.awaits("24 80") and screen.awaits("is 42"), screen.shown
    screen.type("\x18")
    assert screen.end() == 0
    again = Screen(host, "start", "-ai", "one")  # which runs still
    again.type("exit 5\n")
    assert again.end() == 5
    assert host.ok("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "one") == "exited 5\n"


def test_start_without_a_terminal(host: Host) -> None:
    host.ok("create", "-i", "--name", "one", "--network", "none", "busybox", "cat")
    assert host.run("start", "-ai", "one", input=b"hello\n").stdout == b"hello\n"
    host.ok("create", "-ti", "--name", "two", "--network", "none", "busybox", "cat")
    done = host.run("start", "-ai", "two")
    assert (done.returncode, b"the input device is not a TTY" in done.stderr) == (1, True)
    assert host.ok("inspect", "-f", "{{.State.Status}}", "two") == "created\n"


def test_exec_in_a_terminal(host: Host) -> None:
    with running(host):
        screen = Screen(host, "exec", "-ti", "one", "/bin/sh")
        assert screen.awaits("/ # ")
        screen.type("ps | grep -c sh; tty; exit 3\n")
        assert screen.awaits("/dev/pts/0"), screen.shown
        assert screen.end() == 3


def test_the_window_grows(host: Host) -> None:
    import fcntl
    import struct
    import termios

    screen = Screen(host, "run", "--rm", "-ti", "--network", "none", "busybox", "sh")
    assert screen.awaits("/ # ")
    fcntl.ioctl(screen.master, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 132, 0, 0))
    time.sleep(0.5)
    screen.type("stty size; exit\n")
    assert screen.awaits("50 132"), screen.shown
    assert screen.end() == 0


def test_leaving_and_coming_back(host: Host) -> None:
    screen = Screen(host, "run", "-ti", "--name", "one", "--network", "none", "busybox", "sh")
    assert screen.awaits("/ # ")
    screen.type("X=kept\n")
    time.sleep(0.3)
    screen.type("\x10\x11")
    assert screen.end() == 0
    assert "Up" in host.ok("ps")
    again = Screen(host, "attach", "one")
    time.sleep(0.5)
    again.type("echo $X; exit 6\n")
    assert again.awaits("kept"), again.shown
    assert again.end() == 6
    assert "Exited (6)" in host.ok("ps", "-a")


def test_a_terminal_is_restored_when_the_command_is_ended(host: Host) -> None:
    screen = Screen(host, "run", "-ti", "--name", "one", "--network", "none", "busybox", "sh")
    assert screen.awaits("/ # ")
    # setsid has become the shell, whose child is the command.
    children = ["pgrep", "-P", str(screen.process.pid)]
    (command,) = subprocess.run(children, capture_output=True, text=True, check=True).stdout.split()
    os.kill(int(command), signal.SIGTERM)
    assert screen.end() == 143
    host.ok("rm", "-f", "one")


def test_without_a_terminal_it_is_refused(host: Host) -> None:
    done = host.run("run", "-ti", "--rm", "busybox", "true")
    assert done.returncode == 1 and b"the input device is not a TTY" in done.stderr
    assert host.run("run", "--rm", "-t", "--network", "none", "busybox", "echo", "hi").stdout == b"hi\r\n"
    assert host.run("run", "--rm", "--detach-keys", "what", "busybox", "true").returncode == 125


def test_attach_to_streams(host: Host) -> None:
    script = "while ! [ -e /go ]; do sleep 0.05; done; echo out; echo err >&2; exit 4"
    with running(host, script=script):
        process = subprocess.Popen(
            [COMMAND, "attach", "one"], env=host.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        time.sleep(0.7)
        host.ok("exec", "one", "touch", "/go")
        out, err = process.communicate(timeout=15)
        assert (process.returncode, out, err) == (4, b"out\n", b"err\n")
        assert b"stopped container" in host.run("attach", "one").stderr
    assert host.ok("logs", "one") == "out\n"


def test_attach_gives_input_to_a_container_that_waits_for_it(host: Host) -> None:
    host.ok("create", "-i", "--name", "one", "--network", "none", "busybox", "cat")
    host.ok("start", "one")
    time.sleep(0.3)
    assert "Up" in host.ok("ps")
    done = host.run("attach", "one", input=b"a line\n")
    assert (done.returncode, done.stdout) == (0, b"a line\n")


@pytest.mark.parametrize("count", [2])
def test_several_watch_at_once(host: Host, count: int) -> None:
    with running(host, script="while ! [ -e /go ]; do sleep 0.05; done; seq 1 2000"):
        watchers = [
            subprocess.Popen([COMMAND, "attach", "--no-stdin", "one"], env=host.environment, stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE)
            for _ in range(count)
        ]  # fmt: skip
        time.sleep(0.7)
        host.ok("exec", "one", "touch", "/go")
        wanted = "".join(f"{number}\n" for number in range(1, 2001)).encode()
        assert [watcher.communicate(timeout=15)[0] for watcher in watchers] == [wanted] * count
        watchers_status = {watcher.returncode for watcher in watchers}
        assert watchers_status == {0}


def test_a_container_that_ends_meanwhile_is_told_from_a_failure(host: Host) -> None:
    for _ in range(4):
        host.ok("run", "-d", "--network", "none", "--name", "one", "busybox", "sleep", "0.4")
        while not (done := host.run("exec", "one", "true")).returncode:
            continue
        # Or the command was there already, and was killed with the container.
        assert (done.returncode == 1 and b"is not running" in done.stderr) or done.returncode == 137, done.stderr
        host.ok("rm", "-f", "one")
