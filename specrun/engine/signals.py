"""Signals by the names that people give them."""

from __future__ import annotations

import _signal

from specrun.errors import SpecrunError

SIGNALS = {name: number for name, number in vars(_signal).items() if name.startswith("SIG") and "_" not in name}


def signal_number(text: str) -> int:
    """The number of `SIGTERM`, `TERM`, `RTMIN+3` or `15`. Raises SpecrunError for no signal."""
    name = text.upper()
    if name.isascii() and name.isdigit() and 0 < int(name) < 65:
        return int(name)
    number = SIGNALS.get(name) or SIGNALS.get(f"SIG{name}") or _real_time(name.removeprefix("SIG"))
    if not number:
        raise SpecrunError(f"Invalid signal: {text}")
    return int(number)


def _real_time(name: str) -> int:
    """signal(7): those of real-time have no names of their own but RTMIN+1 to RTMAX-1; 0 for none of them."""
    base, distance = name[:5], name[6:]
    if base not in ("RTMIN", "RTMAX") or not distance.isascii() or not distance.isdigit():
        return 0
    offset = {"RTMIN+": int(distance), "RTMAX-": -int(distance)}.get(name[:6])
    number = 0 if offset is None else SIGNALS[f"SIG{base}"] + offset
    return number if SIGNALS["SIGRTMIN"] <= number <= SIGNALS["SIGRTMAX"] else 0
