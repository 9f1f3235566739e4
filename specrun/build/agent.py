"""An ssh agent for a step: a socket of our own, behind which only asking for keys and signing reach the real agent.

The real agent's socket is never mounted: a step could change its owner and mode, remove the keys in it or lock it. The
messages are those of draft-miller-ssh-agent: a length of four bytes, a kind of one, a body.
"""

from __future__ import annotations

import _socket
import os
import select
import signal
import struct
from contextlib import contextmanager

from specrun_runtime import libc
from specrun_runtime.constants import Prctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_ALLOWED = (11, 13)
"""SSH_AGENTC_REQUEST_IDENTITIES and SSH_AGENTC_SIGN_REQUEST."""
_FAILURE = b"\0\0\0\1\5"
_LONGEST = 256 << 10
_MOST = 32
"""Connections at once."""
_PATIENCE = 10.0
"""Seconds that a client may take to read an answer."""


@contextmanager
def forwarding(agent: str, folder: str, *, mode: int, owner: tuple[int, int]) -> Iterator[str]:
    """The path of a socket in `folder` that leads to the agent's; a process of ours serves it meanwhile."""
    path = f"{folder}/agent{os.urandom(4).hex()}"
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    with_folder = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        listener.bind(f"/proc/self/fd/{with_folder}/{os.path.basename(path)}")  # a socket's own path is short
    finally:
        os.close(with_folder)
    os.chown(path, *owner)
    os.chmod(path, mode)
    listener.listen(_MOST)
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            _begin(parent, listener.fileno())
            _serve(listener, agent)
        finally:
            os._exit(1)
    listener.close()
    try:
        yield path
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.unlink(path)


def _begin(parent: int, kept: int) -> None:
    """Die with the build, and hold nothing of it."""
    libc.prctl(Prctl.SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal; the build ends us
    os.closerange(3, kept)
    os.closerange(kept + 1, 1 << 16)


class _Client:
    """A connection from the step, and the one to the agent that belongs to it."""

    def __init__(self, number: int, agent: str) -> None:
        self.client = _socket.socket(fileno=number)
        self.client.settimeout(_PATIENCE)
        self.agent = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        self._held = b""
        try:
            self.agent.connect(agent)
        except OSError:
            self.close()
            raise

    def serve(self) -> bool:
        """Take what has come, and answer it if it is whole; False at the end."""
        try:
            data = self.client.recv(65536)
            self._held += data
            while (message := self._message()) is not None:
                self.client.sendall(self._answer(message))
        except (OSError, ValueError):
            return False
        return bool(data)

    def _message(self) -> bytes | None:
        """The next whole message. Raises ValueError for one that is too long."""
        if len(self._held) < 4:
            return None
        end = 4 + struct.unpack_from(">I", self._held)[0]
        if not 4 < end <= _LONGEST:
            raise ValueError("no message of an agent is so long")
        if len(self._held) < end:
            return None
        message, self._held = self._held[:end], self._held[end:]
        return message

    def _answer(self, message: bytes) -> bytes:
        if message[4] not in _ALLOWED:
            return _FAILURE
        self.agent.sendall(message)
        head = self._exactly(4)
        size = struct.unpack(">I", head)[0]
        if size > _LONGEST:
            raise ValueError("no answer of an agent is so long")
        return head + self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.agent.recv(size - len(data))
            if not part:
                raise ValueError("the agent has ended")
            data += part
        return data

    def close(self) -> None:
        """Close both."""
        self.client.close()
        self.agent.close()


def _serve(listener: _socket.socket, agent: str) -> None:
    """The whole life of the process that forwards."""
    clients: dict[int, _Client] = {}
    while True:
        poll = select.poll()
        for number in clients:
            poll.register(number, select.POLLIN)
        if len(clients) < _MOST:
            poll.register(listener.fileno(), select.POLLIN)
        for number, _ in poll.poll():
            if number == listener.fileno():
                accepted, _ = listener._accept()  # type: ignore[attr-defined] # what socket.accept calls
                try:
                    client = _Client(accepted, agent)
                except OSError:
                    continue  # the agent is gone; the step's own program says so
                clients[client.client.fileno()] = client
            elif not clients[number].serve():
                clients.pop(number).close()
