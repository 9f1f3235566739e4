"""Files that appear whole or not at all, locks that die with their holder, trees removed without leaving them."""

from __future__ import annotations

import fcntl
import os

from specrun_runtime.files import discard, remove_tree, sync_directory, sync_files, write_atomic

__all__ = ["discard", "locked", "remove_tree", "sync_directory", "sync_files", "write_atomic"]


class locked:
    """Hold flock(2) on the file at `path`, which is made if it is missing. Only who holds it may remove it.

    The kernel releases the lock when the holder ends, however it ends. Raises BlockingIOError when `wait` is
    false and another holds it.
    """

    __slots__ = ("_descriptor", "_operation", "_path")

    def __init__(self, path: str, *, shared: bool = False, wait: bool = True) -> None:
        operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        self._operation = operation if wait else operation | fcntl.LOCK_NB
        self._path = path
        self._descriptor = -1

    def __enter__(self) -> int:
        while True:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(self._descriptor, self._operation)
            except BaseException:
                os.close(self._descriptor)
                raise
            if self._is_there():  # else it was removed by its holder, and others would lock a new one
                return self._descriptor
            os.close(self._descriptor)

    def _is_there(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._descriptor), os.lstat(self._path))
        except FileNotFoundError:
            return False

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
