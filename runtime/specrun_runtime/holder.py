"""The process that keeps a container's published ports: it has them bound as long as the container's monitor lives.

The kernel's rules carry the traffic. What they cannot carry comes to these sockets, and is passed on here: IPv6 to a
container without IPv6, the host's own ::1, and everything while somebody has removed the rules.

Descriptor 0 is a file with the request, 3 is a pidfd of the monitor, the sockets follow.
"""

from __future__ import annotations

import _signal
import _socket
import os
import select
import sys

from specrun_runtime import jsontext
from specrun_runtime.errors import IsolationError
from specrun_runtime.fds import read_all, start_time, write_all
from specrun_runtime.launch import base_interpreter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_BOOT = "import sys; sys.path.append({path!r}); from specrun_runtime.holder import main; main()"
_SOURCE_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_MONITOR, _FIRST = 3, 4
_CHUNK = 65536
_UDP_IDLE = 90


def spawn(monitor: int, sockets: list[int], targets: list[dict[str, Any]], *, label: str) -> list[int]:
    """Start one for these sockets; each target has `protocol`, `address` and `port`. Gives its pid and start time.

    `monitor` is the pid of the process that it ends with, which must be a child of this one or well known.
    """
    handle = os.pidfd_open(monitor)
    request = os.memfd_create("specrun-ports", os.MFD_CLOEXEC)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    floor = _FIRST + len(sockets) + 8
    high: list[int] = []
    try:
        write_all(request, jsontext.dumps({"targets": targets}).encode())
        os.lseek(request, 0, os.SEEK_SET)
        wanted = [request, null, null, handle, *sockets]
        high = [_above(source, floor) for source in wanted]
        actions = [(os.POSIX_SPAWN_DUP2, source, target) for target, source in enumerate(high)]
        command = [base_interpreter(), "-I", "-S", "-X", "utf8", "-c", _BOOT.format(path=_SOURCE_ROOT), label]
        pid = os.posix_spawn(command[0], command, {}, file_actions=actions, setsid=True)
    except OSError as error:
        raise IsolationError.of(error.errno or 5, "posix_spawn", base_interpreter()) from error
    finally:
        for descriptor in [request, null, handle, *high]:
            os.close(descriptor)
    return [pid, start_time(pid)]


def _above(source: int, floor: int) -> int:
    import fcntl

    return fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, floor)


def main() -> None:
    """Hold the ports until the monitor has ended. Never returns."""
    for number in (_signal.SIGHUP, _signal.SIGINT, _signal.SIGTERM):
        _signal.signal(number, _signal.SIG_IGN)
    _signal.signal(_signal.SIGCHLD, _signal.SIG_IGN)
    os.chdir("/")
    targets = jsontext.loads(read_all(0))["targets"]
    poll = select.poll()
    poll.register(_MONITOR, select.POLLIN)
    doors: dict[int, tuple[_socket.socket, dict[str, Any]]] = {}
    for descriptor, target in enumerate(targets, _FIRST):
        os.set_inheritable(descriptor, False)
        doors[descriptor] = (_socket.socket(fileno=descriptor), target)
        doors[descriptor][0].setblocking(False)
        poll.register(descriptor, select.POLLIN)
    relays: dict[int, _Relay] = {}
    while True:
        for number, _ in poll.poll():
            if number == _MONITOR:
                os._exit(0)
            plug, target = doors[number]
            if target["protocol"] == "tcp":
                _accept(plug, target)
            else:
                # One process passes on what comes to this port, as long as anything comes.
                poll.unregister(number)
                relays[number] = _Relay(plug, target)
                relays[number].begin()


def _accept(plug: _socket.socket, target: dict[str, Any]) -> None:
    try:
        descriptor, _ = plug._accept()  # type: ignore[attr-defined]
    except OSError:
        return
    if os.fork() == 0:
        try:
            _carry(_socket.socket(fileno=descriptor), _connect(target, _socket.SOCK_STREAM))
        finally:
            os._exit(0)
    os.close(descriptor)


def _connect(target: dict[str, Any], kind: int) -> _socket.socket:
    family = _socket.AF_INET6 if ":" in target["address"] else _socket.AF_INET
    plug = _socket.socket(family, kind | _socket.SOCK_CLOEXEC, 0)
    plug.connect((target["address"], target["port"]))
    return plug


def _carry(outer: _socket.socket, inner: _socket.socket) -> None:
    """Both ways, until both sides have said all."""
    outer.setblocking(True)
    poll = select.poll()
    poll.register(_MONITOR, select.POLLIN)
    other = {outer.fileno(): (outer, inner), inner.fileno(): (inner, outer)}
    for number in other:
        poll.register(number, select.POLLIN)
    left = 2
    while left:
        for number, _ in poll.poll():
            if number == _MONITOR:
                return
            source, sink = other[number]
            data = source.recv(_CHUNK)
            if data:
                sink.sendall(data)
            else:
                poll.unregister(number)
                sink.shutdown(_socket.SHUT_WR)
                left -= 1


class _Relay:
    """Datagrams of one port, each sender with a socket of its own towards the container."""

    def __init__(self, plug: _socket.socket, target: dict[str, Any]) -> None:
        self.plug = plug
        self.target = target
        self.senders: dict[Any, _socket.socket] = {}
        self.back: dict[int, Any] = {}

    def begin(self) -> None:
        """In a process of its own."""
        if os.fork() == 0:
            try:
                self._run()
            finally:
                os._exit(0)

    def _run(self) -> None:
        poll = select.poll()
        poll.register(_MONITOR, select.POLLIN)
        poll.register(self.plug.fileno(), select.POLLIN)
        while True:
            ready = poll.poll(_UDP_IDLE * 1000)
            if not ready:
                self._forget(poll)
            for number, _ in ready:
                if number == _MONITOR:
                    return
                try:
                    self._pass(number, poll)
                except OSError:
                    continue  # refused there, or full: a datagram may be lost

    def _pass(self, number: int, poll: select.poll) -> None:
        if number != self.plug.fileno():
            sender = self.back[number]
            self.plug.sendto(self.senders[sender].recv(_CHUNK), sender)
            return
        data, sender = self.plug.recvfrom(_CHUNK)
        if sender not in self.senders:
            if len(self.senders) > 500:
                self._forget(poll)
            self.senders[sender] = _connect(self.target, _socket.SOCK_DGRAM)
            self.back[self.senders[sender].fileno()] = sender
            poll.register(self.senders[sender].fileno(), select.POLLIN)
        self.senders[sender].send(data)

    def _forget(self, poll: select.poll) -> None:
        for plug in self.senders.values():
            poll.unregister(plug.fileno())
            plug.close()
        self.senders.clear()
        self.back.clear()


if __name__ == "__main__":
    sys.exit("started by specrun only")
