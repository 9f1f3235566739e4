"""The format of a container's log: binary safe, appended to, readable as it is.

Each line is `<time> <stream> <tag> <bytes>`: the time in RFC 3339 with nanoseconds, the stream `stdout` or
`stderr`, and a tag `F` (full: a newline followed) or `P` (partial: the container's line goes on in the next
record of the stream, or ended there). It is the layout that the Kubernetes CRI gives its logs.
"""

from __future__ import annotations

import time


class Stamp:
    """The time of now as text; the text of one second is made once."""

    __slots__ = ("_second", "_text")

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def now(self) -> bytes:
        """RFC 3339 in UTC with nanoseconds."""
        nanoseconds = time.time_ns()
        second = nanoseconds // 1_000_000_000
        if second != self._second:
            self._second = second
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._text}.{nanoseconds % 1_000_000_000:09d}Z".encode()


def encode(stamp: bytes, stream: bytes, data: bytes) -> bytes:
    """The records of `data`, all with one time."""
    *whole, rest = data.split(b"\n")
    full = b"%s %s F " % (stamp, stream)
    records = b"".join([b"%s%s\n" % (full, line) for line in whole])
    if rest:
        records += b"%s %s P %s\n" % (stamp, stream, rest)
    return records


def decode(record: bytes) -> tuple[str, str, bytes]:
    """Time, stream and data of one record (without its newline). Raises ValueError for anything else."""
    stamp, stream, tag, data = record.split(b" ", 3)
    if stream not in (b"stdout", b"stderr") or tag not in (b"F", b"P"):
        raise ValueError("not a log record")
    return stamp.decode("ascii"), stream.decode("ascii"), data + b"\n" if tag == b"F" else data
