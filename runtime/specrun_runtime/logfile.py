"""The format of a container's log: binary safe, appended to, readable as it is.

Each line is `<time> <stream> <tag> <bytes>`: the time in RFC 3339 with nanoseconds, the stream `stdout` or
`stderr`, and a tag `F` (full: a newline followed) or `P` (partial: the container's line goes on in the next
record of the stream, or ended there). It is the layout that the Kubernetes CRI gives its logs.
"""

from __future__ import annotations

import os
import time

from specrun_runtime.fds import write_all


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


class Log:
    """The log of a running container: `path`, and as `path.1`, `path.2` and so on what was written before.

    A file that has grown to `size` bytes is moved on, and `count` files are kept. A disk that takes no more ends the
    log, not the container.
    """

    __slots__ = ("_count", "_file", "_path", "_size", "_stamp", "_written", "error")

    def __init__(self, path: str, size: int, count: int) -> None:
        self._path = path
        self._size = size
        """No limit when it is not positive."""
        self._count = count
        self._stamp = Stamp()
        self.error = ""
        self._open()
        _forget(path, count)

    def write(self, stream: bytes, data: bytes) -> None:
        """Append what the container wrote."""
        if self.error:
            return
        try:
            records = encode(self._stamp.now(), stream, data)
            while 0 < self._size < self._written + len(records):
                fits = records.rfind(b"\n", 0, max(0, self._size - self._written)) + 1
                if not fits and not self._written:
                    break  # one record that is longer than a file may be
                self._append(records[:fits])
                records = records[fits:]
                self._rotate()
            self._append(records)
        except OSError as error:
            self.error = f"the log could not be written: {error.strerror}"

    def _append(self, records: bytes) -> None:
        write_all(self._file, records)
        self._written += len(records)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.open(self._path, flags, 0o600)
        self._written = os.fstat(self._file).st_size

    def _rotate(self) -> None:
        """The oldest goes, the others move on; readers follow by the files' inodes."""
        for number in range(self._count - 1, 0, -1):
            try:
                os.rename(older(self._path, number - 1), older(self._path, number))
            except FileNotFoundError:
                continue
        if self._count == 1:
            os.unlink(self._path)
        os.close(self._file)
        self._open()


class NoLog:
    """Stands for a log where none is kept."""

    error = ""

    def write(self, stream: bytes, data: bytes) -> None:
        """Forget it."""

    def close(self) -> None:
        """There is nothing to close."""


def older(path: str, number: int) -> str:
    """The name of the log file that was moved on `number` times."""
    return f"{path}.{number}" if number else path


def _forget(path: str, count: int) -> None:
    """Remove what was moved on when more files were kept than `count`."""
    while True:
        try:
            os.unlink(older(path, count))
        except OSError:
            return
        count += 1


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
