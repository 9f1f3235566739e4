"""A commit, an import or a copy that is killed: the store stays whole, and no container stays frozen."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from specrun.paths import open_root
from specrun.store.images import ImageStore
from tests.support.host import Host, kill

NONE = ("--network", "none")
BIG = "dd if=/dev/urandom of=/big bs=1M count=40 2>/dev/null; touch /ready; "
BIG += "while :; do echo 1 >> /count; sleep 0.01; done"


def test_a_container_thaws_after_its_commit_was_killed(host: Host, tmp_path: Path) -> None:
    host.ok("run", "-d", "--name", "one", *NONE, "busybox", "sh", "-c", BIG)
    folder = next(Path(host.root, "containers").iterdir())
    for _ in range(200):
        if (folder / "upper" / "ready").exists():
            break
        time.sleep(0.1)
    process = host.spawn("commit", "one", "two")
    for _ in range(400):
        if any(name.startswith("frozen.") for name in os.listdir(host.root / "locks")):
            break
        time.sleep(0.005)
    time.sleep(0.05)
    process.send_signal(signal.SIGSTOP)
    assert any(name.startswith("frozen.") for name in os.listdir(host.root / "locks")), "the commit was too quick"
    kill(process)
    host.ok("ps")
    assert not any(name.startswith("frozen.") for name in os.listdir(host.root / "locks"))
    before = (folder / "upper" / "count").stat().st_size
    time.sleep(0.5)
    assert (folder / "upper" / "count").stat().st_size > before, "it still stands"
    assert ImageStore(open_root(str(host.root))).verify() == []
    assert "two" not in host.ok("images")
    host.ok("rm", "-f", "one")


def test_killed_at_many_moments_the_store_is_whole(host: Host) -> None:
    host.ok(
        "run", "--name", "one", *NONE, "-v", "data:/x", "busybox", "sh", "-c", "dd if=/dev/urandom of=/f bs=1M count=4"
    )
    for number in range(8):
        for words in (("commit", "one", "two"), ("run", "--rm", *NONE, "-v", "/etc", "busybox", "true")):
            process = host.spawn(*words)
            time.sleep(0.02 + number * 0.012)
            kill(process)
    host.ok("ps", "-a")
    assert ImageStore(open_root(str(host.root))).verify() == []
    time.sleep(0.3)
    host.ok("ps", "-a")
    assert host.ok("ps", "-aq", "--no-trunc").split() == [host.ok("inspect", "-f", "{{.Id}}", "one").strip()]
    assert host.ok("volume", "ls", "-q").split() == ["data"]
    host.ok("commit", "one", "two")
    assert host.ok("run", "--rm", *NONE, "two", "stat", "-c", "%s", "/f") == "4194304\n"
