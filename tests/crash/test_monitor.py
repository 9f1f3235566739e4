"""A monitor that is killed, or a machine that is restarted: the next command tells the truth and clears up."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

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
