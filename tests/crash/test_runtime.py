"""kill -9 of the OCI command line at whatever it does to the system: the next command tells the truth and mends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.leaks import left
from tests.support.oci import Bundle, Runtime, until

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs root")

FATAL = """
import os, sys
from specrun_runtime import cli

left = int(sys.argv[1])
touching = ("os.fork", "os.kill", "os.mkdir", "os.posix_spawn", "os.remove", "os.rename", "os.rmdir", "os.truncate")

def hook(event, arguments):
    global left
    if event in touching or (event == "open" and "python" not in str(arguments[0])):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), 9)

sys.addaudithook(hook)
sys.exit(cli.main(sys.argv[2:]))
"""
"""The command line, which kills itself before the so-manyth file that it opens, makes, renames or removes."""

MOMENTS = (1, 2, 4, 7, 11, 16, 22, 29, 37, 46, 80)


@pytest.fixture
def bundle(runtime: Runtime) -> Bundle:
    """A container that sleeps."""
    bundle = runtime.bundle()
    bundle.process["args"] = ["sleep", "1000"]
    bundle.write()
    return bundle


def deaths(runtime: Runtime, *arguments: str) -> Iterator[int]:
    """Run the command again and again, each time killed a bit later, until it gets through."""
    for moment in MOMENTS:
        command = [sys.executable, "-c", FATAL, str(moment), *runtime.command(*arguments)[1:]]
        null = subprocess.DEVNULL
        if subprocess.run(command, stdin=null, stdout=null, stderr=null, check=False, timeout=60).returncode != -9:
            assert moment > 1, "it was never killed"
            return
        yield moment


def status_after(runtime: Runtime, identity: str, *possible: str) -> str:
    """The status, which must be one of the possible ones, at the latest when what the command had started is done."""
    until(lambda: runtime.state(identity)["status"] in possible)
    status: str = runtime.state(identity)["status"]
    return status


def test_create(runtime: Runtime, bundle: Bundle) -> None:
    for _ in deaths(runtime, "create", "--bundle", str(bundle.folder), "c"):
        time.sleep(0.2)  # what it had started may have gone on meanwhile
        runtime.ok("delete", "--force", "c")
        assert not (runtime.root / "c").exists()
    # That nothing else is left is looked at by the fixture; and the id was free again.
    assert runtime.state("c")["status"] == "created"


def test_start(runtime: Runtime, bundle: Bundle) -> None:
    runtime.ok("create", "--bundle", str(bundle.folder), "c")
    for _ in deaths(runtime, "start", "c"):
        if status_after(runtime, "c", "created", "running") == "running":
            assert "cannot start" in runtime.refused("start", "c")
            runtime.ok("delete", "--force", "c")
            runtime.ok("create", "--bundle", str(bundle.folder), "c")
    assert status_after(runtime, "c", "running") == "running"


def test_exec(runtime: Runtime, bundle: Bundle) -> None:
    runtime.start(bundle, "c")
    for _ in deaths(runtime, "exec", "c", "true"):
        assert runtime.state("c")["status"] == "running"
        assert runtime.ok("exec", "c", "echo", "still here") == "still here\n"
    until(lambda: len(runtime.ok("ps", "c", "-e").splitlines()) == 2)  # the heading, and the first process


def test_kill(runtime: Runtime, bundle: Bundle) -> None:
    runtime.start(bundle, "c")
    for _ in deaths(runtime, "kill", "c", "KILL"):
        if status_after(runtime, "c", "running", "stopped") == "stopped":
            break
    status_after(runtime, "c", "stopped")
    runtime.ok("delete", "c")


@pytest.mark.parametrize("force", [(), ("--force",)], ids=["stopped", "running"])
def test_delete(runtime: Runtime, bundle: Bundle, force: tuple[str, ...]) -> None:
    def ready() -> None:
        runtime.start(bundle, "c")
        if not force:
            runtime.ok("kill", "c", "KILL")
            status_after(runtime, "c", "stopped")

    ready()
    for _ in deaths(runtime, "delete", *force, "c"):
        if not (runtime.root / "c").exists():
            ready()  # it was through already
        else:
            runtime.ok("list")
            runtime.ok("delete", "--force", "c")
            assert not (runtime.root / "c").exists()
            ready()
    assert runtime.ok("list", "--quiet") == ""


def test_pause_and_resume(runtime: Runtime, bundle: Bundle) -> None:
    runtime.start(bundle, "c")
    for _ in deaths(runtime, "pause", "c"):
        if status_after(runtime, "c", "running", "paused") == "paused":
            runtime.ok("resume", "c")
    status_after(runtime, "c", "paused")
    for _ in deaths(runtime, "resume", "c"):
        if status_after(runtime, "c", "running", "paused") == "running":
            runtime.ok("pause", "c")
    status_after(runtime, "c", "running")
    assert runtime.ok("exec", "c", "echo", "awake") == "awake\n"


def test_update(runtime: Runtime, bundle: Bundle) -> None:
    """What the kernel was told before may hold, but what the next command says does hold, and nothing is forgotten."""

    def limit() -> str:
        return runtime.ok("exec", "c", "sh", "-c", "cat /sys/fs/cgroup/*/pids.max").strip()

    runtime.start(bundle, "c")
    runtime.ok("update", "--pids-limit", "50", "c")
    for moment in deaths(runtime, "update", "--pids-limit", "100", "c"):
        assert runtime.state("c")["status"] == "running"
        assert limit() in ("50", "100")
        runtime.ok("update", "--pids-limit", "50", "c")
        assert limit() == "50", moment
    assert limit() == "100"


@pytest.mark.parametrize("moment", [0.0, 0.01, 0.02, 0.03, 0.045, 0.06])
def test_the_process_that_makes_the_container(runtime: Runtime, bundle: Bundle, moment: float) -> None:
    """The command says so, and leaves nothing; unless the container was there already."""
    command = runtime.command("create", "--bundle", str(bundle.folder), "c")
    null = subprocess.DEVNULL
    with tempfile.TemporaryFile("w+") as said:  # no pipe: a container that is there keeps it open
        with subprocess.Popen(command, stdin=null, stdout=null, stderr=said) as making:
            children = Path(f"/proc/{making.pid}/task/{making.pid}/children")
            until(lambda: bool(children.read_text()))
            monitor = os.pidfd_open(int(children.read_text().split()[0]))
            time.sleep(moment)
            with contextlib.suppress(ProcessLookupError):  # it may be through already
                signal.pidfd_send_signal(monitor, signal.SIGKILL)
            os.close(monitor)
        said.seek(0)
        text = said.read()
    if making.returncode:
        assert "ended without a word" in text
        assert not (runtime.root / "c").exists()
        assert left((runtime.mark,)) == {}
