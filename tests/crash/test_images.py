"""`kill -9`, a full disk and bit rot while images are stored: the next command has whole images or none."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.host import COMMAND, Host, kill

NONE = ("--network", "none")


@pytest.fixture
def archive(host: Host, tmp_path: Path) -> Path:
    """`busybox` as a file; the host has it no more."""
    path = tmp_path / "busybox.tar"
    host.ok("save", "-o", str(path), "busybox")
    host.ok("rmi", "busybox")
    return path


def drafts(host: Host) -> list[str]:
    """What an interrupted command has left."""
    folders = (host.root / "layers", host.root / "oci/blobs/sha256", host.root / "oci")
    return [name for folder in folders for name in os.listdir(folder) if name.startswith(".") or "draft" in name]


@pytest.mark.parametrize("call", ["rename", "fsync", "mkdir"])
def test_a_kill_at_each_durable_step_of_load(host: Host, archive: Path, call: str) -> None:
    for number in range(1, 9):
        inject = f"inject={call}:signal=KILL:when={number}"
        done = subprocess.run(
            ["strace", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject, COMMAND, "load", "-i", str(archive)],
            env=host.environment, capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert host.ok("image", "verify") == ""
        if done.returncode == 0:
            break  # there are no more such steps
        for image in host.ok("images", "-aq").split():
            host.ok("run", "--rm", *NONE, image, "true")
        assert host.ok("load", "-i", str(archive)) == "Loaded image: busybox:latest\n"
        assert host.ok("run", "--rm", *NONE, "busybox", "echo", "whole") == "whole\n"
        host.ok("rmi", "busybox")
        assert drafts(host) == []
        assert os.listdir(host.root / "oci/blobs/sha256") == []


@pytest.mark.parametrize("call", ["rename", "fsync", "unlink", "rmdir"])
def test_a_kill_at_each_durable_step_of_rmi(host: Host, archive: Path, call: str) -> None:
    """The image has its name still, or it is gone: never an image that one must find by its id."""
    for number in range(1, 9):
        host.ok("load", "-i", str(archive))
        inject = f"inject={call}:signal=KILL:when={number}"
        done = subprocess.run(
            ["strace", "-f", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject, COMMAND, "rmi", "busybox"],
            env=host.environment, capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert host.ok("image", "verify") == ""
        assert host.ok("images", "-a", "--format", "{{.Repository}}") in ("busybox\n", "")
        if done.returncode == 0:
            break  # there are no more such steps
    host.run("rmi", "busybox")
    host.ok("image", "prune", "-f")
    assert os.listdir(host.root / "layers") == []
    assert os.listdir(host.root / "oci/blobs/sha256") == []


def test_a_kill_at_any_time_of_rmi(host: Host, archive: Path) -> None:
    chance = random.Random(11)
    for _ in range(8):
        host.ok("load", "-i", str(archive))
        process = host.spawn("rmi", "busybox")
        time.sleep(chance.uniform(0.02, 0.12))
        kill(process)
        assert host.ok("image", "verify") == ""
        if host.ok("images", "-q"):
            assert host.ok("run", "--rm", *NONE, "busybox", "echo", "whole") == "whole\n"
    host.run("rmi", "busybox")
    host.ok("image", "prune", "-f")
    assert os.listdir(host.root / "layers") == []
    assert os.listdir(host.root / "oci/blobs/sha256") == []


def test_power_is_lost_after_a_layer_was_unpacked(host: Host, archive: Path) -> None:
    """The disk may have anything of the unpacked files: in the next boot they are made from the blob, for good."""
    host.ok("load", "-i", str(archive))
    (layer,) = (host.root / "layers").iterdir()
    record = layer / "committed"
    words = record.read_text().split()
    assert words[3] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert host.ok("run", "--rm", *NONE, "busybox", "echo", "this boot") == "this boot\n"
    assert record.read_text().split() == words  # relied on, and not made again
    program = layer / "fs/bin/busybox"
    os.truncate(program, 0)  # the file without its content, as journalling file systems leave it
    record.write_text(" ".join([*words[:3], "5c1a4f32-0d3e-4d07-9d5c-5f3f5a1d9f10"]) + "\n")
    assert host.ok("run", "--rm", *NONE, "busybox", "echo", "whole") == "whole\n"
    assert program.stat().st_size > 0
    assert record.read_text().split() == words[:3]  # on the disk: no later boot makes it again
    assert drafts(host) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of six megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m,mode=700", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_said_and_leaves_nothing(host: Host, archive: Path, small_disk: Path) -> None:
    environment = {**host.environment, "SPECRUN_ROOT": str(small_disk / "root")}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([COMMAND, *words], env=environment, capture_output=True, text=True, check=False)

    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(3 << 20))
    done = run("load", "-i", str(archive))
    assert done.returncode == 1
    assert "No space left on device" in done.stderr or "are free on the disk" in done.stderr
    assert "internal error" not in done.stderr
    assert run("images", "-aq").stdout == ""
    ballast.unlink()
    assert run("load", "-i", str(archive)).stdout == "Loaded image: busybox:latest\n"
    assert run("image", "verify").returncode == 0


def test_loads_runs_and_removals_at_once_lose_nothing(host: Host, archive: Path) -> None:
    script = f"for n in 1 2 3 4 5; do {COMMAND} load -qi {archive} >/dev/null || exit 1; done"
    loads = [subprocess.Popen(["sh", "-c", script], env=host.environment) for _ in range(2)]
    loop = f"while :; do {COMMAND} rmi busybox; {COMMAND} image prune -f; done >/dev/null 2>&1"
    remover = subprocess.Popen(["exec sh -c '" + loop + "'"], shell=True, env=host.environment)
    try:
        assert [process.wait(120) for process in loads] == [0, 0]
    finally:
        remover.kill()
        remover.wait()
    host.ok("load", "-i", str(archive))
    assert host.ok("image", "verify") == ""
    assert host.ok("run", "--rm", *NONE, "busybox", "echo", "whole") == "whole\n"
