"""A full disk: a clear error, the old state, and all works again when there is room."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from specrun.paths import open_root
from specrun.store.images import ImageStore
from tests.support import leaks
from tests.support.host import Host

NONE = ("--network", "none")


@pytest.fixture
def small(busybox_store: Path) -> Iterator[Host]:
    """A specrun whose state folder is on a small file system."""
    folder = Path(tempfile.mkdtemp(prefix="sr-"))
    store = subprocess.run(["du", "-sm", str(busybox_store)], check=True, capture_output=True, text=True)
    options = f"size={int(store.stdout.split()[0]) + 24}m,mode=700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        host = Host(folder, busybox_store)
        yield host
        marks = leaks.marks_of(host.root)
        host.close()
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        os.rmdir(folder)
    assert leaks.left(marks) == {}


def fill(host: Host) -> Path:
    """Leave no room at all."""
    filler = host.folder / "filler"
    with filler.open("wb") as file:
        try:
            while True:
                os.write(file.fileno(), bytes(4096))
        except OSError:
            pass
    return filler


def test_what_finds_no_room_says_so_and_leaves_the_old_state(small: Host) -> None:
    small.ok("run", "--name", "one", *NONE, "-v", "data:/x", "busybox", "sh", "-c", "echo kept > /x/f; echo kept > /f")
    filler = fill(small)
    before = (small.ok("ps", "-aq", "--no-trunc"), small.ok("volume", "ls", "-q"), small.ok("images", "-q"))
    for words in (
        ("volume", "create", "more"),
        ("run", "--rm", *NONE, "-v", "seeded:/etc", "busybox", "true"),
        ("create", "--name", "two", *NONE, "busybox"),
        ("commit", "one", "image"),
        ("cp", "/etc/passwd", "one:/passwd"),
        ("import", "/etc/passwd", "image"),
    ):
        done = small.run(*words)
        assert done.returncode != 0, words
        assert done.stderr and b"Traceback" not in done.stderr, (words, done.stderr)
        after = (small.ok("ps", "-aq", "--no-trunc"), small.ok("volume", "ls", "-q"), small.ok("images", "-q"))
        assert after == before, words
    assert b"disk is full" in small.run("volume", "create", "more").stderr
    filler.unlink()
    assert ImageStore(open_root(str(small.root))).verify() == []
    small.ok("volume", "create", "more")
    small.ok("cp", "/etc/passwd", "one:/passwd")
    small.ok("commit", "one", "image")
    assert small.ok("run", "--rm", *NONE, "-v", "data:/x", "image", "cat", "/f", "/x/f") == "kept\nkept\n"


def test_readers_do_not_wait_for_writers(small: Host) -> None:
    """Whoever holds every lock there is, listing and inspecting go on."""
    small.ok("create", "--name", "one", *NONE, "-v", "data:/x", "busybox")
    held = [*(small.root / "locks").iterdir(), *small.root.glob("containers/*/change")]
    holder = subprocess.Popen(
        ["bash", "-c", "".join(f"exec {number + 10}<>{path}; flock {number + 10}; " for number, path in enumerate(held))
         + "echo held; read line"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        for words in (
            ("ps", "-a"), ("inspect", "one"), ("images",), ("volume", "ls"), ("volume", "inspect", "data"), ("info",),
            ("system", "df"), ("logs", "one"), ("events", "--since", "1h", "--until", "0s"), ("diff", "one"),
        ):  # fmt: skip
            assert small.run(*words, timeout=20).returncode == 0, words
    finally:
        holder.communicate(b"\n")
