"""`kill -9` while an image is assembled or unpacked: the next command makes it whole."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from specrun.paths import Root
from specrun.store.layers import Draft, sweep
from tests.support.host import COMMAND, Host, kill


def test_a_killed_unpacking_is_repaired(host: Host) -> None:
    chance = random.Random(7)
    for _ in range(15):
        shutil.rmtree(host.root / "layers")
        (host.root / "layers").mkdir(mode=0o700)
        process = host.spawn("run", "--rm", "busybox", "true")
        time.sleep(chance.uniform(0.03, 0.15))
        kill(process)
        assert host.ok("run", "--rm", "busybox", "echo", "whole") == "whole\n"
        assert [path.name for path in Path(host.root, "layers").iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("call", ["rename", "mkdir", "fsync", "symlink"])
def test_a_kill_at_a_durable_step_of_a_start(host: Host, call: str) -> None:
    for number in range(1, 8):
        name = f"n{number}"
        inject = f"inject={call}:signal=KILL:when={number}"
        subprocess.run(
            ["strace", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject, COMMAND, "create", "--name", name,
             "busybox", "true"],
            env=host.environment, capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        host.ok("ps", "-a")
        names = host.ok("ps", "-a", "--format", "{{.Names}}").split()
        assert set(host.leftovers()) <= {f"names/{one}" for one in names} | {
            f"containers/{one}" for one in host.containers()
        }
        if name not in names:
            host.ok("create", "--name", name, "busybox", "true")
        host.ok("rm", name)
    assert host.leftovers() == []


def test_a_sweep_takes_no_draft_from_whoever_makes_it(tmp_path: Path) -> None:
    """However the two meet: a draft is a folder before it is a locked one."""
    root = Root(str(tmp_path), str(tmp_path / "run"), "00000000")
    Path(root.layers).mkdir()

    def make(_: int) -> None:
        with Draft(root) as draft:
            assert Path(draft.fs).is_dir()

    def clear(_: int) -> None:
        sweep(root)

    with ThreadPoolExecutor(6) as pool:
        for work in (pool.map(make, range(800)), pool.map(clear, range(800))):
            list(work)
    assert list(Path(root.layers).iterdir()) == []
