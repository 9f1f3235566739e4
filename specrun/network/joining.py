"""Joining a container to its networks, before it starts or while it runs, and leaving them.

Order matters for who is killed in between: ports and addresses are taken first, then the record says what there is to
let go of, then the kernel gets its rules, and the links come last, which vanish with the namespace by themselves.
"""

from __future__ import annotations

import os

from specrun.files import write_atomic
from specrun.network import bridges, links, names, ports, rules
from specrun.network.networks import NetworkStore
from specrun.network.rules import Publication
from specrun.network.subnets import Subnet, packed, show
from specrun_runtime import attachment, holder, jsontext, nft
from specrun_runtime.netlink import Netlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from specrun.network.networks import Network
    from specrun.network.rules import Member
    from specrun.paths import Root


class Wish:
    """What is asked of one network: an address of one's own choice, names, a MAC address."""

    __slots__ = ("aliases", "ip", "ip6", "mac", "network")

    def __init__(
        self, network: str, *, aliases: list[str] | None = None, ip: str = "", ip6: str = "", mac: str = ""
    ) -> None:
        self.network = network
        self.aliases = aliases or []
        self.ip = ip
        self.ip6 = ip6
        self.mac = mac

    def document(self) -> dict[str, Any]:
        """As it is stored."""
        return {name: getattr(self, name) for name in self.__slots__}


class Joined:
    """A container's namespace, ready with all its links, and what it has there."""

    __slots__ = ("namespace", "record")

    def __init__(self, namespace: links.Namespace, record: dict[str, Any]) -> None:
        self.namespace = namespace
        self.record = record

    @property
    def endpoints(self) -> list[dict[str, Any]]:
        """One for each network."""
        found: list[dict[str, Any]] = self.record["endpoints"]
        return found


def join(
    root: Root,
    directory: str,
    identity: str,
    wishes: list[Wish],
    bindings: dict[str, list[dict[str, str]]],
    monitor: int,
) -> Joined:
    """Make a namespace with a link to each network, publish the ports; `monitor` is the process that they end with.

    The record is in the container's folder as soon as there is anything to let go of. Raises SpecrunError.
    """
    store = NetworkStore(root)
    networks = [bridges.ready(store, wish.network) for wish in wishes]
    with store.lock(shared=True):
        record = _new_record(store, identity)
        held = ports.hold(root, bindings, _publish_at(networks)) if bindings else []
        try:
            for network, wish in zip(networks, wishes, strict=True):
                record["endpoints"].append(_endpoint(store, network, wish, identity, record))
            _publish(root, record, held, monitor)
            record["resolves"] = names.is_wanted(record["endpoints"])
            _save(root, directory, record)
            namespace = links.Namespace.make()
            try:
                whole = _connect(root, namespace, record, networks)
                if record["resolves"]:
                    names.register(root, directory, identity, namespace, monitor)
            except BaseException:
                namespace.close()
                raise
        except OSError as error:
            raise bridges.unfit("join the network", error) from error
        finally:
            ports.close(held)
    if not whole:
        with store.lock():
            bridges.remake_rules(store)
    return Joined(namespace, record)


def connect(
    root: Root, directory: str, identity: str, wish: Wish, pid: int, monitor: int
) -> tuple[dict[str, Any], bool]:
    """Give the running container, whose first process is `pid`, one network more.

    Gives its endpoint there, and whether it can ask for names from now on, which it could not before.
    """
    store = NetworkStore(root)
    network = bridges.ready(store, wish.network)
    namespace = links.Namespace.of(pid)
    try:
        with store.lock(shared=True):
            record = attachment.load(directory) or _new_record(store, identity)
            endpoint = _endpoint(store, network, wish, identity, record)
            gets_names = not record["resolves"] and names.is_wanted([endpoint])
            record["endpoints"].append(endpoint)
            record["resolves"] = record["resolves"] or gets_names
            before, after = _published(record), _retarget(record)
            _save(root, directory, record, before=before)
            try:
                whole = _apply(root, rules.members([], before), rules.members([endpoint], after))
                with Netlink() as host:
                    plug_in(root, host, namespace, endpoint, network, hairpin=bool(after))
                _route(namespace, record["endpoints"])
                if gets_names:
                    names.register(root, directory, identity, namespace, monitor)
            except BaseException:
                _drop(root, directory, record, endpoint, namespace)
                raise
    except OSError as error:
        raise bridges.unfit(f"join network {network.name}", error) from error
    finally:
        namespace.close()
    if not whole:
        with store.lock():
            bridges.remake_rules(store)
    return endpoint, gets_names


def disconnect(root: Root, directory: str, name: str, pid: int) -> None:
    """Take the running container out of the network; ports are published by way of another one, if there is one."""
    store = NetworkStore(root)
    with store.lock(shared=True):
        record = attachment.load(directory)
        endpoint = next((one for one in record["endpoints"] if one["name"] == name), None) if record else None
        if record is None or endpoint is None:
            return
        namespace = links.Namespace.of(pid)
        try:
            _drop(root, directory, record, endpoint, namespace)
        finally:
            namespace.close()


def _drop(
    root: Root, directory: str, record: dict[str, Any], endpoint: dict[str, Any], namespace: links.Namespace
) -> None:
    before = _published(record)
    record["endpoints"] = [one for one in record["endpoints"] if one is not endpoint]
    after = _retarget(record)
    _save(root, directory, record, before=before, leaving=[endpoint])
    _apply(root, rules.members([endpoint], before), rules.members([], after))
    with links.Inside(namespace), Netlink() as kernel:
        links.delete(kernel, endpoint["inner"])
    _route(namespace, record["endpoints"])
    gone = {address for address in (endpoint["address"], endpoint["address6"]) if address}
    for lease in [lease for lease in record["leases"] if _is_of(lease, endpoint["network"], gone)]:
        attachment.release_lease(lease, record["id"])
        record["leases"].remove(lease)
    _save(root, directory, record)


def _retarget(record: dict[str, Any]) -> list[Publication]:
    """Publish by way of the endpoint that is the first now; without one, ports stay taken and lead nowhere."""
    target = _target(record)
    after = [
        Publication(one.protocol, one.address, one.port, _address(target, one.address), one.inner)
        for one in _published(record)
    ]
    record["published"] = [one.document() for one in after]
    return after


def _published(record: dict[str, Any]) -> list[Publication]:
    return [Publication(**one) for one in record["published"]]


def _is_of(lease: str, network: str, addresses: set[str]) -> bool:
    folder, _, address = lease.rpartition("/")
    return address in addresses and folder.endswith(f"/{network}/leases")


def publish(
    root: Root, directory: str, bindings: dict[str, list[dict[str, str]]], monitor: int, networks: list[Network]
) -> None:
    """Publish these ports of a running container and no others. Raises PortTaken; then all is as it was."""
    store = NetworkStore(root)
    with store.lock(shared=True):
        record = attachment.load(directory)
        if record is None:
            return
        before = _published(record)
        wanted = _with_known_ports(bindings, before)
        attachment.stop_holders(record["holders"])
        record["holders"] = []
        try:
            held = ports.hold(root, wanted, _publish_at(networks))
        except BaseException:
            _hold_again(root, directory, record, before, monitor)
            raise
        try:
            record["published"] = []
            _publish(root, record, held, monitor)
            _save(root, directory, record, before=before)
            _apply(root, rules.members([], before), rules.members([], _published(record)))
            _save(root, directory, record)
        finally:
            ports.close(held)


def _hold_again(root: Root, directory: str, record: dict[str, Any], before: list[Publication], monitor: int) -> None:
    """After a change that failed: what was held before."""
    bindings: dict[str, list[dict[str, str]]] = {}
    for one in before:
        binding = {"HostIp": one.address, "HostPort": str(one.port)}
        bindings.setdefault(f"{one.inner}/{one.protocol}", []).append(binding)
    held = ports.hold(root, bindings, list(ports.ANY)) if bindings else []
    _publish(root, record, held, monitor)
    _save(root, directory, record)
    ports.close(held)


def _with_known_ports(
    bindings: dict[str, list[dict[str, str]]], before: list[Publication]
) -> dict[str, list[dict[str, str]]]:
    """The bindings, with the port that the kernel chose before where none is named."""
    chosen = {f"{one.inner}/{one.protocol}": str(one.port) for one in before}
    return {
        key: [{**binding, "HostPort": binding.get("HostPort") or chosen.get(key, "")} for binding in entries]
        for key, entries in bindings.items()
    }


def _apply(root: Root, removed: list[Member], added: list[Member]) -> bool:
    """Change the rules; False when the tables are gone: whoever makes them anew reads the records."""
    try:
        nft.commit(rules.change(root, removed, added), rules.seen_path(root))
    except nft.NftFailed:
        return False
    return True


def _new_record(store: NetworkStore, identity: str) -> dict[str, Any]:
    return {
        "id": identity,
        "lock": store.lock_path,
        "leases": [],
        "holders": [],
        "rules": [],
        "seen": rules.seen_path(store.root),
        "endpoints": [],
        "published": [],
        "resolves": False,
    }


def _publish_at(networks: list[Network]) -> list[str]:
    """Where ports are published that name no address."""
    for network in networks:
        if chosen := network.options.get("com.docker.network.bridge.host_binding_ipv4"):
            return [chosen]
    if chosen := os.environ.get("SPECRUN_PUBLISH_ADDRESS"):
        return [chosen]
    return list(ports.ANY)


def _endpoint(
    store: NetworkStore, network: Network, wish: Wish, identity: str, record: dict[str, Any]
) -> dict[str, Any]:
    """Addresses and names for one network; what is claimed is in the record at once."""
    address = _claim(store, network, identity, record, 32, wish.ip)
    address6 = _claim(store, network, identity, record, 128, wish.ip6) if network.ipv6 else ""
    mac = wish.mac.lower() or "02:42:" + ":".join(f"{byte:02x}" for byte in packed(address))
    four, six = network.pool(32) or {}, network.pool(128) or {}
    return {
        "network": network.id,
        "name": network.name,
        "endpoint": os.urandom(32).hex(),
        "driver": network.driver,
        "internal": network.internal,
        "outer": f"v{store.root.id}{os.urandom(3).hex()}" if network.driver == "bridge" else "",
        "inner": _free_name(record),
        "mac": mac,
        "address": address,
        "prefix": Subnet.parse(four["Subnet"]).prefix,
        "gateway": "" if network.internal else four.get("Gateway", ""),
        "address6": address6,
        "prefix6": Subnet.parse(six["Subnet"]).prefix if address6 else 0,
        "gateway6": "" if network.internal or not address6 else six.get("Gateway", ""),
        "addresses6": [address6, link_local(mac)] if address6 else [],
        "aliases": wish.aliases,
        "wanted": {"ip": wish.ip, "ip6": wish.ip6},
    }


def _free_name(record: dict[str, Any]) -> str:
    used = {endpoint["inner"] for endpoint in record["endpoints"]}
    return next(name for name in (f"eth{number}" for number in range(len(used) + 1)) if name not in used)


def _claim(
    store: NetworkStore, network: Network, identity: str, record: dict[str, Any], width: int, wanted: str
) -> str:
    address = store.claim(network, identity, width, wanted)
    record["leases"].append(f"{store.folder(network)}/leases/{address}")
    return address


def link_local(mac: str) -> str:
    """The IPv6 address that a link gives itself (RFC 4291, appendix A)."""
    parts = [int(part, 16) for part in mac.split(":")]
    parts[0] ^= 2
    tail = bytes([*parts[:3], 0xFF, 0xFE, *parts[3:]])
    return show(128, int.from_bytes(b"\xfe\x80" + bytes(6) + tail, "big"))


def _publish(root: Root, record: dict[str, Any], held: list[ports.Held], monitor: int) -> None:
    """Write down what is published, and hand the sockets to a process that holds them."""
    endpoint = _target(record)
    if not held or endpoint is None:
        return
    published = [
        Publication(one.protocol, one.address, one.port, _address(endpoint, one.address), one.inner) for one in held
    ]
    record["published"] = [one.document() for one in published]
    targets = [
        {"protocol": one.protocol, "address": one.target or endpoint["address"], "port": one.inner} for one in published
    ]
    sockets = [one.plug.fileno() for one in held]
    record["holders"].append(holder.spawn(monitor, sockets, targets, label=root.id))


def _target(record: dict[str, Any]) -> dict[str, Any] | None:
    """The endpoint by which ports are published: the first that the host reaches and that leads out."""
    for endpoint in record["endpoints"]:
        if endpoint["driver"] == "bridge" and not endpoint["internal"]:
            found: dict[str, Any] = endpoint
            return found
    return None


def _address(endpoint: dict[str, Any] | None, outer: str) -> str:
    """The endpoint's address of the same family as `outer`, or ""."""
    return str(endpoint["address6" if ":" in outer else "address"]) if endpoint else ""


def _save(
    root: Root,
    directory: str,
    record: dict[str, Any],
    *,
    before: list[Publication] | None = None,
    leaving: list[dict[str, Any]] | None = None,
) -> None:
    """Write the record, with the transactions that undo its part of the rules.

    While the rules are about to change there is one for each of the two states that they may be in: with what was
    published `before`, or with what is now. The other one fails where both say something of one port.
    """
    endpoints = [*record["endpoints"], *(leaving or [])]
    states = [_published(record)] if before is None else [_published(record), before]
    record["rules"] = [rules.change(root, rules.members(endpoints, one), []).hex() for one in states]
    write_atomic(f"{directory}/{attachment.FILE}", jsontext.dumps(record).encode(), durable=False)


def _connect(root: Root, namespace: links.Namespace, record: dict[str, Any], networks: list[Network]) -> bool:
    """The rules, then the links; False when the tables were not there."""
    whole = _apply(root, [], rules.members(record["endpoints"], _published(record)))
    with Netlink() as host:
        _prepare(namespace, ipv6=any(network.ipv6 for network in networks))
        for endpoint, network in zip(record["endpoints"], networks, strict=True):
            plug_in(root, host, namespace, endpoint, network, hairpin=bool(record["published"]))
        _route(namespace, record["endpoints"])
    return whole


def _prepare(namespace: links.Namespace, *, ipv6: bool) -> None:
    """The namespace before its first link: loopback, no router advertisements, and its addresses are told at once."""
    with links.Inside(namespace), Netlink() as kernel:
        links.take_up(kernel, "lo")
        settings = {"ipv4/conf/default/arp_notify": "1"}
        if ipv6:
            settings |= {"ipv6/conf/default/accept_ra": "0", "ipv6/conf/default/accept_dad": "0"}
        else:
            settings["ipv6/conf/all/disable_ipv6"] = "1"  # and so of links to come, too
        for key, value in settings.items():
            _set(key, value)


def _set(key: str, value: str) -> None:
    """A parameter of the namespace that this thread is in."""
    try:
        with open(f"/proc/sys/net/{key}", "w", encoding="ascii") as file:
            file.write(value)
    except FileNotFoundError:
        if not key.startswith("ipv6/"):  # a kernel without IPv6
            raise


def plug_in(
    root: Root, host: Netlink, namespace: links.Namespace, endpoint: dict[str, Any], network: Network, *, hairpin: bool
) -> None:
    """One link between the namespace and the network, with its addresses.

    With `hairpin` the container reaches what it publishes itself also where the kernel hands bridged frames to its
    packet filter (bridge-nf-call-iptables, as Docker sets it).
    """
    mac = bytes(int(part, 16) for part in endpoint["mac"].split(":"))
    if endpoint["driver"] == "macvlan":
        parent = links.index_of(network.options["parent"])
        mode = network.options.get("macvlan_mode", "bridge")
        links.make_macvlan(host, endpoint["inner"], parent, mac, mode, namespace.number)
    with links.Inside(namespace) as inside, Netlink() as kernel:
        if endpoint["outer"]:
            links.make_veth(kernel, endpoint["inner"], mac, network.mtu, endpoint["outer"], inside.home)
        index = links.index_of(endpoint["inner"])
        links.add_address(kernel, index, endpoint["address"], endpoint["prefix"])
        if endpoint["address6"]:
            _set(f"ipv6/conf/{endpoint['inner']}/disable_ipv6", "0")
            links.add_address(kernel, index, endpoint["address6"], endpoint["prefix6"])
    if endpoint["outer"]:
        links.plug_in(host, endpoint["outer"], links.index_of(network.link(root)))
        if hairpin or not network.talkative:
            links.set_port(host, endpoint["outer"], isolated=not network.talkative, hairpin=hairpin)
    with links.Inside(namespace), Netlink() as kernel:
        links.take_up(kernel, endpoint["inner"])


def ways_out(endpoints: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By which endpoint the container reaches everything else, for `gateway` (IPv4) and `gateway6`.

    It is the one that Docker would take: the first, by the network's name, that leads out.
    """
    leading = {key: [one for one in endpoints if one[key]] for key in ("gateway", "gateway6")}
    return {key: min(found, key=lambda one: str(one["name"])) for key, found in leading.items() if found}


def _route(namespace: links.Namespace, endpoints: list[dict[str, Any]]) -> None:
    with links.Inside(namespace), Netlink() as kernel:
        for key, chosen in ways_out(endpoints).items():
            links.set_default_route(kernel, links.index_of(chosen["inner"]), chosen[key])


def hand_over(
    root: Root, old: str, new: str, bindings: dict[str, list[dict[str, str]]], monitor: int, networks: list[Network]
) -> None:
    """Let what the container in folder `old` publishes lead to the one in `new`, in one transaction of the kernel.

    Connections that exist stay with the old one; of new ones, none finds nobody. Raises PortTaken for further ports.
    """
    store = NetworkStore(root)
    with store.lock(shared=True):
        leaving, coming = attachment.load(old), attachment.load(new)
        if leaving is None or coming is None:
            return
        before = [Publication(**one) for one in leaving["published"]]
        wanted = _with_known_ports(bindings, before)
        attachment.stop_holders(leaving["holders"])
        leaving["holders"] = []
        try:
            held = ports.hold(root, wanted, _publish_at(networks))
        except BaseException:
            _hold_again(root, old, leaving, before, monitor)
            raise
        try:
            _publish(root, coming, held, monitor)
            _save(root, new, coming, before=[])
            _apply(root, rules.members([], before), rules.members([], _published(coming)))
            leaving["published"] = []
            _save(root, new, coming)
            _save(root, old, leaving)
        finally:
            ports.close(held)
