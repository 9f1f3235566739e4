"""Networks and published ports of a running container: as the kernel has them, and changed without a new process."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from specrun.engine import connecting, networking
from specrun.network import bridges, joining, rules
from specrun.network.networks import NetworkStore
from specrun.reconcile.changes import Fact
from specrun.reconcile.kinds import request
from specrun.spec import models
from specrun_runtime import attachment

if TYPE_CHECKING:
    from specrun.engine.container import Container
    from specrun.network.observation import Link
    from specrun.reconcile.kinds.base import Task, View


def settle(task: Task, container: Container) -> None:
    """Make networks, ports and rules as the spec says, where the change is about them."""
    changed = {one.dotted.split(".")[0].split("[")[0] for one in task.change.differences}
    spec = task.resource.spec
    if not isinstance(spec, models.ProcessSpec):
        return
    if changed & {"network", "networks"}:
        _networks(task, container, spec)
    if "ports" in changed:
        wanted = request.ports_of(spec)
        if any(one.source for one in task.change.differences if one.dotted.startswith("ports")):
            store = NetworkStore(task.view.root)
            with store.lock():
                bridges.remake_rules(store)
        connecting.publish(task.view.engine, container, wanted)


def _networks(task: Task, container: Container, spec: models.ProcessSpec) -> None:
    engine = task.view.engine
    have = {wish["network"]: wish for wish in networking.load_wishes(container.directory)}
    want = {wish["network"]: wish for wish in networking.wishes_of(request.network_of(spec))}
    for name, wish in have.items():
        if want.get(name) != wish:
            connecting.disconnect(engine, name, container)
    for name, wish in want.items():
        if have.get(name) != wish:
            wishes = {key: wish[key] for key in ("aliases", "ip", "ip6", "mac")}
            connecting.connect(engine, name, container, **wishes)


def facts(view: View, container: Container) -> tuple[dict[str, Fact], dict[str, Any]]:
    """Links, addresses, the way out, and the rules of published ports; and what they should be."""
    held = attachment.load(container.directory)
    if held is None or not held["endpoints"]:
        return {}, {}
    from specrun.network import observation

    found: dict[str, Fact] = {}
    made: dict[str, Any] = {}

    def compare(name: str, value: Any, wanted: Any, place: str) -> None:
        found[name], made[name] = Fact(value, place), wanted

    try:
        inside = observation.of_process(container.state.pid)
    except OSError:
        return {}, {}  # it ends just now
    where = f"network namespace of process {container.state.pid}"
    networks = {network.id: network for network in NetworkStore(view.root).recorded()}
    for endpoint in held["endpoints"]:
        name = f"networks.{endpoint['name']}"
        network = networks.get(endpoint["network"])
        bridge = network.link(view.root) if network else ""
        compare(f"{name}.link", observation.of_endpoint(endpoint, inside, host_links(view), bridge), "up", where)
        link = inside.get(endpoint["inner"])
        for key, prefix in (("address", "prefix"), ("address6", "prefix6")):
            if endpoint[key]:
                there = link is not None and f"{endpoint[key]}/{endpoint[prefix]}" in link.addresses
                compare(f"{name}.{key}", endpoint[key] if there else None, endpoint[key], where)
    for key, endpoint in joining.ways_out(held["endpoints"]).items():
        link, gateway = inside.get(endpoint["inner"]), endpoint[key]
        there = link is not None and gateway in link.gateways
        compare(f"networks.{key}", gateway if there else None, gateway, where)
    if any(endpoint["driver"] == "bridge" for endpoint in held["endpoints"]):
        table = f"nft table {rules.table(view.root)}"
        compare("ports.rules", "as made" if rules_are_ours(view) else "changed", "as made", table)
        for publication in (rules.Publication(**one) for one in held["published"]):
            if publication.target:
                member, leads = publication.member(), f"{publication.target} . {publication.inner}"
                name = f"ports.{publication.address}:{publication.port}/{publication.protocol}"
                there = member.text() in _elements(view)
                compare(name, leads if there else None, leads, f"{table}, map {member.set}")
    return found, made


def host_links(view: View) -> dict[str, Link]:
    """The links of the host; asked once for a look."""
    from specrun.network import observation

    if "links" not in view.seen:
        view.seen["links"] = observation.look()
    links: dict[str, Link] = view.seen["links"]
    return links


def rules_are_ours(view: View) -> bool:
    """Whether the rules are those that we made; asked once for a look."""
    if "rules" not in view.seen:
        view.seen["rules"] = bridges.rules_are_ours(view.root)
    return bool(view.seen["rules"])


def _elements(view: View) -> set[str]:
    """The members of maps that publish the root's ports, as the kernel has them."""
    if "elements" not in view.seen:
        import subprocess

        command = ["nft", "-j", "list", "table", "inet", rules.table(view.root)]
        done = subprocess.run(command, capture_output=True, check=False)
        view.seen["elements"] = set(_parsed(json.loads(done.stdout))) if done.returncode == 0 else set()
    elements: set[str] = view.seen["elements"]
    return elements


def _parsed(document: dict[str, Any]) -> list[str]:
    maps = [item["map"] for item in document["nftables"] if "map" in item]
    return [
        f"{one['name']} {{ {_joined(key)} : {_joined(value)} }}" for one in maps for key, value in one.get("elem") or []
    ]


def _joined(value: Any) -> str:
    """`tcp . 80` of a concatenation."""
    return " . ".join(str(part) for part in value["concat"]) if isinstance(value, dict) else str(value)
