"""Reaching the resolver: one process for a root, started when a container first needs names, gone when none does.

It is given two sockets that are bound to 127.0.0.11:53 in the container's own namespace, so nothing has to be
translated and nobody else can ask. The resolver closes them when the container's monitor ends.
"""

from __future__ import annotations

import _socket
import os
import sys

from specrun.files import discard, locked
from specrun.network import links
from specrun_runtime import channel, jsontext
from specrun_runtime.fds import start_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from specrun.paths import Root

ADDRESS, PORT = "127.0.0.11", 53
LISTENER = 3
"""The descriptor at which the resolver finds the socket that commands connect to."""


def is_wanted(endpoints: list[dict[str, Any]]) -> bool:
    """Whether a container with these endpoints resolves names: not on the default network alone, as with Docker."""
    return any(endpoint["name"] != "bridge" for endpoint in endpoints)


def register(root: Root, directory: str, identity: str, namespace: links.Namespace, monitor: int) -> None:
    """Let the resolver answer the container, which the process `monitor` answers for, in its namespace."""
    sockets = _bind(namespace)
    try:
        message = {"id": identity, "directory": directory, "monitor": [monitor, start_time(monitor)]}
        os.makedirs(root.run, mode=0o700, exist_ok=True)
        with locked(lock_path(root)):
            line = _connect(root) or _start(root)
            try:
                descriptors = [plug.fileno() for plug in sockets]
                channel.send_with(line, jsontext.dumps(message).encode(), descriptors)
            finally:
                line.close()
    finally:
        for plug in sockets:
            plug.close()


def is_running(root: Root) -> bool:
    """Whether there is a resolver."""
    line = _connect(root)
    if line is None:
        return False
    line.close()
    return True


def lock_path(root: Root) -> str:
    """Held by whoever starts the resolver or speaks to it, and by the resolver while it decides to end."""
    return root.lock("resolver")


def socket_path(root: Root) -> str:
    """Where the resolver listens for commands."""
    return f"{root.run}/resolver"


def _bind(namespace: links.Namespace) -> list[_socket.socket]:
    made: list[_socket.socket] = []
    try:
        with links.Inside(namespace):
            for kind in (_socket.SOCK_DGRAM, _socket.SOCK_STREAM):
                plug = _socket.socket(_socket.AF_INET, kind | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK, 0)
                made.append(plug)
                plug.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, int(kind == _socket.SOCK_STREAM))
                plug.bind((ADDRESS, PORT))
        made[1].listen(64)
    except BaseException:
        for plug in made:
            plug.close()
        raise
    return made


class _Folder:
    """A path to a socket in a folder whose own path may be longer than a socket's may be (unix(7): 107 bytes)."""

    def __init__(self, path: str) -> None:
        self._folder, self._name = os.path.split(path)

    def __enter__(self) -> str:
        self._descriptor = os.open(self._folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._descriptor}/{self._name}"

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def _connect(root: Root) -> _socket.socket | None:
    line = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    try:
        with _Folder(socket_path(root)) as path:
            line.connect(path)
    except OSError:
        line.close()
        return None
    return line


def _start(root: Root) -> _socket.socket:
    """Listen in its place, and start it: what is sent meanwhile waits for it."""
    discard(socket_path(root))
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        with _Folder(socket_path(root)) as path:
            listener.bind(path)
        listener.listen(128)
        # `root.id` is among the arguments, so that `ps` and a test can tell whose it is.
        command = [sys.executable, "-I", "-m", "specrun.network.resolver", root.path, root.run, root.id]
        actions = [(os.POSIX_SPAWN_DUP2, source, target) for target, source in enumerate([null] * 3)]
        actions.append((os.POSIX_SPAWN_DUP2, listener.fileno(), LISTENER))
        os.posix_spawn(sys.executable, command, {"LC_ALL": "C.UTF-8"}, file_actions=actions, setsid=True)
    finally:
        os.close(null)
        listener.close()
    line = _connect(root)
    if line is None:
        raise OSError(111, "the resolver could not be started", socket_path(root))
    return line
