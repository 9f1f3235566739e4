"""Folders of scenarios: each is locked by the process that uses it, so that a killed run's are known and cleared."""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREFIX = "srf-"


@contextmanager
def scene() -> Iterator[Path]:
    """A folder for one scenario, removed afterwards."""
    # Not below pytest's own folder: overlayfs wants short paths, and a kept folder would keep layers.
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    lock = open(folder / "lock", "w", encoding="ascii")
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        _remove(folder)
        lock.close()


def sweep() -> int:
    """Clear what killed runs have left; gives how many scenarios that were."""
    from specrun.bdd import podman

    count = 0
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            lock = open(folder / "lock", "r+", encoding="ascii")
        except OSError:
            continue
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            environment = {**os.environ, "SPECRUN_ROOT": str(folder / "root"), "SPECRUN_RUN": str(folder / "run")}
            clear(folder, environment, [])
            podman.clear(folder)
            _remove(folder)
            count += 1
    return count


def clear(folder: Path, environment: dict[str, str], prefix: list[str]) -> None:
    """Remove all containers of the scenario in `folder`, and with them what belongs to them."""
    from specrun.bdd.engines import own_command

    if not (folder / "root" / "id").exists():
        return
    listing = [*prefix, *own_command(), "ps", "-aq", "--no-trunc"]
    done = subprocess.run(listing, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.stdout.split():
        removal = [*prefix, *own_command(), "rm", "-f", *done.stdout.split()]
        subprocess.run(removal, env=environment, stdin=subprocess.DEVNULL, capture_output=True)


def _remove(folder: Path) -> None:
    from specrun.files import remove_tree

    try:
        remove_tree(str(folder))
    except OSError:
        subprocess.run(["rm", "-rf", "--one-file-system", str(folder)], check=False)
