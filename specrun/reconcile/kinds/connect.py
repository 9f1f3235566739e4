"""Networks and published ports of a running container: as the kernel has them, and changed without a new process."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

from specrun.engine import connecting, networking
from specrun.network import bridges, links, rules
from specrun.network.networks import NetworkStore
from specrun.reconcile.changes import Fact
from specrun.reconcile.kinds import request
from specrun.spec.models import ProcessSpec
from specrun_runtime import attachment

if TYPE_CHECKING:
    from specrun.engine.container import Container
    from specrun.reconcile.kinds.base import Task, View


def settle(task: Task, container: Container) -> None:
    """Make networks, ports and rules as the spec says, where the change is about them."""
    changed = {one.dotted.split(".")[0].split("[")[0] for one in task.change.differences}
    spec = task.resource.spec
    if not isinstance(spec, ProcessSpec):
        return
    if "networks" in changed:
        _networks(task, container, spec)
    if "ports" in changed:
        wanted = request.ports_of(spec)
        if any(one.source for one in task.change.differences if one.dotted.startswith("ports")):
            store = NetworkStore(task.view.root)
            with store.lock():
                bridges.remake_rules(store)
        connecting.publish(task.view.engine, container, wanted)


def _networks(task: Task, container: Container, spec: ProcessSpec) -> None:
    engine = task.view.engine
    have = {wish["network"]: wish for wish in networking.load_wishes(container.directory)}
    want = {wish["network"]: wish for wish in networking.wishes_of(request.network_of(spec))}
    for name, wish in have.items():
        if want.get(name) != wish:
            connecting.disconnect(engine, name, container)
    for name, wish in want.items():
        if have.get(name) != wish:
            connecting.connect(engine, name, container, aliases=wish["aliases"], ip=wish["ip"], ip6=wish["ip6"])


def facts(view: View, container: Container) -> tuple[dict[str, Fact], dict[str, Any]]:
    """Links, addresses, the way out, and the rules of published ports; and what they should be."""
    held = attachment.load(container.directory)
    if held is None or not held["endpoints"]:
        return {}, {}
    found: dict[str, Fact] = {}
    made: dict[str, Any] = {}
    base = f"/proc/{container.state.pid}/net"
    inner, trie, routes = (_read(f"{base}/{name}") for name in ("dev", "fib_trie", "route"))
    for endpoint in held["endpoints"]:
        name = f"networks.{endpoint['name']}"
        there = f"{endpoint['inner']}:" in inner and (not endpoint["outer"] or links.index_of(endpoint["outer"]))
        found[f"{name}.link"] = Fact("up" if there else "gone", f"{base}/dev")
        found[f"{name}.address"] = Fact(_address_in(trie, endpoint["address"]), f"{base}/fib_trie")
        made.update({f"{name}.link": "up", f"{name}.address": endpoint["address"]})
    if gateway := held["endpoints"][0]["gateway"]:
        found["networks.gateway"] = Fact(gateway if _hexadecimal(gateway) in routes else None, f"{base}/route")
        made["networks.gateway"] = gateway
    if any(endpoint["driver"] == "bridge" for endpoint in held["endpoints"]):
        table = f"nft table {rules.table(view.root)}"
        found["ports.rules"] = Fact("as made" if rules_are_ours(view) else "changed", table)
        made["ports.rules"] = "as made"
        for one in held["published"]:
            publication = rules.Publication(**one)
            if publication.target:
                name = f"ports.{one['address']}:{one['port']}/{one['protocol']}"
                member = publication.member()
                leads = f"{publication.target} . {publication.inner}"
                found[name] = Fact(leads if member.text() in _elements(view) else None, f"{table}, map {member.set}")
                made[name] = leads
    return found, made


def rules_are_ours(view: View) -> bool:
    """Whether the rules are those that we made; asked once for a look."""
    if "rules" not in view.seen:
        view.seen["rules"] = bridges.rules_are_ours(view.root)
    return bool(view.seen["rules"])


def _elements(view: View) -> set[str]:
    """The members of maps that publish the root's ports, as the kernel has them."""
    if "elements" not in view.seen:
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


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _address_in(trie: str, address: str) -> str | None:
    return address if f"-- {address}\n" in trie else None


def _hexadecimal(address: str) -> str:
    """As /proc/net/route writes it: the bytes in the host's order."""
    return "".join(f"{int(part):02X}" for part in reversed(address.split(".")))
