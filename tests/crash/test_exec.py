"""kill -9 of what makes an `exec`: the command, the fork that joins the container, and the container's monitor."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.host import Host, kill


def _await(condition: Callable[[], object], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def monitor(host: Host) -> int:
    """The monitor of a container `one`."""
    host.ok("run", "-d", "--network", "none", "--name", "one", "busybox", "sleep", "300")
    pid = host.ok("inspect", "-f", "{{.State.Pid}}", "one").strip()
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _forks(monitor: int) -> list[int]:
    """Its children that run our code."""
    words = Path(f"/proc/{monitor}/cmdline").read_bytes()
    children = Path(f"/proc/{monitor}/task/{monitor}/children").read_text().split()
    return [int(child) for child in children if _words(int(child)) == words]


def _words(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _executing(host: Host) -> subprocess.Popen[bytes]:
    process = host.spawn("exec", "one", "sleep", "222")
    _await(lambda: "sleep 222" in host.ok("top", "one"))
    return process


def test_the_command_is_killed(host: Host, monitor: int) -> None:
    kill(_executing(host))
    assert host.ok("exec", "one", "echo", "still there") == "still there\n"
    assert "sleep 222" in host.ok("top", "one")  # as with Docker, whose client may go too
    host.ok("rm", "-f", "one")
    assert host.leftovers() == []


def test_the_fork_that_joined_is_killed(host: Host, monitor: int) -> None:
    process = _executing(host)
    os.kill(_forks(monitor)[0], signal.SIGKILL)
    assert process.wait(15) != 0
    line = next(line for line in host.ok("top", "one").splitlines() if "sleep 222" in line)
    os.kill(int(line.split()[1]), signal.SIGKILL)
    _await(lambda: _forks(monitor) == [] and "sleep 222" not in host.ok("top", "one"))
    host.ok("stop", "-t", "0", "one")  # it would not end with a zombie that nobody has reaped
    host.ok("rm", "one")
    assert host.leftovers() == []


def test_the_monitor_is_killed(host: Host, monitor: int) -> None:
    process = _executing(host)
    os.kill(monitor, signal.SIGKILL)
    host.ok("ps", "-a")
    assert process.wait(15) != 0
    host.ok("rm", "-f", "one")
    assert host.leftovers() == []


def test_a_monitor_that_does_not_answer_is_done_without(host: Host, monitor: int) -> None:
    os.kill(monitor, signal.SIGSTOP)
    assert host.ok("exec", "one", "echo", "done") == "done\n"
    os.kill(monitor, signal.SIGCONT)
    assert host.ok("exec", "one", "echo", "again") == "again\n"
    _await(lambda: _forks(monitor) == [])  # what it was asked for meanwhile is given up


def test_what_cannot_be_executed_leaves_nothing_to_wait_for(host: Host, monitor: int) -> None:
    for _ in range(5):
        assert host.run("exec", "one", "no-such").returncode == 127
    _await(lambda: _forks(monitor) == [])
    host.ok("stop", "-t", "0", "one")
    host.ok("rm", "one")
