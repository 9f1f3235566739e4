"""Processes of a scenario, told by a variable that is in the environment of all that its steps start."""

from __future__ import annotations

import os
import select
import signal
import time
from pathlib import Path

from specrun_runtime.fds import open_process, start_time

_MARK = "SPECRUN_SCENE"
_PATIENCE = 10.0


def mark(folder: Path) -> dict[str, str]:
    """What to put into the environment of what belongs to the scenario in `folder`."""
    return {_MARK: str(folder)}


def end(folder: Path) -> None:
    """Kill what the scenario in `folder` has started and still runs, with its children, and wait until it is gone.

    Children count whatever their environment is: sudo gives them another.
    """
    wanted = os.fsencode(f"{_MARK}={folder}")
    deadline = time.monotonic() + _PATIENCE
    # Again and again: between our looking and our killing, they may have started more.
    while (found := _family(wanted)) and time.monotonic() < deadline:
        for pid, started in found.items():
            _kill(pid, started, deadline)


def _family(wanted: bytes) -> dict[int, int]:
    """Pid and start time of the processes with `wanted` in their environment, and of all that come from them."""
    started, parents, found = {}, {}, set()
    for name in os.listdir("/proc"):
        if not name.isdigit() or (pid := int(name)) == os.getpid():
            continue
        try:
            # First of all: a pid that has become somebody else's when we kill is then left alone.
            started[pid] = start_time(pid)
            with open(f"/proc/{pid}/stat", "rb") as file:
                state, parent = file.read().rpartition(b")")[2].split()[:2]
            with open(f"/proc/{pid}/environ", "rb") as file:
                environment = file.read().split(b"\0")
        except OSError:  # it has ended, or is another user's
            continue
        if state not in (b"Z", b"X"):
            parents[pid] = int(parent)
            if wanted in environment:
                found.add(pid)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return {pid: started[pid] for pid in found}


def _kill(pid: int, started: int, deadline: float) -> None:
    handle = open_process(pid, started)
    if handle is None:
        return
    try:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        select.select([handle], [], [], max(0.0, deadline - time.monotonic()))
    except (ProcessLookupError, PermissionError):
        pass
    finally:
        os.close(handle)
