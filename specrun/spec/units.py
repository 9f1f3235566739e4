"""Amounts and addresses as people write them, to the one form that two ways of writing have in common.

Each function raises ValueError for anything else; the patterns say the same to JSON Schema.
"""

from __future__ import annotations

import re
from typing import Any

SIZE = "^[0-9]+(\\.[0-9]+)? ?([bB]|[kKmMgGtTpP]([iI]?[bB]|[iI])?)?$"
DURATION = "^([0-9]+(\\.[0-9]+)?(ns|us|ms|s|m|h))+$|^0$"
ABOVE_ZERO = "^(?!0+(\\.0+)?$)[0-9]+(\\.[0-9]+)?$"
MODE = "^0?[0-7]{3,4}$"
MAC = "^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$"

_POWERS = {"": 0, "b": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def size(value: Any) -> int:
    """Bytes of `64m`, `64MiB` or `67108864`: all units are powers of 1024, as Docker's are."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if not isinstance(value, str) or not re.fullmatch(SIZE[1:-1], value):
        raise ValueError
    found = re.match("([0-9.]+) ?([a-zA-Z]?)", value)
    if found is None:
        raise ValueError
    return int(float(found[1]) * 1024 ** _POWERS[found[2].lower()])


def duration(value: Any) -> float:
    """Seconds of `1m30s`, in Go's notation."""
    if value == "0":
        return 0.0
    if not isinstance(value, str) or not re.fullmatch(DURATION[1 : DURATION.index("$")], value):
        raise ValueError
    parts = re.findall("([0-9.]+)(ns|us|ms|s|m|h)", value)
    return float(sum(float(number) * _SECONDS[unit] for number, unit in parts))


def mode(value: Any) -> str:
    """Four octal digits."""
    if not isinstance(value, str) or not re.fullmatch(MODE[1:-1], value):
        raise ValueError
    return f"{int(value, 8):04o}"


def number(value: Any) -> float:
    """A number above 0, in quotes or not."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError
    if isinstance(value, str) and not re.fullmatch(ABOVE_ZERO[1:-1], value):
        raise ValueError
    if float(value) <= 0:
        raise ValueError
    return float(value)


def address(value: Any) -> str:
    """An IPv4 or IPv6 address, compressed."""
    from ipaddress import ip_address

    if not isinstance(value, str):
        raise ValueError
    return str(ip_address(value))


def endpoint(value: Any) -> str:
    """`HOST:PORT`; an IPv6 address stands in brackets."""
    from ipaddress import ip_address

    host, colon, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    if not colon or not host or not (port.isascii() and port.isdigit()) or not 1 <= int(port) <= 65535:
        raise ValueError
    if host.startswith("["):
        return f"[{ip_address(host.removeprefix('[').removesuffix(']'))}]:{int(port)}"
    if not re.fullmatch("[a-zA-Z0-9.-]+", host):
        raise ValueError
    return f"{host.lower()}:{int(port)}"


def subnet(value: Any) -> str:
    """A network, without host bits."""
    from ipaddress import ip_network

    if not isinstance(value, str) or "/" not in value:
        raise ValueError
    return str(ip_network(value))


def mac(value: Any) -> str:
    """A MAC address in lower case."""
    if not isinstance(value, str) or not re.fullmatch(MAC[1:-1], value):
        raise ValueError
    return value.lower()
