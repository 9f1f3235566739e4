"""kill -9 of a monitor that restarts its container, and of commands that change one: the next command mends."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from specrun.engine import mend, record
from specrun.paths import Root
from specrun_runtime import state
from tests.support.host import Host, kill


def _state(host: Host) -> dict[str, int]:
    folder = next(Path(host.root, "containers").iterdir())
    state: dict[str, int] = json.loads((folder / "state.json").read_text())
    return state


def test_a_monitor_that_dies_while_its_container_waits_to_be_started_again(host: Host) -> None:
    host.ok("run", "-d", "--network", "none", "--name", "one", "--restart", "always", "busybox", "false")
    deadline = time.monotonic() + 20
    while _state(host)["status"] != "restarting" and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(_state(host)["monitor_pid"], signal.SIGKILL)
    time.sleep(0.2)
    listed = host.ok("ps", "-a")
    assert "Exited (1)" in listed or "Exited (137)" in listed  # it may have been started meanwhile
    host.ok("rm", "one")
    assert host.leftovers() == []


def test_a_monitor_that_dies_with_a_probe_under_way(host: Host) -> None:
    check = ("--health-cmd", "sleep 100", "--health-interval", "50ms")
    host.ok("run", "-d", "--network", "none", "--name", "one", *check, "busybox", "sleep", "300")
    time.sleep(0.5)
    os.kill(_state(host)["monitor_pid"], signal.SIGKILL)
    time.sleep(0.2)
    assert "Exited (137)" in host.ok("ps", "-a")
    host.ok("rm", "one")
    assert host.leftovers() == []


def test_a_rename_or_update_that_is_killed_leaves_one_name_and_a_record(host: Host) -> None:
    host.ok("create", "--network", "none", "--name", "name0", "busybox", "true")
    for number in range(1, 12):
        process = host.spawn("rename", host.containers()[0], f"name{number}")
        time.sleep(0.01 * number)
        kill(process)
        host.ok("update", "--cpu-shares", str(100 + number), host.containers()[0])
    assert len(host.containers()) == 1
    name = host.ok("ps", "-a", "--format", "{{.Names}}").strip()
    assert host.ok("inspect", "-f", "{{.Name}} {{.HostConfig.CpuShares}}", name) == f"/{name} 111\n"
    host.ok("rm", name)
    host.ok("ps")
    assert host.leftovers() == []


def test_a_name_that_is_claimed_during_a_mend_is_kept(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Root(str(host.root), str(host.folder / "run"), (host.root / "id").read_text())
    listed, made = mend._listing, {}

    def listing(path: str) -> list[str]:
        """The folder as it was before one more container appeared."""
        found = listed(path)
        identity = os.urandom(32).hex()
        os.mkdir(f"{root.containers}/.{identity}")
        made[identity] = state.own(f"{root.containers}/.{identity}")
        record.claim_name(root, f"n{len(made)}", identity)
        return found

    monkeypatch.setattr(mend, "_listing", listing)
    mend.mend(root)
    monkeypatch.undo()
    try:
        assert len(made) > 3
        assert sorted(listed(root.names)) == sorted(f"n{number + 1}" for number in range(len(made)))
    finally:
        for owner in made.values():
            os.close(owner)
    host.ok("ps")
    assert host.leftovers() == []
