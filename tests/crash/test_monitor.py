"""A monitor that is killed, or a machine that is restarted: the next command tells the truth and clears up."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.support.host import Host


def _state(host: Host) -> dict[str, int]:
    folder = next(Path(host.root, "containers").iterdir())
    state: dict[str, int] = json.loads((folder / "state.json").read_text())
    return state


def _gone(pid: int) -> bool:
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


def test_the_next_command_ends_a_container_without_a_monitor(host: Host) -> None:
    host.ok("run", "-d", "--name", "one", "busybox", "sleep", "300")
    state = _state(host)
    os.kill(state["monitor_pid"], signal.SIGKILL)
    assert _gone(state["monitor_pid"])
    assert "Exited (137)" in host.ok("ps", "-a")
    assert _gone(state["pid"])
    assert host.ok("wait", "one").strip() == "137"
    host.ok("rm", "one")
    assert host.leftovers() == []


def test_one_that_was_to_be_removed_is_removed(host: Host) -> None:
    host.ok("run", "-d", "--rm", "busybox", "sleep", "300")
    state = _state(host)
    os.kill(state["monitor_pid"], signal.SIGKILL)
    assert _gone(state["monitor_pid"])
    assert host.ok("ps", "-aq") == ""
    assert _gone(state["pid"])
    assert host.leftovers() == []


def test_a_stale_record_never_makes_us_signal_a_stranger(host: Host) -> None:
    host.ok("create", "--name", "one", "busybox", "true")
    folder = next(Path(host.root, "containers").iterdir())
    # As after a restart of the machine: the record says running, and the pid is somebody else's now.
    record = json.loads((folder / "state.json").read_text())
    record.update(status="running", pid=os.getpid(), start_time=1)
    (folder / "state.json").write_text(json.dumps(record))
    assert "Exited (137)" in host.ok("ps", "-a")
    assert host.run("kill", "one").returncode == 1


def test_a_torn_record_of_a_container_is_cleared(host: Host) -> None:
    host.ok("create", "--name", "one", "busybox", "true")
    folder = next(Path(host.root, "containers").iterdir())
    (folder / "state.json").write_bytes(b"")
    assert host.ok("ps", "-aq") == ""
    assert host.leftovers() == []
    host.ok("create", "--name", "one", "busybox", "true")


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


@pytest.mark.parametrize("moment", [0.0, 0.02, 0.04, 0.07])
@pytest.mark.parametrize("victim", ["monitor", "starter"])
def test_one_that_dies_while_it_starts_its_container(host: Host, victim: str, moment: float) -> None:
    """The container is up and is answered for, or it never was; either way it can be removed, and nothing is left."""
    with host.spawn("run", "-d", "--network", "none", "--name", "one", "busybox", "sleep", "300") as command:
        found: list[int] = []
        while not found and command.poll() is None:
            monitors = _children(command.pid)
            found = monitors if victim == "monitor" else [pid for monitor in monitors for pid in _children(monitor)]
        with contextlib.suppress(ProcessLookupError):  # it has done its work already
            handle = os.pidfd_open(found[0])
            time.sleep(moment)
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    time.sleep(0.1)  # what it had begun may have gone on meanwhile
    listed = host.ok("ps", "-a")
    up = host.containers() and _state(host)["status"] == "running"
    assert ("Up" in listed) == bool(up)
    if up:
        assert host.ok("exec", "one", "echo", "here") == "here\n"
    if host.containers():
        host.ok("rm", "-f", "one")
    assert host.leftovers() == []
