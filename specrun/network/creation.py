"""Making and removing networks: what is asked for is judged whole before anything is made."""

from __future__ import annotations

import os
import time

from specrun import events
from specrun.errors import Conflict, InvalidName, SpecrunError, UsageError
from specrun.network import bridges, links, vlans
from specrun.network.networks import BRIDGE_OPTIONS, DEFAULT, MACVLAN_OPTIONS, PREDEFINED, Network
from specrun.network.subnets import Subnet, parse, show
from specrun.paths import NAME, is_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from specrun.network.networks import NetworkStore


class NetworkRequest:
    """What `network create` or a spec asks for; subnets that are not named are found."""

    __slots__ = (
        "attachable",
        "driver",
        "gateways",
        "internal",
        "ipv6",
        "labels",
        "name",
        "options",
        "ranges",
        "reserved",
        "subnets",
    )

    def __init__(
        self,
        name: str,
        *,
        driver: str = "bridge",
        subnets: list[str] | None = None,
        ranges: list[str] | None = None,
        gateways: list[str] | None = None,
        reserved: dict[str, str] | None = None,
        internal: bool = False,
        ipv6: bool = False,
        attachable: bool = False,
        labels: dict[str, str] | None = None,
        options: dict[str, str] | None = None,
    ) -> None:
        self.name = name
        self.driver = driver
        self.subnets = subnets or []
        self.ranges = ranges or []
        self.gateways = gateways or []
        self.reserved = reserved or {}
        """Name -> address that no container gets."""
        self.internal = internal
        self.ipv6 = ipv6
        self.attachable = attachable
        self.labels = labels or {}
        self.options = options or {}

    def check(self) -> list[dict[str, Any]]:
        """Refuse what cannot be; gives the pools that are asked for. Raises SpecrunError."""
        if self.name in PREDEFINED:
            raise Conflict(f"operation is not permitted on predefined {self.name} network")
        if not is_name(self.name):
            raise InvalidName(f"invalid network name {self.name!r}", hint=f"names are {NAME}, at most 128 characters")
        if self.driver not in ("bridge", "macvlan"):
            raise UsageError(f'driver "{self.driver}" is not supported', hint="expected bridge or macvlan")
        known = BRIDGE_OPTIONS if self.driver == "bridge" else MACVLAN_OPTIONS
        for key, value in self.options.items():
            if key not in known:
                raise UsageError(f"option {key} is not supported", hint=f"expected one of {', '.join(known)}")
            _check_option(key, value)
        if self.driver == "macvlan":
            self._check_macvlan()
        return self._pools()

    def _check_macvlan(self) -> None:
        parent = self.options.get("parent", "")
        if not parent:
            raise UsageError("a macvlan network needs its parent link", hint="give -o parent=LINK, see `ip link`")
        vlans.check(parent)
        if not self.subnets:
            raise UsageError("a macvlan network needs the subnet of its parent", hint="give --subnet and --gateway")

    def _pools(self) -> list[dict[str, Any]]:
        if not self.subnets and (self.gateways or self.ranges or self.reserved):
            raise UsageError("every ip-range or gateway must have a corresponding subnet")
        pools: list[dict[str, Any]] = []
        subnets = [_subnet(text) for text in self.subnets]
        for index, subnet in enumerate(subnets):
            if any(subnet.overlaps(other) for other in subnets[:index]):
                raise UsageError(f"multiple overlapping subnet configuration is not supported: {subnet}")
            if any(subnet.width == other.width for other in subnets[:index]):
                raise UsageError("more than one subnet of one family is not supported", hint="one IPv4, one IPv6")
            if subnet.width - subnet.prefix < 2:
                raise UsageError(
                    f"subnet {subnet} is too small", hint="a gateway and one container need a /30 or larger"
                )
            pools.append({"Subnet": self.subnets[index]})
        if any(subnet.width == 128 for subnet in subnets) and not self.ipv6:
            raise UsageError("an IPv6 subnet needs --ipv6")
        for text in self.gateways:
            _in_pool(pools, subnets, text, f"no matching subnet for gateway {text}")["Gateway"] = _shown(text)
        for text in self.ranges:
            ranged = _subnet(text)
            for pool, subnet in zip(pools, subnets, strict=True):
                if subnet.contains(ranged):
                    pool["IPRange"] = text
                    break
            else:
                raise UsageError(f"no matching subnet for range {text}")
        for name, text in self.reserved.items():
            pool = _in_pool(pools, subnets, text, f"no matching subnet for aux-address {text}")
            pool.setdefault("AuxiliaryAddresses", {})[name] = _shown(text)
        for pool, subnet in zip(pools, subnets, strict=True):
            taken = set((pool.get("AuxiliaryAddresses") or {}).values())
            pool.setdefault("Gateway", next(address for address in subnet.hosts() if address not in taken))
        return pools


def _subnet(text: str) -> Subnet:
    try:
        return Subnet.parse(text)
    except ValueError:
        raise UsageError(f"Invalid subnet {text} : invalid CIDR address: {text}", hint="such as 10.5.0.0/16") from None


def _shown(text: str) -> str:
    found = parse(text)
    if found is None:
        raise UsageError(f"invalid address {text}")
    return show(*found)


def _in_pool(pools: list[dict[str, Any]], subnets: list[Subnet], text: str, refusal: str) -> dict[str, Any]:
    address = _shown(text)
    for pool, subnet in zip(pools, subnets, strict=True):
        if subnet.usable(address):
            return pool
    raise UsageError(refusal)


def _check_option(key: str, value: str) -> None:
    number = int(value) if value.isascii() and value.isdigit() and len(value) < 9 else 0
    if key == "com.docker.network.driver.mtu" and not 68 <= number <= 65535:
        raise UsageError(f"invalid value {value!r} of {key}", hint="expected a number of bytes from 68 to 65535")
    if key == "com.docker.network.bridge.name":
        good = 0 < len(value) < 16 and value not in (".", "..") and not any(c.isspace() or c in '/:"' for c in value)
        if not good or not value.isascii():
            raise UsageError(f"invalid name of a link: {value!r}", hint="at most 15 characters, no blanks, '/' or ':'")
    if key.endswith(("enable_icc", "enable_ip_masquerade")) and value.lower() not in ("true", "false", "1", "0"):
        raise UsageError(f"invalid value {value!r} of {key}", hint="expected true or false")
    if key.endswith("host_binding_ipv4") and (parse(value) or (0,))[0] != 32:
        raise UsageError(f"invalid value {value!r} of {key}", hint="expected an IPv4 address of this host")
    if key == "macvlan_mode" and value not in links.MACVLAN_MODES:
        raise UsageError(f"invalid value {value!r} of {key}", hint=f"expected one of {', '.join(links.MACVLAN_MODES)}")


def create(store: NetworkStore, request: NetworkRequest) -> Network:
    """Make a network. Raises Conflict for a name in use and for a subnet that somebody has."""
    pools = request.check()
    with store.lock():
        if any(network.name == request.name for network in store.recorded()):
            raise Conflict(f"network with name {request.name} already exists")
        bridges.refuse_overlap(store, [Subnet.parse(pool["Subnet"]) for pool in pools], driver=request.driver)
        if request.ipv6 and not any(":" in pool["Subnet"] for pool in pools):
            pools.append(_unique_local(store))
        network = Network(
            id=os.urandom(32).hex(),
            name=request.name,
            driver=request.driver,
            created=time.time(),
            internal=request.internal,
            ipv6=request.ipv6,
            attachable=request.attachable,
            labels=dict(sorted(request.labels.items())),
            options=dict(sorted(request.options.items())),
            pools=pools,
            chosen=bool(request.subnets),
        )
        wanted = network.options.get("com.docker.network.bridge.name")
        if wanted and links.index_of(wanted):
            raise Conflict(f"the host has a link called {wanted} already", hint="choose another name for the bridge")
        store.save(network)
        try:
            bridges.bring_up(store, network)
        except BaseException:
            vlans.remove(store, network)
            store.forget(network)
            raise
    events.emit(store.root, "network", "create", network.id, attributes={"name": network.name, "type": network.driver})
    return network


def _unique_local(store: NetworkStore) -> dict[str, Any]:
    """A free /64 of the root's own fd00::/8 prefix (RFC 4193: 40 bits that nobody else has)."""
    from specrun.oci.digest import sha256

    prefix = int.from_bytes(b"\xfd" + sha256(store.root.id.encode()).digest()[:5], "big") << 80
    used = [Subnet.parse(pool["Subnet"]) for network in store.recorded() for pool in network.pools]
    for number in range(65536):
        subnet = Subnet(128, prefix | number << 64, 64)
        if not any(subnet.overlaps(other) for other in used):
            return {"Subnet": str(subnet), "Gateway": next(subnet.hosts())}
    raise SpecrunError("all IPv6 subnets of this root are in use")


def remove(store: NetworkStore, network: Network) -> None:
    """Remove a network that no running container is in. Raises Conflict."""
    if network.predefined:
        raise Conflict(f"{network.name} is a pre-defined network and cannot be removed")
    with store.lock():
        holders = sorted(set(store.leases(network).values()))
        if holders:
            from specrun.network.ports import name_of

            names = ", ".join(name_of(store.root, holder) for holder in holders)
            raise Conflict(
                f"error while removing network: network {network.name} id {network.id} has active endpoints",
                hint=f"these containers are in it: {names}",
            )
        _remove(store, network)
    events.emit(store.root, "network", "destroy", network.id, attributes={"name": network.name, "type": network.driver})


def _remove(store: NetworkStore, network: Network) -> None:
    if network.driver == "bridge":
        bridges.take_down(store, network)
    else:
        vlans.remove(store, network)
    store.forget(network)


def prune(store: NetworkStore, wanted: set[str], chosen: Callable[[Network], bool]) -> list[str]:
    """Remove the networks that no container is in or wants to be in; gives their names.

    What the default network needs on the host goes too, where nobody uses it; the next container makes it again.
    """
    removed = []
    with store.lock():
        for network in sorted(store.recorded(), key=lambda network: network.name):
            if store.leases(network) or (network.name in wanted and network.name != DEFAULT) or not chosen(network):
                continue
            if network.name == DEFAULT:
                bridges.take_down(store, network)
                continue
            _remove(store, network)
            removed.append(network.name)
    for name in removed:
        events.emit(store.root, "network", "prune", "", attributes={"name": name})
    return removed
