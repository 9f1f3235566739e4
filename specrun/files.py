"""Files that appear whole or not at all, locks that die with their holder, trees removed without leaving them."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager

from specrun_runtime.files import discard, remove_tree, sync_directory, write_atomic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["discard", "locked", "remove_tree", "sync_directory", "write_atomic"]


@contextmanager
def locked(path: str, *, shared: bool = False, wait: bool = True) -> Iterator[int]:
    """Hold flock(2) on the file at `path`, which is made if it is missing and never removed.

    The kernel releases the lock when the holder ends, however it ends. Raises BlockingIOError when `wait` is
    false and another holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(descriptor, operation if wait else operation | fcntl.LOCK_NB)
        yield descriptor
    finally:
        os.close(descriptor)
