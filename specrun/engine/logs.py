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
    directory: str,
    *,
    follow: bool = False,
    tail: int | None = None,
    since: str = "",
    until: str = "",
    is_running: Callable[[], bool] | None = None,
) -> Iterator[tuple[str, str, bytes]]:
    """The lines of the log in `directory`: time (RFC 3339), stream, bytes with the newline if there was one.

    With `tail`, the last so many lines. `since` and `until` are times as the log has them, in UTC with nine digits.
    With `follow`, goes on until `is_running` says no and all is read, through rotations and restarts.
    """
    pending: dict[str, tuple[str, bytes]] = {}
    rest = b""
    for block in _blocks(f"{directory}/log", follow, tail, is_running):
        *records, rest = (rest + block).split(b"\n")
        for record in records:
            for line in _join(pending, record):
                if line[0] >= since and not (until and line[0] > until):
                    yield line
        if until and pending.get("stdout", pending.get("stderr", ("",)))[0] > until:
            return
    for stream, (stamp, data) in pending.items():
        if stamp >= since and not (until and stamp > until):
            yield stamp, stream, data


def _blocks(path: str, follow: bool, tail: int | None, is_running: Callable[[], bool] | None) -> Iterator[bytes]:
    """What the files of a log hold, the oldest first; a file that is moved on while it is read is read to its end."""
    files = _open_after(path, None)
    while not files and follow and is_running is not None and is_running():
        time.sleep(0.05)
        files = _open_after(path, None)
    if tail is not None:
        _skip_to_last(files, tail)
    try:
        while files:
            # Asked before reading: what was written until the end is then surely read.
            running = follow and is_running is not None and is_running()
            while block := os.read(files[0], _BLOCK):
                yield block
            if len(files) > 1:
                os.close(files.pop(0))
            elif newer := _open_after(path, files[0]):
                while block := os.read(files[0], _BLOCK):  # written between the last read and the rotation
                    yield block
                os.close(files[0])
                files = newer
            elif running:
                time.sleep(0.05)
            else:
                return
    finally:
        for descriptor in files:
            os.close(descriptor)


def _open_after(path: str, last: int | None) -> list[int]:
    """The files of the log that are younger than the open file `last`, or all of them, the oldest first.

    They may be moved on meanwhile: what was opened counts only if the youngest is still the youngest afterwards.
    """
    while True:
        found: list[int] = []
        number = 0
        while True:
            try:
                descriptor = os.open(logfile.older(path, number), os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                break
            if last is not None and os.path.sameopenfile(descriptor, last):
                os.close(descriptor)
                break
            found.insert(0, descriptor)
            number += 1
        try:
            if not found or os.path.samestat(os.stat(path), os.fstat(found[-1])):
                return found
        except FileNotFoundError:
            pass  # between two names
        for descriptor in found:
            os.close(descriptor)


def _skip_to_last(files: list[int], count: int) -> None:
    """Set the files' positions, so that what is left to read are the last `count` lines."""
    for descriptor in reversed(files):
        offset, found = _offset_of_last(descriptor, count)
        os.lseek(descriptor, offset, os.SEEK_SET)
        count -= found


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


def _offset_of_last(descriptor: int, count: int) -> tuple[int, int]:
    """Where the last `count` lines begin, found by reading blocks from the end; and how many there are."""
    end = os.fstat(descriptor).st_size
    if count <= 0:
        return end, 0
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
            return position + stop + 1, count
    return position + (starts[0] if starts else 0), found
