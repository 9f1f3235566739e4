"""Compose's short syntaxes: `8080:80/udp` and `name:/path:ro`. Each raises ValueError that says what is wrong."""

from __future__ import annotations

import re
from typing import Any

_PORTS = re.compile("([0-9]+)(?:-([0-9]+))?")


def ports(text: str) -> list[dict[str, Any]]:
    """`[address:][published:]target[/protocol]`, each a number or a range, as fields of ports.

    Several published ports for one target are one port with a range; ranges of equal length are a port each.
    """
    rest, slash, protocol = text.partition("/")
    protocol = protocol.lower() if slash and protocol else "tcp"
    if protocol not in ("tcp", "udp", "sctp"):
        raise ValueError(f"{protocol!r} is not a protocol: expected tcp or udp")
    address, published, target = _parts(rest)
    if not target:
        raise ValueError("no port of the container is given")
    first, last = _range(target)
    common = {"protocol": protocol, **({"hostIP": _address(address)} if address else {})}
    if not published:
        return [{"containerPort": number, **common} for number in range(first, last + 1)]
    low, high = _range(published)
    if high - low != last - first:
        if last != first:
            raise ValueError(f"the ranges {published} and {target} are not equally long")
        return [{"containerPort": first, "hostPort": f"{low}-{high}", **common}]
    return [{"containerPort": number, "hostPort": low + number - first, **common} for number in range(first, last + 1)]


def _parts(text: str) -> tuple[str, str, str]:
    if text.startswith("["):
        address, bracket, rest = text[1:].partition("]")
        if not bracket or not rest.startswith(":"):
            raise ValueError("an IPv6 address stands in brackets, with : after it")
        published, _, target = rest[1:].rpartition(":")
        return address, published, target
    rest, _, target = text.rpartition(":")
    address, _, published = rest.rpartition(":")
    return address, published, target


def _range(text: str) -> tuple[int, int]:
    found = _PORTS.fullmatch(text)
    if not found:
        raise ValueError(f"{text!r} is not a port or a range of ports")
    first, last = int(found[1]), int(found[2] or found[1])
    if first > 65535 or last > 65535:
        raise ValueError(f"{text} is above 65535")
    if last < first:
        raise ValueError(f"the range {text} is empty")
    return first, last


def _address(text: str) -> str:
    from ipaddress import ip_address

    try:
        return str(ip_address(text))
    except ValueError:
        raise ValueError(f"{text!r} is not an IP address") from None


_PROPAGATION = ("private", "rprivate", "shared", "rshared", "slave", "rslave")


def volume(text: str, *, drives: bool = False) -> dict[str, Any]:
    """`[source:]target[:options]`, as fields of volumes: a source with a path in it is bound, another is a volume.

    With `drives`, one letter before a colon is a drive, as Compose takes it.
    """
    parts = _colons(text, drives)
    if len(parts) > 3:
        raise ValueError("too many colons")
    if not all(part.strip() for part in parts):
        raise ValueError("an empty part between colons")
    if len(parts) == 1:
        return {"type": "volume", "target": parts[0]}
    source, target = parts[0], parts[1]
    bound = source[0] in "./~" or "\\" in source or (drives and _drive(source))
    fields: dict[str, Any] = {"type": "bind" if bound else "volume", "source": source, "target": target}
    for option in parts[2].split(",") if len(parts) == 3 else []:
        fields.update(_option(option))
    if fields.get("propagation") and not bound:
        raise ValueError(f"{fields['propagation']} fits only a path of the host")
    return fields


def _option(option: str) -> dict[str, Any]:
    word = option.lower()
    if word == "ro":
        return {"readOnly": True}
    if option in ("z", "Z"):
        return {"selinux": option}
    if word == "nocopy":
        return {"noCopy": True}
    if word in _PROPAGATION:
        return {"propagation": word}
    return {} if word == "rw" else {"options": [option]}


def _colons(text: str, drives: bool) -> list[str]:
    """Split at colons, save those inside ${…} and behind the letter of a drive."""
    parts, depth, start = [], 0, 0
    for index, char in enumerate(text):
        if char == "{" and (depth or text[index - 1 : index] == "$"):
            depth += 1
        elif char == "}" and depth:
            depth -= 1
        elif char == ":" and not depth and not (drives and _after_drive(text, start, index)):
            parts.append(text[start:index])
            start = index + 1
    return [*parts, text[start:]]


def _after_drive(text: str, start: int, colon: int) -> bool:
    return colon == start + 1 and text[start].isascii() and text[start].isalpha()


def _drive(text: str) -> bool:
    return len(text) > 1 and text[1] == ":" and text[0].isascii() and text[0].isalpha()
