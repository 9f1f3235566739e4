"""File descriptors with an owner, and process handles that cannot be fooled by a reused pid."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self


class Fd:
    """An open descriptor: closed when its `with` block ends, unless it was given away."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it now; closing twice is closing once."""
        if self.number >= 0:
            os.close(self.release())

    def release(self) -> int:
        """Hand the descriptor over; its new owner closes it."""
        number, self.number = self.number, -1
        return number


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`, however often the kernel takes only a part."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def read_all(descriptor: int, limit: int = 1 << 20) -> bytes:
    """Read until the end; raises ValueError past `limit` bytes."""
    parts = []
    size = 0
    while part := os.read(descriptor, 65536):
        size += len(part)
        if size > limit:
            raise ValueError(f"more than {limit} bytes")
        parts.append(part)
    return b"".join(parts)


def start_time(pid: int) -> int:
    """When the process began, in clock ticks since boot (field 22 of /proc/<pid>/stat); 0 when there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return 0


def open_process(pid: int, started: int) -> int | None:
    """A pidfd of the process that has this pid and start time; None when it has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return None
    # The pid may have been reused before pidfd_open; once the handle is open it is not reused any more.
    if start_time(pid) != started:
        os.close(descriptor)
        return None
    return descriptor
