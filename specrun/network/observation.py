"""What the kernel says of links, addresses and routes, on the host or in a container: read by pyroute2.

Importing it takes 130 ms, so this is for commands that compare and examine (`plan`, `drift`, `doctor`); nothing that
starts, enters or stops a container comes here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pyroute2 import IPRoute

from specrun.network import bridges, links
from specrun.network.networks import NetworkStore
from specrun.network.subnets import Subnet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from specrun.network.networks import Network
    from specrun.paths import Root

_UNICAST, _LOCAL_TABLE = 1, 255


class Link(NamedTuple):
    """One link as the kernel has it."""

    up: bool
    mac: str
    mtu: int
    bridge: str
    """Whose port it is; "" for none."""
    addresses: frozenset[str]
    """`address/prefix`, each."""
    gateways: frozenset[str]
    """Where default routes by this link lead."""
    subnets: frozenset[str]
    """What is reached by way of it."""


def look(namespace: links.Namespace | None = None) -> dict[str, Link]:
    """The links by name, of the host or of a network namespace."""
    if namespace is None:
        with IPRoute() as kernel:
            return _read(kernel)
    with links.Inside(namespace):
        kernel = IPRoute()  # its socket stays in the namespace
    with kernel:
        return _read(kernel)


def of_process(pid: int) -> dict[str, Link]:
    """The links that a process has. Raises FileNotFoundError when it is gone."""
    namespace = links.Namespace.of(pid)
    try:
        return look(namespace)
    finally:
        namespace.close()


def _read(kernel: IPRoute) -> dict[str, Link]:
    messages = {message["index"]: message for message in kernel.get_links()}
    addresses: dict[int, set[str]] = {index: set() for index in messages}
    for message in kernel.get_addr():
        text = message.get("local") or message.get("address")
        addresses.setdefault(message["index"], set()).add(f"{text}/{message['prefixlen']}")
    gateways: dict[int, set[str]] = {index: set() for index in messages}
    subnets: dict[int, set[str]] = {index: set() for index in messages}
    for message in kernel.get_routes():
        index, target = message.get("oif"), message.get("dst")
        if message["type"] != _UNICAST or message.get("table") == _LOCAL_TABLE or index not in messages:
            continue
        if target:
            subnets[index].add(f"{target}/{message['dst_len']}")
        elif gateway := message.get("gateway"):
            gateways[index].add(gateway)
    return {
        message.get("ifname"): Link(
            up=bool(message["flags"] & links.IFF_UP),
            mac=message.get("address") or "",
            mtu=message.get("mtu") or 0,
            bridge=messages[master].get("ifname") if (master := message.get("master")) in messages else "",
            addresses=frozenset(addresses[index]),
            gateways=frozenset(gateways[index]),
            subnets=frozenset(subnets[index]),
        )
        for index, message in messages.items()
    }


def of_bridge(root: Root, network: Network, host: dict[str, Link]) -> str:
    """`up`, or what is wrong with the bridge of the network."""
    found = host.get(network.link(root))
    if found is None:
        return "gone"
    if not found.up:
        return "down"
    if missing := sorted(bridges.addresses_of(network) - found.addresses):
        return f"without {', '.join(missing)}"
    return "up" if found.mtu == network.mtu else f"with mtu {found.mtu}"


def of_endpoint(endpoint: dict[str, Any], inside: dict[str, Link], host: dict[str, Link], bridge: str) -> str:
    """`up`, or what is wrong with the link between a container and the bridge of this name."""
    inner, outer = inside.get(endpoint["inner"]), host.get(endpoint["outer"])
    if inner is None or (outer is None and endpoint["outer"]):
        return "gone"
    if not inner.up or not (outer is None or outer.up):
        return "down"
    if inner.mac != endpoint["mac"]:
        return f"with address {inner.mac}"
    return "up" if outer is None or outer.bridge == bridge else "at another bridge" if outer.bridge else "unplugged"


def troubles(root: Root) -> Iterator[tuple[str, str]]:
    """What is wrong with the root's networks on this host, and what to do."""
    store, host = NetworkStore(root), look()
    networks = store.recorded()
    for network in networks:
        if network.driver != "bridge":
            continue
        state, link = of_bridge(root, network, host), network.link(root)
        if state != "up" and (state != "gone" or store.leases(network)):
            yield f"network {network.name}: its bridge {link} is {state}", "restart the containers in it"
        for pool in network.pools:
            subnet = Subnet.parse(pool["Subnet"])
            for name, other in host.items():
                if name != link and any(subnet.overlaps(Subnet.parse(text)) for text in other.subnets):
                    yield (
                        f"network {network.name}: the host reaches addresses of {subnet} by its link {name} too",
                        f"make the network anew with another --subnet, or remove the route by {name}",
                    )
    if any(bridges.is_up(root, one) for one in networks) and not bridges.rules_are_ours(root):
        yield "the rules of networks were changed", "the next command that starts or lists containers makes them anew"
