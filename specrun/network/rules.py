"""The nftables rules of a root: two tables of its own, made whole from the records or grown by one container's part.

The table of family `inet` publishes ports, hides containers behind the host's address, and keeps bridges apart. The
table of family `bridge` lets each container speak with its own addresses only. All rules are fixed; what changes are
the elements of sets and maps, so that a start adds elements and an end deletes them.
"""

from __future__ import annotations

from specrun.network.subnets import Subnet, packed
from specrun_runtime import nft

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from specrun.network.networks import Network
    from specrun.paths import Root

_INET = """
table inet {table} {{
	set bridges {{ type ifname; }}
	set internal {{ type ifname; }}
	set homes4 {{ type ifname . ipv4_addr; flags interval; }}
	set homes6 {{ type ifname . ipv6_addr; flags interval; }}
	set hidden4 {{ type ipv4_addr; flags interval; }}
	set hidden6 {{ type ipv6_addr; flags interval; }}
	set loops {{ type ifname . ifname; }}
	map any4 {{ type inet_proto . inet_service : ipv4_addr . inet_service; }}
	map any6 {{ type inet_proto . inet_service : ipv6_addr . inet_service; }}
	map one4 {{ type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }}
	map one6 {{ type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }}
	chain publish {{
		fib daddr type != local return
		dnat ip to ip daddr . meta l4proto . th dport map @one4
		dnat ip to meta l4proto . th dport map @any4
		dnat ip6 to ip6 daddr . meta l4proto . th dport map @one6
		dnat ip6 to meta l4proto . th dport map @any6
	}}
	chain arriving {{
		type nat hook prerouting priority dstnat; policy accept;
		ip daddr 127.0.0.0/8 return
		meta l4proto {{ tcp, udp }} jump publish
	}}
	chain leaving {{
		type nat hook output priority -100; policy accept;
		ip6 daddr ::1 return
		meta l4proto {{ tcp, udp }} jump publish
	}}
	chain hiding {{
		type nat hook postrouting priority srcnat; policy accept;
		oifname . ip saddr @homes4 ct status dnat masquerade
		oifname . ip6 saddr @homes6 ct status dnat masquerade
		oifname @bridges ip saddr 127.0.0.0/8 masquerade
		ip saddr @hidden4 oifname . ip saddr != @homes4 masquerade
		ip6 saddr @hidden6 oifname . ip6 saddr != @homes6 masquerade
	}}
	chain loopback {{
		type filter hook prerouting priority raw; policy accept;
		iifname @bridges ip daddr 127.0.0.0/8 drop
	}}
	chain host {{
		type filter hook input priority filter; policy accept;
		iifname @internal fib daddr . iif type != local drop
	}}
	chain between {{
		type filter hook forward priority filter; policy accept;
		iifname . oifname @loops accept
		iifname @internal drop
		oifname @internal drop
		oifname @bridges ct state established,related accept
		oifname @bridges ct status dnat accept
		oifname @bridges drop
	}}
}}
"""
_BRIDGE = """
table bridge {table} {{
	set macs {{ type ifname . ether_addr; }}
	set owners4 {{ type ifname . ipv4_addr; }}
	set owners6 {{ type ifname . ipv6_addr; }}
	set targets6 {{ typeof iifname . @th,64,128; }}
	chain guard {{
		type filter hook prerouting priority -300; policy accept;
		iifname != "v{root}*" accept
		iifname . ether saddr != @macs drop
		ether type ip iifname . ip saddr @owners4 accept
		ether type arp iifname . arp saddr ether @macs iifname . arp saddr ip @owners4 accept
		ether type != ip6 drop
		icmpv6 type {{ nd-router-advert, nd-redirect }} drop
		ip6 saddr :: icmpv6 type nd-neighbor-solicit accept
		ip6 saddr :: icmpv6 type mld2-listener-report accept
		iifname . ip6 saddr != @owners6 drop
		icmpv6 type nd-neighbor-advert iifname . @th,64,128 != @targets6 drop
	}}
}}
"""


_PROTOCOLS = {"tcp": 6, "udp": 17}


class Publication:
    """One published port: what arrives at `address` and `port` of the host goes to `inner` of the container.

    An `address` of 0.0.0.0 or :: stands for all of that family.
    """

    __slots__ = ("address", "inner", "port", "protocol", "target")

    def __init__(self, protocol: str, address: str, port: int, target: str, inner: int) -> None:
        self.protocol = protocol
        self.address = address
        self.port = port
        self.target = target
        """The container's address; "" where a process has to carry it over (IPv6 to a container without)."""
        self.inner = inner

    def document(self) -> dict[str, Any]:
        """As it is stored."""
        return {name: getattr(self, name) for name in self.__slots__}

    def member(self) -> Member:
        """The element of a map that it is; only where there is a target."""
        family = 6 if ":" in self.address else 4
        value = [_address(self.target), _port(self.inner)]
        if self.address in ("0.0.0.0", "::"):  # noqa: S104
            return Member("inet", f"any{family}", [_protocol(self.protocol), _port(self.port)], value)
        key = [_address(self.address), _protocol(self.protocol), _port(self.port)]
        return Member("inet", f"one{family}", key, value)


class Member:
    """An element of one of our sets or maps; each part of it as nft(8) reads it and as the kernel has it."""

    __slots__ = ("family", "key", "set", "value")

    def __init__(
        self, family: str, name: str, key: list[tuple[str, bytes]], value: list[tuple[str, bytes]] | None = None
    ) -> None:
        self.family = family
        self.set = name
        self.key = key
        self.value = value or []

    def text(self) -> str:
        """For nft(8)."""
        key, value = (" . ".join(text for text, _ in parts) for parts in (self.key, self.value))
        return f"{self.set} {{ {key} : {value} }}" if value else f"{self.set} {{ {key} }}"

    def element(self, table: str) -> nft.Element:
        """For the kernel: each part begins at a multiple of four bytes."""
        key, value = (b"".join(data + bytes(-len(data) % 4) for _, data in parts) for parts in (self.key, self.value))
        return nft.Element(self.family, table, self.set, key, value)


def _link(name: str) -> tuple[str, bytes]:
    return f'"{name}"', name.encode().ljust(16, b"\0")


def _mac(text: str) -> tuple[str, bytes]:
    return text, bytes.fromhex(text.replace(":", ""))


def _address(text: str) -> tuple[str, bytes]:
    return text, packed(text)


def _protocol(name: str) -> tuple[str, bytes]:
    return name, bytes([_PROTOCOLS[name]])


def _port(number: int) -> tuple[str, bytes]:
    return str(number), number.to_bytes(2, "big")


def table(root: Root) -> str:
    """The name of both tables."""
    return f"specrun_{root.id}"


def seen_path(root: Root) -> str:
    """The file that says when all of both tables was last seen to be there."""
    return f"{root.run}/rules.seen"


def whole(
    root: Root, networks: Iterable[Network], endpoints: Iterable[dict[str, Any]], published: Iterable[Publication]
) -> str:
    """A script that makes both tables anew, in one transaction."""
    name = table(root)
    lines = [f"add table {family} {name}\ndelete table {family} {name}" for family in ("inet", "bridge")]
    lines += [_INET.format(table=name), _BRIDGE.format(table=name, root=root.id)]
    for network in networks:
        lines += _of_network(root, network, "add")
    lines += [f"add element {one.family} {name} {one.text()}" for one in members(endpoints, published)]
    return "\n".join(lines) + "\n"


def gone(root: Root) -> str:
    """A script that removes both tables, also when they are not there."""
    name = table(root)
    return "".join(f"add table {family} {name}\ndelete table {family} {name}\n" for family in ("inet", "bridge"))


def of_network(root: Root, network: Network) -> str:
    """A script that adds a network's part."""
    return "\n".join(_of_network(root, network, "add")) + "\n"


def without_network(root: Root, network: Network) -> str:
    """A script that takes a network's part away."""
    lines = _of_network(root, network, "add") + _of_network(root, network, "delete")
    return "\n".join(lines) + "\n"


def change(root: Root, removed: Iterable[Member], added: Iterable[Member]) -> bytes:
    """A transaction for `nft.commit` that takes members away, whether they are there or not, and adds others."""
    name = table(root)
    return nft.transaction([one.element(name) for one in removed], [one.element(name) for one in added])


def _of_network(root: Root, network: Network, verb: str) -> list[str]:
    name, link = table(root), network.link(root)
    lines = [f'{verb} element inet {name} bridges {{ "{link}" }}']
    lines.append(f'{verb} element inet {name} loops {{ "{link}" . "{link}" }}')
    if network.internal:
        lines.append(f'{verb} element inet {name} internal {{ "{link}" }}')
    for pool in network.pools:
        subnet = Subnet.parse(pool["Subnet"])
        family = 4 if subnet.width == 32 else 6
        lines.append(f'{verb} element inet {name} homes{family} {{ "{link}" . {subnet} }}')
        if network.masquerades:
            lines.append(f"{verb} element inet {name} hidden{family} {{ {subnet} }}")
    return lines


def members(endpoints: Iterable[dict[str, Any]], published: Iterable[Publication]) -> list[Member]:
    """A container's part of the rules: by its endpoints, and by what it publishes."""
    found = [member for endpoint in endpoints if endpoint["outer"] for member in _of_endpoint(endpoint)]
    return found + [one.member() for one in published if one.target]


def _of_endpoint(endpoint: dict[str, Any]) -> Iterator[Member]:
    port = _link(endpoint["outer"])
    yield Member("bridge", "macs", [port, _mac(endpoint["mac"])])
    if endpoint["address"]:
        yield Member("bridge", "owners4", [port, _address(endpoint["address"])])
    for address in endpoint["addresses6"]:
        yield Member("bridge", "owners6", [port, _address(address)])
        yield Member("bridge", "targets6", [port, (f"0x{packed(address).hex()}", packed(address))])
