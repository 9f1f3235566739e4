"""What a cache had, and what it had to fetch, counted since its server began."""

from __future__ import annotations

import threading


class Traffic:
    """Counters of one cache; used by several threads."""

    def __init__(self) -> None:
        self.requests = {"manifest": (0, 0), "blob": (0, 0)}
        """How often each was asked for and here, and asked for and not here."""
        self.stale = 0
        """Answers that may have been old."""
        self.received = 0
        """Bytes of bodies that came from the upstream."""
        self._lock = threading.Lock()

    def ask(self, content: str, *, here: bool) -> None:
        """Somebody wants a manifest or a blob, which is here (or on its way already), or is not."""
        with self._lock:
            had, had_not = self.requests[content]
            self.requests[content] = (had + here, had_not + (not here))

    def answer_stale(self) -> None:
        """The upstream was away, and what is here was given."""
        with self._lock:
            self.stale += 1

    def receive(self, size: int) -> None:
        """So many bytes have come."""
        with self._lock:
            self.received += size
