"""A prepared store for the whole session, and a host of its own for each test."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import leaks
from tests.support.host import COMMAND, Host
from tests.support.oci import Runtime


@pytest.fixture(scope="session")
def busybox_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A state folder that has the image `busybox`, assembled once from this host's packages."""
    # Not below pytest's own folder: overlayfs wants short paths, and a kept folder would keep layers.
    folder = Path(tempfile.mkdtemp(prefix="sr-"))
    environment = {**os.environ, "SPECRUN_ROOT": str(folder / "root"), "SPECRUN_RUN": str(folder / "run")}
    subprocess.run([COMMAND, "image", "assemble", "busybox"], env=environment, check=True, capture_output=True)
    subprocess.run(
        [COMMAND, "run", "--rm", "--net", "none", "busybox", "true"], env=environment, check=True, capture_output=True
    )
    yield folder / "root"
    shutil.rmtree(folder)


@pytest.fixture
def host(busybox_store: Path) -> Iterator[Host]:
    """A specrun with the image `busybox`; the test fails when it leaves anything on the machine."""
    host = Host(Path(tempfile.mkdtemp(prefix="sr-")), busybox_store)
    try:
        yield host
    finally:
        marks = leaks.marks_of(host.root)
        host.close()
    assert leaks.left(marks) == {}


@pytest.fixture
def empty_host() -> Iterator[Host]:
    """A specrun whose state folder does not exist yet."""
    host = Host(Path(tempfile.mkdtemp(prefix="sr-")))
    try:
        yield host
    finally:
        marks = leaks.marks_of(host.root)
        host.close()
    assert leaks.left(marks) == {}


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    """The OCI command line over a state folder of its own; the test fails when it leaves anything on the machine."""
    runtime = Runtime()
    try:
        yield runtime
    finally:
        runtime.close()
    assert leaks.left((runtime.mark,)) == {}
