"""A two-way channel between a process and the ones it forks: messages in JSON, with descriptors where needed.

It uses the C module `_socket`, because importing `socket` takes as long as a third of a container's start.
"""

from __future__ import annotations

import _socket
import fcntl
import os
import struct

from specrun_runtime import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LARGEST = 256 << 10


class Channel:
    """One end. Messages keep their boundaries (SOCK_SEQPACKET); both ends are close-on-exec."""

    __slots__ = ("_socket",)

    def __init__(self, plug: _socket.socket) -> None:
        self._socket = plug

    @classmethod
    def at(cls, descriptor: int) -> Channel:
        """The end that has this descriptor."""
        return cls(_socket.socket(fileno=descriptor))

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        """Two connected ends."""
        first, second = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
        return cls(first), cls(second)

    def fileno(self) -> int:
        """The descriptor."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close this end; the other one then reads the end."""
        self._socket.close()

    def move(self, lowest: int) -> None:
        """Give this end a descriptor of `lowest` or more."""
        descriptor = fcntl.fcntl(self._socket.fileno(), fcntl.F_DUPFD_CLOEXEC, lowest)
        self._socket.close()
        self._socket = _socket.socket(fileno=descriptor)

    def send(self, message: dict[str, Any], descriptor: int = -1) -> None:
        """Send a message, with a descriptor if one is given. Raises BrokenPipeError when the other end is gone."""
        self.send_many(message, [descriptor] if descriptor >= 0 else [])

    def send_many(self, message: dict[str, Any], descriptors: list[int]) -> None:
        """Send a message with some descriptors."""
        send_with(self._socket, jsontext.dumps(message).encode(), descriptors)

    def receive_many(self, most: int) -> tuple[dict[str, Any] | None, list[int]]:
        """The next message and up to `most` descriptors; None at the end."""
        data, descriptors = receive_with(self._socket, most)
        return (jsontext.loads(data) if data else None), descriptors

    def receive(self) -> tuple[dict[str, Any] | None, int]:
        """The next message and its descriptor (-1 for none); None at the end."""
        message, descriptors = self.receive_many(1)
        return message, descriptors[0] if descriptors else -1


def listen(path: str) -> _socket.socket:
    """A socket at `path` that takes channels; a socket that a killed process has left there is replaced."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    plug = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    with_folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        plug.bind(f"/proc/self/fd/{with_folder}/{os.path.basename(path)}")
        plug.listen(16)
    finally:
        os.close(with_folder)
    return plug


def accept(listener: _socket.socket) -> Channel:
    """The next one that connects."""
    descriptor, _ = listener._accept()  # type: ignore[attr-defined] # what socket.accept calls
    return Channel.at(descriptor)


def connect(path: str, *, wait: bool = True) -> Channel:
    """The channel to whoever listens at `path`. Raises OSError, without `wait` also when too many are waiting there."""
    plug = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    plug.setblocking(wait)
    with_folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        plug.connect(f"/proc/self/fd/{with_folder}/{os.path.basename(path)}")
    finally:
        os.close(with_folder)
    plug.setblocking(True)
    return Channel(plug)


def send_with(plug: _socket.socket, data: bytes, descriptors: list[int]) -> None:
    """sendmsg(2) with SCM_RIGHTS (unix(7))."""
    ancillary = []
    if descriptors:
        rights = struct.pack(f"{len(descriptors)}i", *descriptors)
        ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)]
    plug.sendmsg([data], ancillary, _socket.MSG_NOSIGNAL)


def receive_with(plug: _socket.socket, most: int) -> tuple[bytes, list[int]]:
    """recvmsg(2) with up to `most` descriptors, which are close-on-exec."""
    while True:
        try:
            data, ancillary, _, _ = plug.recvmsg(_LARGEST, _socket.CMSG_SPACE(4 * most), _socket.MSG_CMSG_CLOEXEC)
            break
        except InterruptedError:
            continue
        except ConnectionResetError:
            return b"", []
    descriptors: list[int] = []
    for level, kind, rights in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            descriptors += struct.unpack(f"{len(rights) // 4}i", rights[: len(rights) // 4 * 4])
    return data, descriptors


def send_to(path: str, data: bytes, descriptors: list[int]) -> None:
    """Connect to the stream socket at `path` and send descriptors; raises OSError naming the path."""
    plug = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        # sun_path holds 107 bytes; a longer one is reached by way of its folder.
        with_folder = os.open(os.path.dirname(path) or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            plug.connect(f"/proc/self/fd/{with_folder}/{os.path.basename(path)}")
        finally:
            os.close(with_folder)
        send_with(plug, data, descriptors)
    except OSError as error:
        raise OSError(
            error.errno, f"{error.strerror}: no one listens there" if error.errno == 111 else error.strerror, path
        ) from error
    finally:
        plug.close()
