"""Reading a container's log, whole or its end, once or as it grows."""

from __future__ import annotations

import os
import time

from specrun_runtime import logfile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_BLOCK = 1 << 16
_LONGEST_LINE = 1 << 16
"""A line that has grown to this size is given out in parts."""


def read_log(
    directory: str, *, follow: bool = False, tail: int | None = None, is_running: Callable[[], bool] | None = None
) -> Iterator[tuple[str, str, bytes]]:
    """The lines of the log in `directory`: time (RFC 3339), stream, bytes with the newline if there was one.

    With `tail`, the last so many lines. With `follow`, goes on until `is_running` says no and all is read.
    """
    try:
        file = open(f"{directory}/log", "rb")
    except FileNotFoundError:
        if not follow:
            return
        open(f"{directory}/log", "ab").close()
        file = open(f"{directory}/log", "rb")
    with file:
        if tail is not None:
            file.seek(_offset_of_last(file.fileno(), tail))
        pending: dict[str, tuple[str, bytes]] = {}
        rest = b""
        while True:
            # Asked before reading: what was written until the end is then surely read.
            running = follow and is_running is not None and is_running()
            while block := file.read(_BLOCK):
                *records, rest = (rest + block).split(b"\n")
                for record in records:
                    yield from _join(pending, record)
            if not running:
                break
            time.sleep(0.05)
        for stream, (stamp, data) in pending.items():
            yield stamp, stream, data


def _join(pending: dict[str, tuple[str, bytes]], record: bytes) -> Iterator[tuple[str, str, bytes]]:
    """Put the parts of a line together again; a torn record, from a crash, is passed over."""
    try:
        stamp, stream, data = logfile.decode(record)
    except ValueError:
        return
    if stream in pending:
        stamp, before = pending.pop(stream)
        data = before + data
    if data.endswith(b"\n") or len(data) >= _LONGEST_LINE:
        yield stamp, stream, data
    else:
        pending[stream] = (stamp, data)


def _offset_of_last(descriptor: int, count: int) -> int:
    """Where the last `count` lines begin, found by reading blocks from the end."""
    end = os.fstat(descriptor).st_size
    if count <= 0:
        return end
    position, tail = end, b""
    while position > 0:
        size = min(_BLOCK, position)
        position -= size
        tail = os.pread(descriptor, size, position) + tail
        if tail.count(b"\n") > count + tail.count(b" P "):
            break
    starts = [0, *(index + 1 for index, byte in enumerate(tail) if byte == 10)][:-1]
    if position > 0:
        starts = starts[1:]  # the first one is the middle of a record
    found = 0
    for start in reversed(starts):
        stop = tail.find(b"\n", start)
        head = tail[start:stop].split(b" ", 3)
        closes = len(head) > 2 and (head[2] == b"F" or start == starts[-1])
        if closes:
            found += 1
        if found > count:
            return position + stop + 1
    return position + (starts[0] if starts else 0)
