"""Sockets that a registry listens on: made here, or handed over by whoever keeps it running."""

from __future__ import annotations

import os
import socket

from specrun.errors import SpecrunError

HANDED_OVER = "SPECRUN_LISTENING"
"""The variable that names the descriptors of sockets which listen already."""
BACKLOG = 512
"""Connections that may wait to be taken."""


def parse(text: str) -> tuple[str, int]:
    """Host and port of HOST:PORT. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(text)
    return host.strip("[]"), int(port)


def listen(host: str, port: int) -> list[socket.socket]:
    """A socket for each address of the host. Raises SpecrunError when one is taken, or none of this machine."""
    made: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(found):
            sock = socket.socket(family, socket.SOCK_STREAM)
            made.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address)
            sock.listen(BACKLOG)
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
