"""What a container has changed in its image's files, as `diff` tells it and `commit` keeps it."""

from __future__ import annotations

import os
import stat

from specrun_runtime.errors import IsolationError
from specrun_runtime.fds import Fd
from specrun_runtime.paths import open_in_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

ADDED, CHANGED, DELETED = "A", "C", "D"


def changes(upper: str, below: int) -> Iterator[tuple[str, str]]:
    """(kind, path) of each change in the writable layer `upper`, over the layers that descriptor `below` shows.

    Folders come before what is in them; a folder in which something was added or removed has changed.
    """
    with Fd(os.open(upper, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)) as top:
        yield from _within(top.number, "", below)


def _within(folder: int, prefix: str, below: int) -> Iterator[tuple[str, str]]:
    for name in sorted(os.listdir(folder)):
        path = f"{prefix}/{name}"
        try:
            info = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            continue  # a running container has removed it
        old = _below(below, path)
        if stat.S_ISCHR(info.st_mode) and info.st_rdev == 0:
            if old is not None:
                yield DELETED, path
            continue
        if not stat.S_ISDIR(info.st_mode):
            yield ADDED if old is None else CHANGED, path
            continue
        with Fd(os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)) as inner:
            found = list(_within(inner.number, path, below))
            if old is not None and stat.S_ISDIR(old.st_mode):
                if _is_opaque(inner.number):
                    found += [(DELETED, gone) for gone in _gone(inner.number, path, below)]
                same = (info.st_mode, info.st_uid, info.st_gid) == (old.st_mode, old.st_uid, old.st_gid)
                if not same or info.st_mtime_ns != old.st_mtime_ns or found:
                    yield CHANGED, path
            else:
                yield ADDED if old is None else CHANGED, path
            yield from sorted(found, key=lambda change: change[1])


def _below(root: int, path: str) -> os.stat_result | None:
    """What the layers below have at `path`; a link on the way is something else than a folder."""
    head, name = os.path.split(path)
    try:
        with Fd(open_in_root(root, head, os.O_PATH | os.O_DIRECTORY)) as folder:
            return os.stat(name, dir_fd=folder.number, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError, IsolationError):
        return None


def _is_opaque(folder: int) -> bool:
    try:
        return os.getxattr(f"/proc/self/fd/{folder}", "trusted.overlay.opaque") == b"y"
    except OSError:
        return False


def _gone(folder: int, path: str, below: int) -> list[str]:
    """What a folder that hides the one below it no longer has."""
    try:
        with Fd(open_in_root(below, path, os.O_RDONLY | os.O_DIRECTORY)) as old:
            return [f"{path}/{name}" for name in set(os.listdir(old.number)) - set(os.listdir(folder))]
    except OSError:
        return []
