"""The log of events: appended to by every process of ours, read from a cursor on, so that watchers miss nothing.

It is a folder of numbered segments with a JSON text a line, in the shape that Docker's API gives its events. A writer
holds a share of the lock of the last segment; whoever closes a segment holds the whole lock while it makes the next
one. So a reader that has seen segment n+1 and then the end of segment n knows that it has read all of n.

A cursor is (segment, offset); one that points into a segment that has been dropped reads on from the oldest there is.
"""

from __future__ import annotations

import fcntl
import os
import time

from specrun_runtime import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

SEGMENT_SIZE = 4 << 20
"""Bytes after which the next segment is begun."""
KEPT = 4
"""How many segments are kept."""


def append(folder: str, kind: str, action: str, identity: str, attributes: dict[str, str]) -> None:
    """Record that `action` was done to the object `identity` of the kind `kind` ("container", "volume", ...).

    What cannot be recorded, on a full disk for example, is not: the action itself has been done.
    """
    moment = time.time_ns()
    record = {
        **({"status": action, "id": identity} if kind in ("container", "image") else {}),
        **({"from": attributes.get("image", "")} if kind == "container" else {}),
        "Type": kind,
        "Action": action,
        "Actor": {"ID": identity, "Attributes": dict(sorted(attributes.items()))},
        "scope": "local",
        "time": moment // 1_000_000_000,
        "timeNano": moment,
    }
    line = jsontext.dumps(record, compact=True).encode() + b"\n"
    try:
        _write(folder, line)
    except OSError:
        pass


def end(folder: str) -> tuple[int, int]:
    """The cursor behind all that has happened."""
    number = max(_segments(folder), default=1)
    try:
        return number, os.stat(f"{folder}/{number:08d}").st_size
    except FileNotFoundError:
        return number, 0


def read(folder: str, cursor: tuple[int, int] = (0, 0)) -> Iterator[tuple[tuple[int, int], dict[str, Any]]]:
    """What has happened since `cursor`, oldest first, each with the cursor behind it."""
    number, offset = cursor
    for segment in _segments(folder):
        if segment < number:
            continue
        start = offset if segment == number else 0
        try:
            file = open(f"{folder}/{segment:08d}", "rb")
        except FileNotFoundError:
            continue  # dropped meanwhile
        with file:
            file.seek(start)
            for line in file:
                if not line.endswith(b"\n"):
                    break  # being written
                start += len(line)
                try:
                    record = jsontext.loads(line)
                except ValueError:
                    continue  # torn by a crash or a full disk
                if isinstance(record, dict):
                    yield (segment, start), record


def _write(folder: str, line: bytes) -> None:
    while True:
        number = max(_segments(folder), default=0)
        if not number:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            number = 1
        path = f"{folder}/{number:08d}"
        segment = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(segment, fcntl.LOCK_SH)
            if os.path.exists(f"{folder}/{number + 1:08d}"):
                continue  # closed meanwhile
            size = os.fstat(segment).st_size
            if size < SEGMENT_SIZE:
                torn = size and os.pread(segment, 1, size - 1) != b"\n"
                os.write(segment, b"\n" + line if torn else line)
                return
            fcntl.flock(segment, fcntl.LOCK_EX)
            _begin(folder, number + 1)
        finally:
            os.close(segment)


def _begin(folder: str, number: int) -> None:
    """Make the next segment, and drop the oldest; the caller has the whole lock of the one before."""
    os.close(os.open(f"{folder}/{number:08d}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    for old in _segments(folder)[:-KEPT]:
        try:
            os.unlink(f"{folder}/{old:08d}")
        except FileNotFoundError:
            continue


def _segments(folder: str) -> list[int]:
    try:
        return sorted(int(name) for name in os.listdir(folder) if name.isascii() and name.isdigit())
    except FileNotFoundError:
        return []
