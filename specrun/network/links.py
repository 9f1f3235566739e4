"""Links, addresses and routes by rtnetlink(7): what a start of a container needs, and no more."""

from __future__ import annotations

import _socket
import fcntl
import os
import struct

from specrun_runtime import netlink
from specrun_runtime.constants import Clone
from specrun_runtime.netlink import Netlink, attribute, nested, number, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

NEWLINK, DELLINK, GETLINK, SETLINK, NEWADDR, GETADDR, NEWROUTE, GETROUTE = 16, 17, 18, 19, 20, 22, 24, 26
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER, IFLA_LINKINFO, IFLA_AF_SPEC, IFLA_NET_NS_FD = (
    1, 3, 4, 5, 10, 18, 26, 28,
)  # fmt: skip
AF_BRIDGE = 7
IFLA_PROTINFO, IFLA_BRPORT_MODE, IFLA_BRPORT_ISOLATED = 12, 4, 33
IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER, IFLA_MACVLAN_MODE, IFLA_VLAN_ID = 1, 2, 1, 1, 1
MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_FLAGS, IFA_F_NODAD = 1, 2, 4, 8, 0x02
RTA_DST, RTA_OIF, RTA_GATEWAY = 1, 4, 5
IFF_UP = 0x1
_ADDRESS_GENERATION_NONE = 1
NAMESPACE = "/proc/thread-self/ns/net"
"""Of this thread: others may have gone elsewhere."""


class Namespace:
    """A network namespace, held by a descriptor: without processes it lives as long as that."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    @classmethod
    def make(cls) -> Self:
        """A new one. This thread comes back before anything else happens."""
        from specrun_runtime import libc  # not for those who only look

        home = os.open(NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
        try:
            libc.unshare(Clone.NEWNET)
            try:
                return cls(os.open(NAMESPACE, os.O_RDONLY | os.O_CLOEXEC))
            finally:
                libc.setns(home, Clone.NEWNET)
        finally:
            os.close(home)

    @classmethod
    def of(cls, pid: int) -> Self:
        """The one of a process."""
        return cls(os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC))

    def close(self) -> None:
        """Let go of it."""
        os.close(self.number)


class Inside:
    """`with Inside(namespace):` this thread is in the namespace, and `home` is a descriptor of where it came from."""

    __slots__ = ("_namespace", "home")

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self.home = -1

    def __enter__(self) -> Self:
        from specrun_runtime import libc  # not for those who only look

        self.home = os.open(NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
        try:
            libc.setns(self._namespace.number, Clone.NEWNET)
        except BaseException:
            os.close(self.home)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        from specrun_runtime import libc  # not for those who only look

        libc.setns(self.home, Clone.NEWNET)
        os.close(self.home)


def index_of(name: str) -> int:
    """The index of a link; 0 when there is none of this name."""
    try:
        return _socket.if_nametoindex(name)
    except OSError:
        return 0


def is_up(name: str) -> bool:
    """Whether there is a link of this name, and it was taken up (netdevice(7), SIOCGIFFLAGS)."""
    plug = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        answer = fcntl.ioctl(plug.fileno(), 0x8913, struct.pack("16sh22x", name.encode(), 0))
    except OSError:
        return False
    finally:
        plug.close()
    return bool(struct.unpack_from("16sh", answer)[1] & IFF_UP)


def _link(index: int, *attributes: bytes, up: bool | None = None) -> bytes:
    flags = IFF_UP if up else 0
    change = 0 if up is None else IFF_UP
    return struct.pack("=BxHiII", 0, 0, index, flags, change) + b"".join(attributes)


def _silent() -> bytes:
    """No link-local IPv6 address: the host does not speak on this link."""
    return nested(IFLA_AF_SPEC, nested(_socket.AF_INET6, attribute(8, bytes([_ADDRESS_GENERATION_NONE]))))


def make_bridge(kernel: Netlink, name: str, mac: bytes) -> None:
    """A new bridge, down. Raises FileExistsError."""
    body = _link(
        0, text(IFLA_IFNAME, name), attribute(IFLA_ADDRESS, mac), nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, "bridge"))
    )
    kernel.ask(NEWLINK, body, netlink.CREATE | netlink.EXCLUSIVE, subject=name)


def set_mtu(kernel: Netlink, name: str, mtu: int) -> None:
    """The largest packet that the link carries, in bytes."""
    kernel.ask(NEWLINK, _link(0, text(IFLA_IFNAME, name), number(IFLA_MTU, mtu)), subject=f"{name} mtu {mtu}")


def make_veth(kernel: Netlink, inner: str, mac: bytes, mtu: int, outer: str, outer_namespace: int) -> None:
    """A pair: `inner` in the namespace of the socket `kernel`, `outer` in that of the descriptor, both down.

    Raises FileExistsError.
    """
    peer = _link(
        0,
        text(IFLA_IFNAME, outer),
        number(IFLA_MTU, mtu),
        attribute(IFLA_NET_NS_FD, struct.pack("=i", outer_namespace)),
    )
    data = nested(IFLA_INFO_DATA, attribute(VETH_INFO_PEER, peer))
    body = _link(
        0,
        text(IFLA_IFNAME, inner),
        attribute(IFLA_ADDRESS, mac),
        number(IFLA_MTU, mtu),
        nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, "veth"), data),
    )
    kernel.ask(NEWLINK, body, netlink.CREATE | netlink.EXCLUSIVE, subject=outer)


def make_macvlan(kernel: Netlink, name: str, parent: int, mac: bytes, mode: str, namespace: int) -> None:
    """A macvlan link of the link `parent`, down, in the namespace of the descriptor. Raises FileExistsError."""
    data = nested(IFLA_INFO_DATA, number(IFLA_MACVLAN_MODE, MACVLAN_MODES[mode]))
    body = _link(
        0,
        text(IFLA_IFNAME, name),
        attribute(IFLA_ADDRESS, mac),
        number(IFLA_LINK, parent),
        attribute(IFLA_NET_NS_FD, struct.pack("=i", namespace)),
        nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, "macvlan"), data),
    )
    kernel.ask(NEWLINK, body, netlink.CREATE | netlink.EXCLUSIVE, subject=name)


def make_vlan(kernel: Netlink, name: str, parent: int, identity: int) -> None:
    """The VLAN of this number of the link `parent`, down. Raises FileExistsError, and EOPNOTSUPP."""
    data = nested(IFLA_INFO_DATA, attribute(IFLA_VLAN_ID, struct.pack("=H", identity)))
    body = _link(
        0, text(IFLA_IFNAME, name), number(IFLA_LINK, parent), nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, "vlan"), data)
    )
    kernel.ask(NEWLINK, body, netlink.CREATE | netlink.EXCLUSIVE, subject=name)


def plug_in(kernel: Netlink, name: str, bridge: int) -> None:
    """Make the link a port of the bridge, and take it up."""
    body = _link(0, text(IFLA_IFNAME, name), number(IFLA_MASTER, bridge), _silent(), up=True)
    kernel.ask(NEWLINK, body, subject=name)


def set_port(kernel: Netlink, name: str, *, isolated: bool, hairpin: bool) -> None:
    """Of a bridge's port: whether it reaches the host only, and whether frames may go back where they came from."""
    parts = [attribute(IFLA_BRPORT_ISOLATED, bytes([isolated])), attribute(IFLA_BRPORT_MODE, bytes([hairpin]))]
    body = struct.pack("=BxHiII", AF_BRIDGE, 0, index_of(name), 0, 0) + nested(IFLA_PROTINFO, *parts)
    kernel.ask(SETLINK, body, subject=f"{name} as a port")


def take_up(kernel: Netlink, name: str) -> None:
    """Take the link up."""
    kernel.ask(NEWLINK, _link(0, text(IFLA_IFNAME, name), up=True), subject=name)


def delete(kernel: Netlink, name: str) -> None:
    """Remove the link; one that is gone is removed already."""
    try:
        kernel.ask(DELLINK, _link(0, text(IFLA_IFNAME, name)), subject=name)
    except OSError as error:
        if error.errno != 19:  # ENODEV
            raise


def add_address(kernel: Netlink, index: int, address: str, prefix: int) -> None:
    """Give the link an address."""
    family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
    packed = _socket.inet_pton(family, address)
    body = struct.pack("=BBBBI", family, prefix, 0, 0, index)
    body += attribute(IFA_LOCAL, packed) + attribute(IFA_ADDRESS, packed)
    if family == _socket.AF_INET:
        mask = (1 << 32 - prefix) - 1
        broadcast = int.from_bytes(packed, "big") | mask
        body += attribute(IFA_BROADCAST, broadcast.to_bytes(4, "big"))
    else:
        body += number(IFA_FLAGS, IFA_F_NODAD)  # the address is ours by our own records
    kernel.ask(NEWADDR, body, netlink.CREATE | netlink.EXCLUSIVE, subject=f"{address}/{prefix}")


def set_default_route(kernel: Netlink, index: int, gateway: str) -> None:
    """Everything else goes by way of `gateway`."""
    family = _socket.AF_INET6 if ":" in gateway else _socket.AF_INET
    body = struct.pack("=BBBBBBBBI", family, 0, 0, 0, 254, 3, 0, 1, 0)
    body += number(RTA_OIF, index) + attribute(RTA_GATEWAY, _socket.inet_pton(family, gateway))
    kernel.ask(NEWROUTE, body, netlink.CREATE | netlink.REPLACE, subject=f"default via {gateway}")


def kinds(kernel: Netlink) -> dict[str, str]:
    """The links of the host, each with its kind; "" for hardware and loopback."""
    found = {}
    for data in kernel.ask(GETLINK, _link(0), netlink.DUMP):
        parts = netlink.attributes(data, 16)
        about = netlink.attributes(parts.get(IFLA_LINKINFO, b""), 0)
        found[_text(parts[IFLA_IFNAME])] = _text(about.get(IFLA_INFO_KIND, b""))
    return found


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode()


def networks_in_use(kernel: Netlink) -> list[tuple[str, int, str]]:
    """What the host reaches directly or by a route, by its addresses and its routes: address, prefix and link."""
    names = {}
    for data in kernel.ask(GETLINK, _link(0), netlink.DUMP):
        names[struct.unpack_from("=i", data, 4)[0]] = _text(netlink.attributes(data, 16)[IFLA_IFNAME])
    found = []
    for data in kernel.ask(GETADDR, struct.pack("=BBBBI", 0, 0, 0, 0, 0), netlink.DUMP):
        family, prefix, _, _, index = struct.unpack_from("=BBBBI", data)
        parts = netlink.attributes(data, 8)
        packed = parts.get(IFA_LOCAL) or parts.get(IFA_ADDRESS)
        if packed and family in (_socket.AF_INET, _socket.AF_INET6):
            found.append((_socket.inet_ntop(family, packed), prefix, names.get(index, "")))
    for data in kernel.ask(GETROUTE, struct.pack("=BBBBBBBBI", 0, 0, 0, 0, 0, 0, 0, 0, 0), netlink.DUMP):
        family, prefix, _, _, table, _, _, kind, _ = struct.unpack_from("=BBBBBBBBI", data)
        parts = netlink.attributes(data, 12)
        if prefix and RTA_DST in parts and kind == 1 and table != 255 and family in (_socket.AF_INET, _socket.AF_INET6):
            index = struct.unpack("=I", parts.get(RTA_OIF, bytes(4)))[0]
            found.append((_socket.inet_ntop(family, parts[RTA_DST]), prefix, names.get(index, "")))
    return found
