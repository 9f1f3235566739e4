"""Folders of scenarios and of runs: each is locked by its process, so that a killed one's are known and cleared."""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

_SCENE = "srf-"
_RUN = "specrun-test-"


def scene() -> AbstractContextManager[Path]:
    """A folder for one scenario, removed afterwards."""
    return _held(_SCENE)


def run_folder() -> AbstractContextManager[Path]:
    """A folder for one run of features, removed afterwards."""
    return _held(_RUN)


@contextmanager
def _held(prefix: str) -> Iterator[Path]:
    from specrun.bdd import processes

    folder, lock = _make(prefix)
    try:
        yield folder
    finally:
        processes.end_group(folder)
        _remove(folder)
        os.close(lock)


def sweep() -> None:
    """Clear what killed runs have left."""
    from specrun.bdd import podman, processes

    place = Path(tempfile.gettempdir())
    for folder in (*place.glob(f"{_SCENE}*"), *place.glob(f"{_RUN}*")):
        lock = _lock(folder)
        if lock is None:
            continue
        try:
            environment = {**os.environ, "SPECRUN_ROOT": str(folder / "root"), "SPECRUN_RUN": str(folder / "run")}
            processes.end(folder)  # first, or they would start more of what is cleared
            processes.end_group(folder)
            clear(folder, environment, [])
            podman.clear(folder)
            _remove(folder)
        finally:
            os.close(lock)


def _make(prefix: str) -> tuple[Path, int]:
    """The folder, and a descriptor that holds its lock."""
    while True:
        # Not below pytest's own folder: overlayfs wants short paths, and a kept folder would keep layers.
        folder = Path(tempfile.mkdtemp(prefix=prefix))
        lock = _lock(folder)
        if lock is not None and folder.exists():  # else another run has just swept it
            return folder, lock
        if lock is not None:
            os.close(lock)


def _lock(folder: Path) -> int | None:
    """A descriptor that holds the folder's lock; None when somebody else does, or it is gone or another user's."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        if os.fstat(descriptor).st_uid == os.geteuid():
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
    except BlockingIOError:
        pass
    os.close(descriptor)
    return None


def clear(folder: Path, environment: dict[str, str], prefix: list[str]) -> None:
    """Remove all containers of the scenario in `folder`, and with them what belongs to them; end its registries.

    Its networks go with its network namespace.
    """
    from specrun.bdd.engines import own_command
    from specrun.network import forwarding
    from specrun.registry.service import Service

    identity = folder / "root" / "id"
    if not identity.exists():
        return
    for kept in (folder / "root" / "registries").glob("*/*/command.json"):
        Service(str(kept.parent)).stop()
    listing = [*prefix, *own_command(), "ps", "-aq", "--no-trunc"]
    done = subprocess.run(listing, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.stdout.split():
        removal = [*prefix, *own_command(), "rm", "-f", *done.stdout.split()]
        subprocess.run(removal, env=environment, stdin=subprocess.DEVNULL, capture_output=True)
    forwarding.forget(identity.read_text().strip())


def _remove(folder: Path) -> None:
    from specrun.files import remove_tree

    try:
        remove_tree(str(folder))
    except OSError:
        subprocess.run(["rm", "-rf", "--one-file-system", str(folder)], check=False)
