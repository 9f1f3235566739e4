"""The members of our sets and maps: those that should be there, and those that the kernel has."""

from __future__ import annotations

from specrun.network import rules
from specrun.network.rules import Publication
from specrun.network.subnets import Subnet
from specrun_runtime import netlink, nft
from specrun_runtime.netlink import Netlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from specrun.network.networks import Network
    from specrun.paths import Root

    Members = dict[tuple[str, str], set[bytes]]

_GETSETELEM = nft.SUBSYSTEM << 8 | 13
_TABLE, _SET, _ELEMENTS, _KEY, _DATA, _VALUE = 1, 2, 3, 1, 2, 1


def are_there(root: Root, networks: Iterable[Network], records: Iterable[dict[str, Any]]) -> bool:
    """Whether the kernel has all members that these networks and these containers' records need."""
    wanted = _wanted(root, networks, records)
    with Netlink(netlink.NETFILTER) as kernel:
        return all(members <= _present(kernel, root, *where) for where, members in wanted.items())


def _wanted(root: Root, networks: Iterable[Network], records: Iterable[dict[str, Any]]) -> Members:
    found: Members = {}
    name = rules.table(root)
    for record in records:
        for member in rules.members(record["endpoints"], [Publication(**one) for one in record["published"]]):
            element = member.element(name)
            found.setdefault((member.family, member.set), set()).add(element.key + element.value)
    for network in networks:
        for set_, key in _of_network(root, network):
            found.setdefault(("inet", set_), set()).add(key)
    return found


def _of_network(root: Root, network: Network) -> Iterator[tuple[str, bytes]]:
    """A network's part, as `rules` has it: of an interval, its first address."""
    link = network.link(root).encode().ljust(16, b"\0")
    yield "bridges", link
    yield "loops", link + link
    if network.internal:
        yield "internal", link
    for pool in network.pools:
        subnet = Subnet.parse(pool["Subnet"])
        family, first = (4 if subnet.width == 32 else 6), subnet.first.to_bytes(subnet.width // 8, "big")
        yield f"homes{family}", link + first
        if network.masquerades:
            yield f"hidden{family}", first


def _present(kernel: Netlink, root: Root, family: str, name: str) -> set[bytes]:
    """Keys, each with its value, of one set or map; empty where there is none."""
    body = bytes([nft.FAMILIES[family], 0, 0, 0]) + netlink.text(_TABLE, rules.table(root)) + netlink.text(_SET, name)
    try:
        answers = kernel.ask(_GETSETELEM, body, netlink.DUMP)
    except FileNotFoundError:
        return set()
    found = set()
    for answer in answers:
        for element in netlink.items(netlink.attributes(answer, 4).get(_ELEMENTS, b"")):
            parts = netlink.attributes(element, 0)
            found.add(b"".join(netlink.attributes(parts[one], 0)[_VALUE] for one in (_KEY, _DATA) if one in parts))
    return found
