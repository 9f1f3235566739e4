"""Pseudo-terminals: made inside the container, used from outside; and the caller's own terminal in raw mode."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct

from specrun_runtime import libc
from specrun_runtime.constants import (
    DEVPTS_SUPER_MAGIC,
    TIOCGPTPEER,
    TIOCGWINSZ,
    TIOCSCTTY,
    TIOCSPTLCK,
    TIOCSWINSZ,
    Resolve,
)
from specrun_runtime.errors import IsolationError, Refused
from specrun_runtime.fds import Fd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def open_pair(root: int) -> tuple[Fd, Fd]:
    """A new pseudo-terminal of the devpts instance that is mounted in `root`: master and slave (pts(4)).

    The slave is opened from the master (TIOCGPTPEER): what the container calls /dev/pts/0 is never looked at.
    Raises Refused when /dev/pts is no devpts.
    """
    flags = Resolve.BENEATH | Resolve.NO_SYMLINKS | Resolve.NO_MAGICLINKS
    try:
        number = libc.openat2(root, "dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY, 0, flags)
    except IsolationError as error:
        raise Refused(error.errno or errno.ENOENT, "a terminal needs a devpts mount there", "/dev/pts") from error
    master = Fd(number)
    try:
        if libc.filesystem_type(number) != DEVPTS_SUPER_MAGIC or not stat.S_ISCHR(os.fstat(number).st_mode):
            raise Refused(errno.ENODEV, "is not a devpts file system", "/dev/pts")
        fcntl.ioctl(number, TIOCSPTLCK, struct.pack("i", 0))
        slave = Fd(fcntl.ioctl(number, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except BaseException:
        master.close()
        raise
    return master, slave


def set_size(descriptor: int, rows: int, columns: int) -> None:
    """Give a terminal its size in characters."""
    fcntl.ioctl(descriptor, TIOCSWINSZ, struct.pack("HHHH", rows & 0xFFFF, columns & 0xFFFF, 0, 0))


def size(descriptor: int) -> tuple[int, int]:
    """Rows and columns of a terminal; raises OSError for what is none."""
    rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(descriptor, TIOCGWINSZ, b"\0" * 8))
    return rows, columns


def take_control(slave: int) -> None:
    """Make `slave` the controlling terminal of this session, and 0, 1 and 2."""
    fcntl.ioctl(slave, TIOCSCTTY, 0)
    for target in range(3):
        os.dup2(slave, target)


class RawMode:
    """The caller's terminal without line editing, echo and signals; restored at the end of the `with` block.

    A `with` block ends on every path but SIGKILL and SIGSTOP: its user turns SIGTERM and SIGHUP into exceptions.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._before: list[Any] | None = None

    def __enter__(self) -> RawMode:
        import termios

        self._before = termios.tcgetattr(self.descriptor)
        raw = termios.tcgetattr(self.descriptor)
        raw[0] &= ~(
            termios.IGNBRK
            | termios.BRKINT
            | termios.PARMRK
            | termios.ISTRIP
            | termios.INLCR
            | termios.IGNCR
            | termios.ICRNL
            | termios.IXON
        )
        raw[1] &= ~termios.OPOST
        raw[2] = raw[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        raw[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
        raw[6][termios.VMIN], raw[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self.descriptor, termios.TCSANOW, raw)
        return self

    def __exit__(self, *_: object) -> None:
        import termios

        if self._before is not None:
            termios.tcsetattr(self.descriptor, termios.TCSADRAIN, self._before)


class DetachKeys:
    """Finds the keys that leave a container (Docker's `--detach-keys`, ctrl-p ctrl-q) in what is typed."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._matched = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What is to be passed on, and whether the keys are complete. Keys that turn out to be no match are kept."""
        if not self._keys:
            return data, False
        passed = bytearray()
        for byte in data:
            if byte == self._keys[self._matched]:
                self._matched += 1
                if self._matched == len(self._keys):
                    self._matched = 0
                    return bytes(passed), True
                continue
            passed += self._keys[: self._matched]
            self._matched = 0
            if byte == self._keys[0]:
                self._matched = 1
            else:
                passed.append(byte)
        return bytes(passed), False


def parse_detach_keys(text: str) -> bytes:
    """`ctrl-p,ctrl-q` and the like as bytes. Raises ValueError."""
    keys = bytearray()
    for part in text.split(",") if text else ():
        letter = part.removeprefix("ctrl-")
        if (
            part.startswith("ctrl-")
            and len(letter) == 1
            and (letter.isascii() and letter.isalpha() or letter in "@[\\]^_")
        ):
            keys.append(ord(letter.upper()) & 0x1F)
        elif len(part) == 1 and part.isascii():
            keys += part.encode()
        else:
            raise ValueError(f"{part!r} is not a key: expected one character, or ctrl- and a letter or one of @[\\]^_")
    return bytes(keys)
