"""Signals by the names that people give them."""

from __future__ import annotations

import _signal

from specrun.errors import SpecrunError

SIGNALS = {name: number for name, number in vars(_signal).items() if name.startswith("SIG") and "_" not in name}


def signal_number(text: str) -> int:
    """The number of `SIGTERM`, `TERM` or `15`. Raises SpecrunError for no signal."""
    name = text.upper()
    if name.isascii() and name.isdigit() and 0 < int(name) < 65:
        return int(name)
    number = SIGNALS.get(name) or SIGNALS.get(f"SIG{name}")
    if number is None:
        raise SpecrunError(f"Invalid signal: {text}")
    return int(number)
