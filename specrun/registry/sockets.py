"""Sockets that a registry listens on: made here, or handed over by whoever keeps it running."""

from __future__ import annotations

import os
import socket

from specrun.errors import SpecrunError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

HANDED_OVER = "SPECRUN_LISTENING"
"""The variable that names the descriptors of sockets which listen already."""
_ANY = {"0.0.0.0", "::"}  # noqa: S104
BACKLOG = 512
"""Connections that may wait to be taken."""


def parse(text: str) -> tuple[str, int]:
    """Host and port of HOST:PORT. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(text)
    return host.strip("[]"), int(port)


def listen(host: str, port: int, beside: Iterable[socket.socket] = ()) -> list[socket.socket]:
    """A socket for each address of the host. Raises SpecrunError when one is taken, or none of this machine.

    `beside` are sockets of a server that goes on until another is ready. They share the port, as sockets of
    one user may, and:

    - One that has an address of the host already is taken along, and so is one whose address is a part of the host:
      the kernel gives it the connections of that address as long as it is there, and resets those that wait in it
      when it goes.
    - A new one whose address is a part of theirs does not listen yet. The server does that when it is ready; from then
      on the connections are its own.
    """
    made: list[socket.socket] = []
    rivals = [one for one in beside if one.getsockname()[1] == port]
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for one in rivals:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        for family, _, _, _, address in dict.fromkeys(found):
            near = {one.getsockname()[0]: one for one in rivals if one.family == family}
            if address[0] in near:
                made.append(near[address[0]].dup())
                continue
            sock = socket.socket(family, socket.SOCK_STREAM)
            made.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, bool(near))
            sock.bind(address)
            if not _ANY.intersection(near):
                sock.listen(BACKLOG)
            if address[0] in _ANY:
                made += [one.dup() for one in near.values()]
    except OSError as error:
        close(made)
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        hint = "another address: --listen HOST:PORT"
        raise SpecrunError(f"cannot listen on {host}:{port}: {why}", hint=hint) from error
    return made


def handed_over() -> list[socket.socket]:
    """Those that this process was started with; empty for none."""
    text = os.environ.pop(HANDED_OVER, "")
    return [socket.socket(fileno=int(number)) for number in text.split(",") if number]


def close(sockets: list[socket.socket]) -> None:
    """Listen no longer, in this process."""
    for sock in sockets:
        sock.close()
