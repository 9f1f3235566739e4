"""netlink(7): requests to the kernel, each answered before the next is sent.

Importing pyroute2 takes 180 ms, three times as long as a whole start of a container. What a start needs is a dozen
messages, whose layout is fixed for ever, so they are put together here.
"""

from __future__ import annotations

import _socket
import os
import struct

from specrun_runtime.errors import IsolationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

ROUTE = 0
NETFILTER = 12

REQUEST, ACK, REPLACE, EXCLUSIVE, CREATE, DUMP = 0x1, 0x4, 0x100, 0x200, 0x400, 0x300
NESTED = 0x8000
_ERROR, _DONE = 2, 3
_SO_SNDBUFFORCE = 32
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")


class Netlink:
    """A socket that speaks to the network namespace in which it was made, wherever its process goes afterwards."""

    __slots__ = ("_sequence", "_socket")

    def __init__(self, protocol: int = ROUTE) -> None:
        kind = _socket.SOCK_RAW | _socket.SOCK_CLOEXEC
        self._socket = _socket.socket(_socket.AF_NETLINK, kind, protocol)
        self._sequence = 0

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def ask(self, kind: int, body: bytes, flags: int = 0, *, subject: str = "") -> list[bytes]:
        """Send a request and give the bodies of the answers. Raises IsolationError with the kernel's errno."""
        dump = flags & DUMP == DUMP
        self._sequence += 1
        flags |= REQUEST if dump else REQUEST | ACK
        self._socket.send(message(kind, flags, self._sequence, body))
        answers: list[bytes] = []
        while True:
            for answered, number, data in _split(self._socket.recv(1 << 17)):
                if number != self._sequence:
                    continue
                if answered == _ERROR:
                    code = -struct.unpack_from("=i", data)[0]
                    if code:
                        raise IsolationError.of(code, "netlink", subject or os.strerror(code))
                    return answers
                if answered == _DONE:
                    return answers
                answers.append(data)

    def send_together(self, messages: bytes) -> None:
        """Send messages that are put together already, the last of which asks for an answer.

        Raises IsolationError for the first that the kernel refuses.
        """
        if len(messages) > 1 << 16:
            self._socket.setsockopt(_socket.SOL_SOCKET, _SO_SNDBUFFORCE, 2 * len(messages))
        self._socket.send(messages)
        # The kernel has done all of it by now, and its answers are there.
        answered = False
        while True:
            try:
                data = self._socket.recv(1 << 17, _socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            for kind, _, body in _split(data):
                if kind == _ERROR and (code := -struct.unpack_from("=i", body)[0]):
                    raise IsolationError.of(code, "netlink", os.strerror(code))
                answered = True
        if not answered:
            raise IsolationError.of(5, "netlink", "no answer")


def message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    """One message of any protocol, padded to four bytes."""
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, sequence, 0) + body + bytes(-len(body) % 4)


def _split(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, _, number, _ = _HEADER.unpack_from(data, at)
        if length < _HEADER.size:
            return
        yield kind, number, data[at + _HEADER.size : at + length]
        at += length + 3 & ~3


def attribute(kind: int, data: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    return _ATTRIBUTE.pack(len(data) + 4, kind) + data + bytes(-len(data) % 4)


def text(kind: int, value: str) -> bytes:
    """An attribute of a C string."""
    return attribute(kind, value.encode() + b"\0")


def number(kind: int, value: int) -> bytes:
    """An attribute of 32 bits, in the byte order of the host."""
    return attribute(kind, struct.pack("=I", value))


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute of attributes."""
    return attribute(kind | NESTED, b"".join(attributes))


def attributes(data: bytes, at: int) -> dict[int, bytes]:
    """The attributes in `data` from offset `at` on."""
    found = {}
    while at + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[at + 4 : at + length]
        at += length + 3 & ~3
    return found


def items(data: bytes) -> Iterator[bytes]:
    """What a list holds: attributes that all have the same number."""
    at = 0
    while at + 4 <= len(data):
        length, _ = _ATTRIBUTE.unpack_from(data, at)
        if length < 4:
            return
        yield data[at + 4 : at + length]
        at += length + 3 & ~3
