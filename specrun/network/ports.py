"""Published ports: what `-p` says, and the sockets that keep a port of the host for its container.

A port is taken by binding a socket, so the kernel itself says whether it is free, for us and for everybody else. The
sockets go to a process that lives as long as the container's monitor (`specrun_runtime.holder`).
"""

from __future__ import annotations

import _socket
import os

from specrun.errors import Conflict, SpecrunError, UsageError
from specrun.network.subnets import parse, show
from specrun_runtime import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from specrun.paths import Root

PROTOCOLS = {"tcp": _socket.SOCK_STREAM, "udp": _socket.SOCK_DGRAM}
ANY = ("0.0.0.0", "::")  # noqa: S104


class PortTaken(Conflict):
    """A port of the host that somebody has already."""

    code = "port-taken"
    exit_status = 125


def parse_publish(text: str) -> list[tuple[str, dict[str, str]]]:
    """What one `-p [[address:][host port]:]port[/protocol]` asks for: port/protocol and binding, for each port.

    Raises UsageError, with Docker's words.
    """
    front, slash, protocol = text.rpartition("/") if "/" in text else (text, "", "tcp")
    if protocol == "sctp":
        raise UsageError("publishing sctp ports is not supported", hint="tcp and udp are")
    if protocol not in PROTOCOLS:
        raise UsageError(f"invalid proto: {protocol}", hint="expected tcp or udp")
    host, _, inner = front.rpartition(":")
    address, colon, outer = host.rpartition(":")
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    if colon and not address:
        raise UsageError(f"invalid publish opts format (should be name=value or a port but got '{text}')")
    if address and parse(address) is None:
        raise UsageError(f"invalid IP address: {address}")
    if not inner:
        raise UsageError(f"no port specified: {text}<empty>")
    first, last = port_range(inner, "containerPort")
    if not outer:
        return [(f"{port}/{protocol}", {"HostIp": address, "HostPort": ""}) for port in range(first, last + 1)]
    begin, end = port_range(outer, "hostPort")
    if end - begin != last - first:
        if first != last:
            raise UsageError(f"invalid ranges specified for container and host Ports: {inner} and {outer}")
        return [(f"{first}/{protocol}", {"HostIp": address, "HostPort": f"{begin}-{end}"})]
    return [
        (f"{first + step}/{protocol}", {"HostIp": address, "HostPort": str(begin + step)})
        for step in range(last - first + 1)
    ]


def parse_expose(text: str) -> list[str]:
    """The ports of one `--expose port[-port][/protocol]`. Raises UsageError."""
    numbers, _, protocol = text.partition("/")
    if (protocol or "tcp") not in PROTOCOLS:
        raise UsageError(f"invalid proto: {protocol}", hint="expected tcp or udp")
    first, last = port_range(numbers, "range format for --expose")
    return [f"{port}/{protocol or 'tcp'}" for port in range(first, last + 1)]


def port_range(text: str, what: str) -> tuple[int, int]:
    """The first and the last port of `80` or `80-90`. Raises UsageError."""
    ends = []
    for digits in text.split("-"):
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 5 and 0 < int(digits) < 65536):
            raise UsageError(f"invalid {what}: {text}", hint="ports are numbers from 1 to 65535")
        ends.append(int(digits))
    if len(ends) > 2 or ends[0] > ends[-1]:
        raise UsageError(f"invalid {what}: {text}", hint="a range is first-last")
    return ends[0], ends[-1]


class Held:
    """A port of the host that is bound for a container."""

    __slots__ = ("address", "inner", "plug", "port", "protocol")

    def __init__(self, protocol: str, address: str, port: int, inner: int, plug: _socket.socket) -> None:
        self.protocol = protocol
        self.address = address
        self.port = port
        self.inner = inner
        self.plug = plug


def hold(root: Root, bindings: dict[str, list[dict[str, str]]], addresses: list[str]) -> list[Held]:
    """Bind all ports or none; a binding that names no address is one for each of `addresses`. Raises PortTaken."""
    held: list[Held] = []
    try:
        for key in sorted(bindings, key=lambda key: int(key.partition("/")[0])):
            inner, _, protocol = key.partition("/")
            for binding in bindings[key] or [{"HostIp": "", "HostPort": ""}]:
                where = [binding["HostIp"]] if binding.get("HostIp") else addresses
                held += _hold_one(root, protocol, where, binding.get("HostPort") or "", int(inner))
    except BaseException:
        close(held)
        raise
    return held


def close(held: list[Held]) -> None:
    """Give the ports back."""
    for one in held:
        one.plug.close()


def _hold_one(root: Root, protocol: str, addresses: list[str], wanted: str, inner: int) -> list[Held]:
    """The same port at each of the addresses, chosen by the kernel where none is wanted."""
    if not wanted:
        candidates = [0] * 20  # the kernel chooses; it may be taken at the second address
    else:
        first, last = port_range(wanted, "hostPort")
        candidates = list(range(first, last + 1))
    refusal: OSError | None = None
    failed = (addresses[0], candidates[0])
    for candidate in candidates:
        held: list[Held] = []
        for address in addresses:
            port = held[0].port if held else candidate
            try:
                plug = _bind(protocol, address, port)
            except OSError as error:
                if error.errno == 97 and address == "::":  # a host without IPv6
                    continue
                refusal, failed = error, (address, port)
                close(held)
                break
            held.append(Held(protocol, show(*_parsed(address)), port or plug.getsockname()[1], inner, plug))
        else:
            return held
    assert refusal is not None  # noqa: S101
    raise _refused(root, protocol, failed[0], failed[1], wanted, refusal)


def _parsed(address: str) -> tuple[int, int]:
    found = parse(address)
    if found is None:
        raise SpecrunError(f"invalid IP address: {address}")
    return found


def _bind(protocol: str, address: str, port: int) -> _socket.socket:
    family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
    plug = _socket.socket(family, PROTOCOLS[protocol] | _socket.SOCK_CLOEXEC, 0)
    try:
        if family == _socket.AF_INET6:
            plug.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 1)
        if protocol == "tcp":
            plug.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)  # past ends of old connections
        plug.bind((address, port))
        if protocol == "tcp":
            plug.listen(128)  # only a listener keeps others with SO_REUSEADDR away
    except BaseException:
        plug.close()
        raise
    return plug


def _refused(root: Root, protocol: str, address: str, port: int, wanted: str, error: OSError) -> SpecrunError:
    where = f"[{address}]" if ":" in address else address
    if error.errno == 99:  # EADDRNOTAVAIL
        return SpecrunError(
            f"cannot publish at {where}:{wanted or 0}: this host has no address {address}",
            hint="give one of the host's own addresses (ip address), or none",
        )
    if error.errno != 98:  # EADDRINUSE
        return SpecrunError(f"cannot publish at {where}:{wanted or 0}: {error.strerror}")
    holder = holder_of(root, protocol, port)
    return PortTaken(
        f"Bind for {where}:{wanted} failed: port is already allocated" + (f" by {holder}" if holder else ""),
        hint="choose another port of the host, or stop what has it",
    )


def holder_of(root: Root, protocol: str, port: int) -> str:
    """Who has the port: a container of ours by its name, or a process by its name and pid; "" when nobody is found."""
    for identity, record in records(root):
        if any(one["protocol"] == protocol and one["port"] == port for one in record["published"]):
            return f"container {name_of(root, identity)}"
    inodes = {
        line.split()[9]
        for family in ("", "6")
        for line in _lines(f"/proc/net/{protocol}{family}")
        if int(line.split()[1].rpartition(":")[2], 16) == port and line.split()[3] in ("0A", "07")
    }
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            for entry in os.listdir(f"/proc/{pid}/fd"):
                target = os.readlink(f"/proc/{pid}/fd/{entry}")
                if target.startswith("socket:[") and target[8:-1] in inodes:
                    return f"{_program(pid)} (pid {pid})"
        except OSError:
            continue
    return ""


def records(root: Root) -> list[tuple[str, dict[str, Any]]]:
    """What holds the containers of this root to their networks, by id."""
    from specrun_runtime import attachment

    try:
        entries = os.listdir(root.containers)
    except FileNotFoundError:
        return []
    found = ((entry, attachment.load(f"{root.containers}/{entry}")) for entry in entries)
    return [(entry.lstrip("."), record) for entry, record in found if record]


def name_of(root: Root, identity: str) -> str:
    """The name of a container; the beginning of its id where that is all there is."""
    try:
        with open(f"{root.containers}/{identity}/container.json", "rb") as file:
            return str(jsontext.loads(file.read())["name"])
    except (OSError, ValueError, KeyError):
        return identity[:12]


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().splitlines()[1:]
    except OSError:
        return []


def _program(pid: str) -> str:
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        words = file.read().split(b"\0")
    if any(b"specrun_runtime" in word for word in words):
        return "a container of another specrun root"
    with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
        return file.read().strip()
