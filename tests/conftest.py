"""A prepared store for the whole session, and a host of its own for each test."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from specrun.bdd.processes import heed_sigterm
from tests.support import leaks
from tests.support.host import COMMAND, Host, own_host
from tests.support.namespace import IPV4, IPV6, Namespace
from tests.support.oci import Runtime


def pytest_sessionstart() -> None:
    """A run that is cut ends as by Ctrl-C: what its tests have started goes with it."""
    heed_sigterm()


@pytest.fixture(scope="session")
def busybox_store() -> Iterator[Path]:
    """A state folder that has the image `busybox`, assembled once for all workers of the run."""
    # Not below pytest's own folder: overlayfs wants short paths, and a kept folder would keep layers.
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or os.urandom(8).hex()
    folder = Path(tempfile.gettempdir(), f"sr-{run[:16]}")
    lock = _share(folder)
    try:
        yield folder / "root"
    finally:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)  # the last worker
        except BlockingIOError:
            pass
        os.close(lock)


def _share(folder: Path) -> int:
    """Prepare the store unless another worker has; gives a descriptor with a share of the folder's lock."""
    while True:
        folder.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(lock, fcntl.LOCK_SH)
        if _is(folder, lock):  # else the last of the others has removed it meanwhile, and somebody perhaps made it anew
            try:
                _prepare(folder)
            except BaseException:
                os.close(lock)
                raise
            return lock
        os.close(lock)


def _prepare(folder: Path) -> None:
    """Assemble the image, once; its lock is not the folder's, which the other workers share to the end of the run."""
    with open(folder / "preparing", "w", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if (folder / "ready").exists():
            return
        environment = {**os.environ, "SPECRUN_ROOT": str(folder / "root"), "SPECRUN_RUN": str(folder / "run")}
        for words in (["image", "assemble", "busybox"], ["run", "--rm", "--net", "none", "busybox", "true"]):
            done = subprocess.run([COMMAND, *words], env=environment, check=False, capture_output=True, text=True)
            if done.returncode:
                pytest.fail(f"{' '.join(words)}: {done.stderr}")  # another worker may have more luck
        (folder / "ready").touch()


def _is(folder: Path, opened: int) -> bool:
    try:
        return os.path.samestat(os.stat(folder), os.fstat(opened))
    except FileNotFoundError:
        return False


@pytest.fixture
def host(busybox_store: Path) -> Iterator[Host]:
    """A specrun with the image `busybox`; the test fails when it leaves anything on the machine."""
    with own_host(busybox_store) as host:
        yield host


@pytest.fixture
def empty_host() -> Iterator[Host]:
    """A specrun whose state folder does not exist yet."""
    with own_host() as host:
        yield host


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    """The OCI command line over a state folder of its own; the test fails when it leaves anything on the machine."""
    runtime = Runtime()
    try:
        yield runtime
    finally:
        runtime.close()
    assert leaks.left((runtime.mark,)) == {}


@pytest.fixture
def apart() -> Iterator[Namespace]:
    """A network without anybody else in it, which forwards nothing."""
    namespace = Namespace()
    try:
        namespace.put(IPV4, "0")
        namespace.put(IPV6, "0")
        namespace.sh("ip link set lo up")
        yield namespace
    finally:
        namespace.close()
