"""Bridges on the host: made when a network is first needed, mended when somebody took them away, removed with it."""

from __future__ import annotations

import fcntl
import os

from specrun.errors import Conflict, HostUnfit, SpecrunError
from specrun.files import write_atomic
from specrun.network import forwarding, links, neighbors, ports, rules, vlans
from specrun.network.networks import DEFAULT, free_subnet
from specrun.network.rules import Publication
from specrun.network.subnets import Subnet
from specrun_runtime import netlink, nft, state
from specrun_runtime.netlink import Netlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from specrun.network.networks import Network, NetworkStore
    from specrun.paths import Root

_GETRULE = 7
_NFTA_RULE_TABLE = 1


def is_up(root: Root, network: Network) -> bool:
    """Whether the host has what the network needs."""
    if network.driver == "macvlan":
        return vlans.is_there(network)
    return network.driver != "bridge" or links.is_up(network.link(root))


def bring_up(store: NetworkStore, network: Network) -> Network:
    """Make the network's bridge and its rules, unless they are there; the caller holds the store's lock alone.

    Gives the network with its subnets. Raises SpecrunError when no subnet is free, and HostUnfit.
    """
    if is_up(store.root, network) or network.driver not in ("bridge", "macvlan"):
        return network
    if network.driver == "macvlan":
        vlans.make(store, network)
        return network
    try:
        with Netlink() as kernel, _Alone():
            settle_pools(store, network, kernel)
            # The rules first: whoever is killed in between leaves no bridge that they do not hold for.
            add_rules(store, rules.of_network(store.root, network))
            if store.leases(network) and links.index_of(network.link(store.root)):
                # Somebody took it down under its containers, and it has lost its IPv6 addresses by that.
                links.take_up(kernel, network.link(store.root))
                furnish(store.root, network, kernel)
            else:
                _make(store.root, network, kernel)
        neighbors.pass_through(store.root)
    except OSError as error:
        take_down(store, network)
        raise unfit(f"make the bridge of network {network.name}", error) from error
    except BaseException:
        take_down(store, network)
        raise
    return network


def addresses_of(network: Network) -> set[str]:
    """The addresses of the host on the network's bridge, each with its prefix."""
    pools = [(pool["Gateway"], Subnet.parse(pool["Subnet"])) for pool in network.pools if pool.get("Gateway")]
    return {f"{gateway}/{subnet.prefix}" for gateway, subnet in pools if subnet.width == 32 or network.ipv6}


def furnish(root: Root, network: Network, kernel: Netlink) -> None:
    """Give the bridge what it lacks of its MTU and addresses."""
    name = network.link(root)
    links.set_mtu(kernel, name, network.mtu)
    for text in addresses_of(network):
        address, _, prefix = text.partition("/")
        try:
            links.add_address(kernel, links.index_of(name), address, int(prefix))
        except FileExistsError:
            continue


def take_down(store: NetworkStore, network: Network) -> None:
    """Remove the network's bridge and its rules; with the last bridge, the tables too. The lock is the caller's."""
    root = store.root
    with Netlink() as kernel:
        links.delete(kernel, network.link(root))
    others = [one for one in store.recorded() if one.driver == "bridge" and one.id != network.id and is_up(root, one)]
    try:
        nft.apply(rules.without_network(root, network) if others else rules.gone(root))
    except OSError:
        if others:
            remake_rules(store)
    if not others:
        neighbors.withdraw(root)
        _forget_fingerprint(root)
    leading = [one for one in others if not one.internal]
    with _Alone():
        forwarding.switch_back(root, but={4 for _ in leading} | {6 for one in leading if one.ipv6})


def settle_pools(store: NetworkStore, network: Network, kernel: Netlink) -> None:
    """Find subnets where none were named, or where the ones found before are taken by now; saves what it decides."""
    used = in_use(store, kernel, but=network)
    if network.pools and not network.chosen and not store.leases(network):
        mine = [Subnet.parse(pool["Subnet"]) for pool in network.pools]
        if any(one.overlaps(other) for one in mine for other, _ in used):
            network.pools = []
    if network.pool(32) is None:
        subnet = free_subnet(used)
        network.pools.insert(0, {"Subnet": str(subnet), "Gateway": next(subnet.hosts())})
        store.save(network)


def in_use(store: NetworkStore, kernel: Netlink, *, but: Network | None = None) -> list[tuple[Subnet, str]]:
    """Subnets that are taken, each with who has it: other networks of ours, and what the host reaches."""
    used = []
    own = ""
    for network in store.recorded():
        if but is not None and network.id == but.id:
            own = network.link(store.root)
            continue
        used += [(Subnet.parse(pool["Subnet"]), f"network {network.name}") for pool in network.pools]
    for address, prefix, link in links.networks_in_use(kernel):
        width = 128 if ":" in address else 32
        if link not in ("lo", own) and not address.startswith("fe80:"):
            used.append((Subnet.parse(f"{address}/{min(prefix, width)}"), f"the host's link {link}"))
    return used


def refuse_overlap(store: NetworkStore, subnets: list[Subnet], *, driver: str) -> None:
    """Refuse subnets of a new network that somebody has. Raises Conflict, with Docker's words and the holder."""
    with Netlink() as kernel:
        used = in_use(store, kernel)
    for subnet in subnets:
        for other, holder in used:
            if subnet.overlaps(other) and (driver == "bridge" or not holder.startswith("the host")):
                raise Conflict(
                    f"Pool overlaps with other one on this address space: {subnet} and {other} of {holder}",
                    hint="choose another --subnet, or leave it out to get a free one",
                )


def add_rules(store: NetworkStore, script: str) -> None:
    """Execute a script that adds to our tables; when they are not as they should be, make all anew.

    The caller holds the lock alone.
    """
    if not os.path.exists(_fingerprint_path(store.root)):
        remake_rules(store)
        return
    try:
        nft.apply(script)
    except nft.NftFailed:
        remake_rules(store)
    except OSError as error:
        raise unfit("set the rules of networks", error) from error


def remake_rules(store: NetworkStore) -> None:
    """Make both tables anew from the records. The caller holds the lock alone."""
    root = store.root
    networks = [one for one in store.recorded() if one.driver == "bridge"]
    records = living(root)
    endpoints = [endpoint for record in records for endpoint in record["endpoints"]]
    published = [Publication(**one) for record in records for one in record["published"]]
    try:
        nft.apply(rules.whole(root, networks, endpoints, published))
    except OSError as error:
        raise unfit("set the rules of networks", error) from error
    os.makedirs(root.run, mode=0o700, exist_ok=True)
    write_atomic(_fingerprint_path(root), fingerprint(root).encode(), durable=False)


def living(root: Root) -> list[dict[str, Any]]:
    """What holds the containers to their networks, of those that somebody answers for."""
    return [record for identity, record in ports.records(root) if _is_alive(root, identity)]


def _is_alive(root: Root, identity: str) -> bool:
    """Whether somebody answers for the container: what the others hold is let go of by the next mend."""
    return any(state.is_owned(f"{root.containers}/{entry}") for entry in (identity, f".{identity}"))


def rules_are_ours(root: Root) -> bool:
    """Whether both tables have the rules that we made, all of them and no others."""
    try:
        with open(_fingerprint_path(root), encoding="ascii") as file:
            return file.read() == fingerprint(root)
    except FileNotFoundError:
        return False


def fingerprint(root: Root) -> str:
    """A digest of the rules of both tables as the kernel has them; elements of sets are no part of it."""
    from specrun.oci.digest import sha256

    found = sha256()
    with Netlink(netlink.NETFILTER) as kernel:
        for family in nft.FAMILIES.values():
            body = bytes([family, 0, 0, 0]) + netlink.text(_NFTA_RULE_TABLE, rules.table(root))
            try:
                for rule in kernel.ask(nft.SUBSYSTEM << 8 | _GETRULE, body, netlink.DUMP):
                    found.update(rule[4:])  # past the generation, which every change of any rule raises
            except FileNotFoundError:
                pass
    digest: str = found.hexdigest()
    return digest


def _fingerprint_path(root: Root) -> str:
    return f"{root.run}/rules"


def _forget_fingerprint(root: Root) -> None:
    try:
        os.unlink(_fingerprint_path(root))
    except FileNotFoundError:
        pass


class _Alone:
    """The only one of all roots that looks for a free subnet: a lock on the network namespace itself (flock(2))."""

    def __enter__(self) -> None:
        self._descriptor = os.open(links.NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def _make(root: Root, network: Network, kernel: Netlink) -> None:
    name = network.link(root)
    if root.id in name:
        links.delete(kernel, name)  # begun by a command that was killed: being up is the last step
    try:
        links.make_bridge(kernel, name, b"\x02\x42" + os.urandom(4))
    except FileExistsError as error:
        raise Conflict(
            f"the host has a link called {name} already", hint="choose another name for the bridge"
        ) from error
    try:
        forwarding.put(f"net/ipv4/conf/{name}/route_localnet", "1")
        forwarding.put(f"net/ipv6/conf/{name}/accept_ra", "0")
        forwarding.put(f"net/ipv6/conf/{name}/accept_dad", "0")
        if not network.ipv6:
            forwarding.put(f"net/ipv6/conf/{name}/disable_ipv6", "1")
        furnish(root, network, kernel)
        if not network.internal:
            forwarding.switch_on(root, ipv6=network.ipv6)
        links.take_up(kernel, name)
    except BaseException:
        links.delete(kernel, name)
        raise


def unfit(what: str, error: OSError) -> SpecrunError:
    """What the kernel refused, as the user should see it."""
    if isinstance(error, nft.NftFailed):
        return HostUnfit(f"cannot {what}: {error}", hint="`specrun doctor` examines what nftables can do here")
    return HostUnfit(
        f"cannot {what}: {error}", hint="specrun needs CAP_NET_ADMIN here: `specrun doctor` examines the host"
    )


def default_network(store: NetworkStore) -> Network:
    """The default network, up."""
    for network in store.recorded():
        if network.name == DEFAULT and is_up(store.root, network):
            return network
    with store.lock():
        return bring_up(store, store.default())


def ready(store: NetworkStore, name: str) -> Network:
    """The network of this name or id, up. Raises NetworkNotFound."""
    if name in (DEFAULT, "default"):
        return default_network(store)
    network = store.get(name)
    if is_up(store.root, network):
        return network
    with store.lock():
        return bring_up(store, store.get(name))
