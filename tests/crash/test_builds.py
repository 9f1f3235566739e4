"""Builds that end in the middle: killed, on a full disk, with files that vanish. The next one works, and reuses."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from specrun.build.running import mend
from specrun.files import locked
from specrun.paths import Root
from tests.support import leaks
from tests.support.host import COMMAND, Host, kill
from tests.support.oci import until

TEXT = "FROM busybox\nCOPY files /files\nRUN echo one > /one\nRUN echo two > /two; sleep 0.1\nCOPY files /again\n"


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    (folder / "files").mkdir(parents=True)
    for number in range(300):
        (folder / "files" / str(number)).write_text(f"{number}\n")
    (folder / "Dockerfile").write_text(TEXT)
    return folder


def test_a_killed_build_is_finished_by_the_next(host: Host, context: Path) -> None:
    chance = random.Random(11)
    for _ in range(8):
        process = host.spawn("build", "-t", "image", str(context))
        time.sleep(chance.uniform(0.05, 0.8))
        kill(process)
    output = host.ok("build", "-t", "image", str(context))
    assert "Successfully tagged image:latest" in output
    assert (
        host.ok("run", "--rm", "--network", "none", "image", "sh", "-c", "cat /one /two; ls /again | wc -l")
        == "one\ntwo\n300\n"
    )
    assert os.listdir(host.root / "build" / "work") == []
    assert host.containers() == []
    assert [name for name in os.listdir(host.root / "layers") if name.startswith(".")] == []


def in_step(host: Host, context: Path, number: int) -> subprocess.Popen[bytes]:
    """A build that has begun this step."""
    words = ("build", "--network=none", "-t", "image", str(context))
    process = host.spawn(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(b"Step %d/" % number):
            return process
    raise AssertionError(f"step {number} was not begun")


RANDOM = "FROM busybox\nRUN head -c 8 /dev/urandom | md5sum > /one\nCOPY files /files\n"


def made_before(host: Host) -> str:
    """What RUN has made, with another result each time, as the layer has it that was kept."""
    (found,) = (host.root / "layers").glob("*/fs/one")
    return found.read_text()


def test_a_kill_in_a_step_costs_that_step_only(host: Host, context: Path) -> None:
    (context / "Dockerfile").write_text(f"{RANDOM}RUN sleep 100\n")
    with in_step(host, context, 4) as process:
        kill(process)
    one = made_before(host)
    (context / "Dockerfile").write_text(f"{RANDOM}RUN true\n")
    assert host.ok("build", "--network=none", "-t", "image", str(context)).count("Using cache") == 2
    assert host.ok("run", "--rm", "--network", "none", "image", "cat", "/one") == one
    assert os.listdir(host.root / "build" / "work") == [] and host.containers() == []


def test_a_file_that_vanishes_before_its_step_costs_that_step_only(host: Host, context: Path) -> None:
    (context / "Dockerfile").write_text(f"{RANDOM}RUN sleep 1\nCOPY files/7 /seven\n")
    process = in_step(host, context, 4)
    os.unlink(context / "files/7")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1 and b"Dockerfile:5" in said and b"files/7" in said, said
    one = made_before(host)
    (context / "files/7").write_text("7\n")
    assert host.ok("build", "--network=none", "-t", "image", str(context)).count("Using cache") == 3
    assert host.ok("run", "--rm", "--network", "none", "image", "cat", "/one", "/seven") == f"{one}7\n"


@pytest.mark.parametrize("call", ["rename", "fsync", "mkdir"])
def test_a_kill_at_a_durable_step(host: Host, context: Path, call: str) -> None:
    for number in (1, 3, 6, 10, 15, 21):
        command = [
            "strace",
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            f"trace={call}",
            "-e",
            f"inject={call}:signal=KILL:when={number}",
        ]
        environment = host.environment
        subprocess.run(
            [*command, COMMAND, "build", "-t", "image", str(context)], env=environment, capture_output=True, check=False
        )
        if number in (6, 21):
            host.ok("build", "-t", "image", str(context))
            assert host.ok("run", "--rm", "--network", "none", "image", "cat", "/one", "/two") == "one\ntwo\n"
            assert os.listdir(host.root / "build" / "work") == []


@pytest.fixture
def small_disk(busybox_store: Path) -> Iterator[Host]:
    """A root on a file system of 24 MiB."""
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="sr-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], check=True)
    host = Host(folder, busybox_store)
    try:
        yield host
    finally:
        marks = leaks.marks_of(host.root)
        for identity in host.containers():
            host.run("rm", "-f", identity)
        host.run("network", "prune", "-f")
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()
    assert leaks.left(marks) == {}


def test_a_full_disk_is_named_and_what_was_finished_is_kept(small_disk: Host, context: Path) -> None:
    (context / "large").write_bytes(os.urandom(20 << 20))
    (context / "Dockerfile").write_text("FROM busybox\nRUN echo one > /one\nCOPY large /large\n")
    done = small_disk.run("build", "-t", "image", str(context))
    assert done.returncode == 1
    assert b"disk is full" in done.stderr and b"Dockerfile:3" in done.stderr, done.stderr
    (context / "large").write_bytes(b"small now")
    output = small_disk.ok("build", "-t", "image", str(context))
    assert output.count("Using cache") == 1
    assert small_disk.ok("run", "--rm", "--network", "none", "image", "cat", "/one") == "one\n"


def test_a_file_that_vanishes_is_named(host: Host, context: Path) -> None:
    """Files come and go while a build reads them: it ends with their name, or with an image."""
    script = (
        f"while :; do rm -rf {context}/files/2*; for n in $(seq 200 250); do echo $n > {context}/files/$n; done; done"
    )
    with subprocess.Popen(["sh", "-c", script]) as changing:
        try:
            failures = 0
            for _ in range(6):
                done = host.run("build", "-t", "image", "--no-cache", str(context))
                if done.returncode:
                    failures += 1
                    assert b"vanished" in done.stderr or b"changed while" in done.stderr, done.stderr
                    assert b"Dockerfile:" in done.stderr
        finally:
            changing.kill()
    for number in range(200, 251):
        (context / "files" / str(number)).write_text("x")
    host.ok("build", "-t", "image", str(context))


def drafts(folder: Path) -> list[Path]:
    return list(folder.rglob("*.draft"))


def killed_at_each_rename(host: Host, *words: str) -> Iterator[int]:
    """The same build killed at its first rename, then its second, ..., until one is not."""
    for number in range(1, 60):
        command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=rename"]
        inject = ["-e", f"inject=rename:signal=KILL:when={number}"]
        done = subprocess.run(
            [*command, *inject, COMMAND, "build", "--network=none", *words], env=host.environment, capture_output=True,
            check=False,
        )  # fmt: skip
        if done.returncode == 0:
            return
        yield number
    raise AssertionError("it was killed each time")


def test_what_was_half_written_of_a_record_goes_with_the_next_build(host: Host, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM busybox\nCOPY files/1 /one\nLABEL a=b\nCOPY files/2 /two\n")
    seen = set()
    for _ in killed_at_each_rename(host, "-t", "image", "--no-cache", str(context)):
        seen |= {draft.name.partition(".")[0] for draft in drafts(host.root / "build")}
        host.ok("build", "--network=none", "-t", "image", str(context))
        assert drafts(host.root / "build") == []
    assert len(seen) >= 4  # of three steps, and of what the build saw


def test_an_export_removes_what_a_killed_one_has_left(host: Host, context: Path, tmp_path: Path) -> None:
    (context / "Dockerfile").write_text("FROM busybox\nCOPY files/1 /one\nCOPY files/2 /two\n")
    cache, seen = tmp_path / "cache", 0
    host.ok("build", "--network=none", "-t", "image", str(context))
    for _ in killed_at_each_rename(host, f"--cache-to=type=local,dest={cache}", str(context)):
        seen += len(drafts(cache))
        host.ok("build", "--network=none", f"--cache-to=type=local,dest={cache}", str(context))
        assert drafts(cache) == [] and len(list((cache / "blobs").iterdir())) == 2
        shutil.rmtree(cache)
    assert seen >= 4  # two blobs and two records


def test_a_prune_removes_what_a_killed_build_has_left(host: Host, context: Path) -> None:
    (context / "Dockerfile").write_text(f"{RANDOM}RUN sleep 100\n")
    with in_step(host, context, 4) as process:
        kill(process)
    (host.root / "build/steps/0.json.1.draft").touch()  # as versions before have left them
    assert os.listdir(host.root / "build/work") != []
    host.ok("builder", "prune", "-f")
    assert os.listdir(host.root / "build/work") == [] and drafts(host.root / "build") == []
    assert host.containers() == []


def test_a_prune_spares_what_a_build_at_work_uses(host: Host, context: Path) -> None:
    text = "FROM busybox\nRUN --mount=type=cache,target=/c touch /c/mine; until test -e /c/go; do sleep 0.1; done\n"
    (context / "Dockerfile").write_text(f"{text}RUN --mount=type=cache,target=/c cat /c/mine && rm /c/go\n")
    with in_step(host, context, 2) as process:
        try:
            until(lambda: bool(list(host.root.glob("build/caches/*/mine"))))
            (folder,) = host.root.glob("build/caches/*")
            assert host.ok("builder", "prune", "-af") == "Total reclaimed space: 0B\n"
            (folder / "go").touch()
            assert process.wait(60) == 0, process.stderr and process.stderr.read()
        finally:
            kill(process)
    assert folder.name in host.ok("builder", "prune", "-f")
    assert not folder.exists()


def test_who_mends_waits_for_a_build_that_is_about_to_lock_its_folder(host: Host) -> None:
    root = Root(str(host.root), str(host.folder / "run"), "00000000")
    folder = Path(root.path, "build/work/0123456789abcdef")
    folder.mkdir(parents=True)
    with locked(root.lock("builds"), shared=True):
        thread = threading.Thread(target=mend, args=(root,))
        thread.start()
        thread.join(0.3)
        assert thread.is_alive() and folder.is_dir()
    thread.join(10)
    assert not thread.is_alive() and not folder.exists()  # nobody has locked it: its build was killed
