"""Ports for servers of tests that have to be told one."""

from __future__ import annotations

import socket
from random import SystemRandom

_RANGE = range(20000, 32000)
"""Below those that the kernel gives away by itself: such a one may be somebody's before the server has it."""
_chance = SystemRandom()  # not the one that Hypothesis makes repeat itself


def free_port() -> int:
    """A port on which nobody listens."""
    while True:
        port = _chance.choice(_RANGE)
        try:
            with socket.socket() as probe:
                probe.bind(("", port))
        except OSError:
            continue
        return port
