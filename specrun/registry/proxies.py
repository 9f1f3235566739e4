"""The proxy for an address, by the environment, as Docker and the other tools of the field read it.

HTTP_PROXY and HTTPS_PROXY, in capitals or not, name one for each scheme; NO_PROXY names hosts that are asked directly.
"""

from __future__ import annotations

import base64
import ipaddress
import os
from urllib.parse import unquote, urlsplit

from specrun.errors import UsageError

_HINT = "expected http://[USER:PASSWORD@]HOST[:PORT]"


class Proxy:
    """Where it listens, and what it is told of who asks."""

    __slots__ = ("authorization", "host", "port")

    def __init__(self, host: str, port: int, authorization: str) -> None:
        self.host = host
        self.port = port
        self.authorization = authorization
        """The value of Proxy-Authorization; "" for none."""

    @property
    def headers(self) -> dict[str, str]:
        """What it is sent beside each request, and nobody else."""
        return {"Proxy-Authorization": self.authorization} if self.authorization else {}

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def proxy_for(scheme: str, host: str, port: int) -> Proxy | None:
    """The proxy by which a host is asked; None for none. Raises UsageError for a variable that names none."""
    variable = f"{scheme.upper()}_PROXY"
    text = os.environ.get(variable) or os.environ.get(variable.lower()) or ""
    if not text or _is_direct(host, port):
        return None
    parts = urlsplit(text if "://" in text else f"http://{text}")
    try:
        number = parts.port or 80
    except ValueError:
        number = 0
    if parts.scheme != "http" or not parts.hostname or not number:
        shown = text.rpartition("@")[2]  # without the password
        raise UsageError(f"{variable} names no proxy that can be used: {shown}", hint=_HINT)
    if parts.username is None:
        return Proxy(parts.hostname, number, "")
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
    return Proxy(parts.hostname, number, f"Basic {base64.b64encode(pair).decode('ascii')}")


def _is_direct(host: str, port: int) -> bool:
    host = host.strip("[]").lower().rstrip(".")
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    entries = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
    return any(_holds(entry.strip().lower(), host, address, port) for entry in entries.split(",") if entry.strip())


def _holds(entry: str, host: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None, port: int) -> bool:
    """Whether an entry of NO_PROXY, which may be `*`, HOST, .DOMAIN, ADDRESS or NETWORK, each with a port, means it."""
    if entry == "*":
        return True
    if address is not None and "/" in entry:
        try:
            return address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    name, colon, number = entry.rpartition(":")
    if colon and number.isdigit() and (":" not in name or name.endswith("]")):
        if int(number) != port:
            return False
        entry = name
    entry = entry.strip("[]")
    if address is not None:
        return _address(entry) == address
    domain = entry.removeprefix("*").lstrip(".")
    return bool(domain) and (host.endswith(f".{domain}") or (host == domain and entry == domain))


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
