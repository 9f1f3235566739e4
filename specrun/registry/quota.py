"""How much a registry holds, against how much it may: content, and uploads on their way."""

from __future__ import annotations

import os
import threading

from specrun.registry.protocol import ProtocolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Quota:
    """The bytes of one storage. Whoever writes takes them first; whoever removes gives them back.

    Garbage collection, or a server that hands over, is another process: it leaves a mark, by which all is measured
    again.
    """

    def __init__(self, limit: int, mark: str, measure: Callable[[], int]) -> None:
        self.limit = limit
        """0 for as many as the disk has."""
        self._mark = mark
        self._measure = measure
        self._lock = threading.Lock()
        self._seen = _stamp(mark)
        self._used = measure() if limit else 0

    @property
    def used(self) -> int:
        """The bytes that are taken now; 0 where there is no limit, as nobody counts them then."""
        if not self.limit:
            return 0
        with self._lock:
            self._look()
            return self._used

    def take(self, size: int) -> None:
        """Raises ProtocolError DENIED when so many bytes more are too many."""
        if not self.limit:
            return
        with self._lock:
            self._look()
            if self._used + size > self.limit:
                raise ProtocolError("DENIED", f"the quota of {self.limit} bytes is used up")
            self._used += size

    def give(self, size: int) -> None:
        """So many bytes are free again."""
        with self._lock:
            self._used = max(0, self._used - size)

    def check(self, size: int) -> None:
        """Raises ProtocolError DENIED when so many bytes would be too many."""
        self.take(size)
        self.give(size)

    def _look(self) -> None:
        stamp = _stamp(self._mark)
        if stamp != self._seen:
            self._seen, self._used = stamp, self._measure()


def _stamp(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except FileNotFoundError:
        return 0
