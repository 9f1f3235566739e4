"""Containers that join and leave networks, and change what they publish, after they were made."""

from __future__ import annotations

from specrun import events
from specrun.engine import networking
from specrun.errors import Conflict
from specrun_runtime import attachment, state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from specrun.engine.container import Container
    from specrun.engine.existing import Existing
    from specrun.network.networks import Network


def connect(
    engine: Existing,
    name: str,
    container: Container,
    *,
    aliases: list[str] | None = None,
    ip: str = "",
    ip6: str = "",
    mac: str = "",
) -> None:
    """Make the container a member of the network: now if it runs, else from its next start on. Raises Conflict."""
    network = engine.networks.get(name)
    mode = container.host_config["NetworkMode"]
    if network.driver == "host" or mode == "host":
        raise Conflict(
            "container cannot be disconnected from host network or connected to host network"
            if network.driver == "host"
            else "container sharing the host's network cannot be connected to any other network"
        )
    if network.driver == "null" or mode == "none":
        raise Conflict(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode"
        )
    if mode.startswith("container:"):
        raise Conflict("container sharing network namespace with another container cannot be connected to any network")
    if network.name != "bridge":
        engine.networks.check_wish(network.name, ip)
    elif aliases or ip or ip6:
        raise Conflict("network-scoped aliases and addresses are only supported for user-defined networks")
    with engine.changing(container):
        wishes = networking.load_wishes(container.directory)
        if any(wish["network"] in (network.name, network.id) for wish in wishes):
            raise Conflict(f"endpoint with name {container.name} already exists in network {network.name}")
        from specrun.network import joining

        wish = joining.Wish(network.name, aliases=aliases, ip=ip, ip6=ip6, mac=mac)
        known = state.load(container.directory)
        if known.status == state.RUNNING:
            endpoint, gets_names = joining.connect(
                engine.root, container.directory, container.id, wish, known.pid, known.monitor_pid
            )
            if gets_names:
                networking.rewrite_resolver(container.record, container.directory)
            names = networking.own_names(container.record)
            lines = [f"{address}\t{names}" for address in _addresses(endpoint)]
            _edit_hosts(container.directory, lambda kept: [*kept, *lines])
        networking.save_wishes(container.directory, [*wishes, wish.document()], durable=container.record.durable)
    _tell(engine, network, container, "connect")


def disconnect(engine: Existing, name: str, container: Container) -> None:
    """Take the container out of the network. Raises Conflict when it is not in it."""
    network = engine.networks.get(name)
    if network.driver == "host":
        raise Conflict("container cannot be disconnected from host network or connected to host network")
    with engine.changing(container):
        wishes = networking.load_wishes(container.directory)
        kept = [wish for wish in wishes if wish["network"] not in (network.name, network.id)]
        if len(kept) == len(wishes):
            raise Conflict(f"container {container.id} is not connected to network {network.name}")
        known = state.load(container.directory)
        held = attachment.load(container.directory)
        if known.status == state.RUNNING and held:
            from specrun.network import joining

            gone = {address for one in held["endpoints"] if one["name"] == network.name for address in _addresses(one)}
            joining.disconnect(engine.root, container.directory, network.name, known.pid)
            _edit_hosts(
                container.directory, lambda lines: [line for line in lines if line.partition("\t")[0] not in gone]
            )
        networking.save_wishes(container.directory, kept, durable=container.record.durable)
    _tell(engine, network, container, "disconnect")


def publish(engine: Existing, container: Container, ports: dict[str, list[dict[str, str]]]) -> None:
    """Publish these ports and no others, without a restart. Raises PortTaken; then all is as it was."""
    with engine.changing(container):
        known = state.load(container.directory)
        if known.status == state.RUNNING and networking.load_wishes(container.directory):
            from specrun.network import joining

            networks = [engine.networks.get(wish["network"]) for wish in networking.load_wishes(container.directory)]
            joining.publish(engine.root, container.directory, ports, known.monitor_pid, networks)
        container.record.host_config["PortBindings"] = ports
        exposed = {**(container.record.config.get("ExposedPorts") or {}), **{port: {} for port in ports}}
        container.record.config["ExposedPorts"] = exposed
        container.record.save(container.directory, durable=container.record.durable)


def members(engine: Existing, network: Network) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The running containers in the network: id, name and endpoint."""
    for identity in sorted(set(engine.networks.leases(network).values())):
        held = attachment.load(f"{engine.root.containers}/{identity}")
        for endpoint in held["endpoints"] if held else []:
            if endpoint["network"] == network.id:
                yield identity, engine.get(identity).name, endpoint


def wanted(engine: Existing) -> set[str]:
    """The names of networks that any container, running or not, is to be in."""
    return {
        wish["network"] for container in engine.list(all=True) for wish in networking.load_wishes(container.directory)
    }


def _addresses(endpoint: dict[str, Any]) -> list[str]:
    return [address for address in (endpoint["address"], endpoint["address6"]) if address]


def _edit_hosts(directory: str, change: Any) -> None:
    """In place: the container has this very file mounted."""
    with open(f"{directory}/hosts", "r+", encoding="utf-8", errors="surrogateescape") as file:
        lines = change(file.read().splitlines())
        file.seek(0)
        file.write("".join(f"{line}\n" for line in lines))
        file.truncate()


def _tell(engine: Existing, network: Network, container: Container, action: str) -> None:
    attributes = {"container": container.id, "name": network.name, "type": network.driver}
    events.emit(engine.root, "network", action, network.id, attributes=attributes)


def hand_over(engine: Existing, old: Container, new: Container, ports: dict[str, list[dict[str, str]]]) -> None:
    """Let `new` publish these ports in the place of `old`, so that no connection is lost. Raises PortTaken."""
    from specrun.network import joining

    wishes = networking.load_wishes(new.directory)
    networks = [engine.networks.get(wish["network"]) for wish in wishes]
    with engine.changing(old), engine.changing(new):
        known = state.load(new.directory)
        joining.hand_over(engine.root, old.directory, new.directory, ports, known.monitor_pid, networks)
        for container, bindings in ((old, {}), (new, ports)):
            container.record.host_config["PortBindings"] = bindings
            container.record.save(container.directory, durable=True)
