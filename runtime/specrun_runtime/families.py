"""Processes with all that comes from them: found in /proc, and killed by handle."""

from __future__ import annotations

import _signal
import os
import select
import time

from specrun_runtime.fds import open_process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PATIENCE = 10.0
"""Seconds to go on for; what does not end of SIGKILL meanwhile is left to the kernel."""


class Process:
    """One that was alive when we looked."""

    __slots__ = ("parent", "pid", "session", "started")

    def __init__(self, pid: int) -> None:
        """Raises OSError when it has ended."""
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        if fields[0] in (b"Z", b"X"):
            raise ProcessLookupError(3, os.strerror(3))
        self.pid = pid
        self.parent = int(fields[1])
        self.session = int(fields[3])
        self.started = int(fields[19])
        """In clock ticks since boot."""


def kill(pids: Callable[[], Iterable[int]], belongs: Callable[[Process], bool]) -> None:
    """Kill those of `pids` that belong, and what has come from them, until there are none; the caller never belongs."""
    deadline = time.monotonic() + PATIENCE
    # Again and again: between our looking and our killing, they may have started more.
    while (found := _family(pids(), belongs)) and time.monotonic() < deadline:
        handles = [handle for one in found if (handle := open_process(one.pid, one.started)) is not None]
        for handle in handles:
            try:
                _signal.pidfd_send_signal(handle, _signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass
        for handle in handles:
            select.select([handle], [], [], max(0.0, deadline - time.monotonic()))
            os.close(handle)


def _family(pids: Iterable[int], belongs: Callable[[Process], bool]) -> list[Process]:
    present, found = {}, set()
    for pid in pids:
        try:
            one = Process(pid)
            # Asked after the start time was read: a pid that has become another's meanwhile is not killed.
            if belongs(one) and pid != os.getpid():
                found.add(pid)
            present[pid] = one
        except OSError:  # it has ended, or is another user's
            continue
    while more := {pid for pid, one in present.items() if one.parent in found} - found:
        found |= more
    found.discard(os.getpid())
    return [present[pid] for pid in found]
