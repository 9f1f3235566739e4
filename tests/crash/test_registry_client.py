"""The pushing and the pulling command, killed at random points: what was acknowledged stays, the next one goes on.

`SPECRUN_KILLS` is the number of kills of each (10 in the suite).
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.host import COMMAND, Host, kill
from tests.support.images import spoiled
from tests.support.registries import Line, own_registry

KILLS = int(os.environ.get("SPECRUN_KILLS", "10"))
SIZE = 20 << 20


def large(host: Host, name: str) -> None:
    """Let `name` be an image with a layer that goes in chunks."""
    spoiled(host, name, fill=lambda tree: (tree / "large").write_bytes(os.urandom(SIZE)))


def examined(storage: Path) -> str:
    words = [COMMAND, "registry", "fsck", "--storage", str(storage)]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout


def left(host: Host) -> list[str]:
    """What is kept to be gone on with."""
    found = [path.name for folder in ("pulls", "pushes") for path in (host.root / folder).glob("[!.]*")]
    return [name for name in found if not name.endswith(".draft")]  # of a record that was being written


def killed_or_done(host: Host, seconds: float, *words: str) -> bool:
    """Start a command and kill it at a random moment of so many seconds; whether it was done by then."""
    process = host.spawn(*words)
    try:
        return process.wait(random.uniform(0.02, seconds)) == 0
    except subprocess.TimeoutExpired:
        kill(process)
        return False


@pytest.mark.parametrize("verb", ["push", "pull"])
def test_a_client_that_is_killed_goes_on(host: Host, tmp_path: Path, verb: str) -> None:
    storage = tmp_path / "storage"
    with own_registry(storage) as address:
        line = Line(address, lambda: None)
        acknowledged, kills, took = [], 0, 0.0
        for number in range(KILLS * 2):
            name = f"{line.address}/large:v{number}"
            large(host, name)
            if verb == "pull":
                host.ok("push", name)
                host.ok("rmi", "-f", name)
                line.down = 0
            before = kills
            while took and kills - before < 4:
                began = time.monotonic()
                if killed_or_done(host, took, verb, name):
                    if kills == before:
                        took = time.monotonic() - began  # a whole one, and quicker than the last
                    break
                kills += 1
            began = time.monotonic()
            host.ok(verb, name)
            took = took or time.monotonic() - began  # as long as one takes that nobody kills
            acknowledged.append(name)
            if verb == "pull":
                on_the_wire = (8 << 20) * (kills - before)  # what the kernel had taken for a command that is no more
                assert line.down < 1.05 * SIZE + (4 << 20) + on_the_wire
            else:
                host.ok("rmi", "-f", name)
            if kills >= KILLS:
                break
        assert kills >= KILLS
        for name in acknowledged:
            host.ok("pull", "-q", name)
            assert host.ok("run", "--rm", "--network", "none", name, "stat", "-c", "%s", "/large") == f"{SIZE}\n"
        assert host.ok("image", "verify") == ""
        assert left(host) == []
        line.close()
    assert examined(storage).endswith(" 0 problems\n")


def test_the_next_push_begins_where_the_killed_one_ended(host: Host, tmp_path: Path) -> None:
    with own_registry(tmp_path / "storage") as address:
        line = Line(address, lambda: None)
        name = f"{line.address}/large:v1"
        large(host, name)
        line.hold_at = SIZE // 2
        process = host.spawn("push", name)
        deadline = time.monotonic() + 30
        while line.up < SIZE // 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        kill(process)
        line.go_on.set()
        time.sleep(0.2)
        before = line.up
        host.ok("push", name)
        assert line.up - before < 0.6 * SIZE
        assert left(host) == []
        line.close()


def test_leftovers_are_forgotten_in_time(host: Host, tmp_path: Path) -> None:
    with own_registry(tmp_path / "storage") as address:
        old, young = host.root / "pulls/old", host.root / "pulls/young"
        old.parent.mkdir(mode=0o700)
        for path in (old, young):
            path.write_bytes(b"x")
        os.utime(old, (0, 0))
        host.ok("tag", "busybox", f"{address}/hello:v1")
        host.ok("push", "-q", f"{address}/hello:v1")
        host.ok("pull", "-q", f"{address}/hello:v1")
        assert young.exists() and not old.exists()
