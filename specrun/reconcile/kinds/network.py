"""Kind Network on the local runtime: bridges of our own, and macvlan networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from specrun.network import vlans
from specrun.network.networks import NetworkNotFound, NetworkStore
from specrun.reconcile.changes import Action, Change, Fact, Found
from specrun.reconcile.kinds import connect
from specrun.reconcile.kinds.base import Desk, Task, View, fact_differences, gone, placed, spec_differences
from specrun.reconcile.project import Entry
from specrun.spec import models
from specrun_runtime.netlink import Netlink

if TYPE_CHECKING:
    from specrun.network.networks import Network
    from specrun.spec.loader import Resource
    from specrun.spec.yamltext import Path

MTU = "com.docker.network.driver.mtu"


class Networks:
    """What containers join."""

    def unsupported(self, resource: Resource) -> list[Path]:
        """All of it is supported."""
        return []

    def observe(self, view: View, name: str, resource: Resource | None, entry: Entry | None) -> Found | None:
        """Its record, and whether its bridge is up with the rules that belong to it."""
        from specrun.network import observation

        try:
            network = NetworkStore(view.root).get(name)
        except NetworkNotFound:
            return None
        record = f"networks/{network.id[:12]}/network.json"
        facts = {name: Fact(value, record) for name, value in _recorded(network).items()}
        if network.driver == "bridge":
            link = network.link(view.root)
            facts["state"] = Fact(observation.of_bridge(view.root, network, connect.host_links(view)), f"link {link}")
            facts["rules"] = Fact(
                "as made" if connect.rules_are_ours(view) else "changed", f"nft table specrun_{view.root.id}"
            )
        elif network.driver == "macvlan":
            parent = network.options.get("parent", "")
            facts["state"] = Fact("up" if vlans.is_there(network) else "gone", f"link {parent}")
        return Found(network.id, "present", network.labels.get("io.specrun.token", ""), facts)

    def inputs(self, view: View, resource: Resource) -> dict[str, str]:
        """Nothing stands beside the spec."""
        return {}

    def diff(self, desk: Desk, resource: Resource, found: Found | None, entry: Entry | None) -> Change:
        """A network's subnets and options are fixed when it is made; its bridge and rules can be mended."""
        if found is None:
            return gone(resource, entry, "present", "networks of the state folder")
        wanted = {**dict.fromkeys(("state",), "up"), "rules": "as made", **_wanted(resource)}
        changed = fact_differences(wanted, found)
        if lasting := [one for one in changed if one.dotted not in ("state", "rules")]:
            names = ", ".join(one.dotted for one in lasting)
            drifted = entry is not None and not spec_differences(resource, entry)
            return placed(Action.REPLACE, resource, f"{names} cannot change in place", changed, drifted=drifted)
        if changed:
            return placed(Action.UPDATE, resource, "its link or rules were changed", changed, drifted=True)
        return Change(Action.KEEP, resource.key, "")

    def apply(self, task: Task) -> None:
        """Make it, or bring up what is missing of it."""
        from specrun.network import bridges, creation

        store = NetworkStore(task.view.root)
        name = task.resource.metadata.name
        if task.change.action is Action.REPLACE:
            self.remove(task.view, task.entry)
        try:
            network = store.get(name)
        except NetworkNotFound:
            creation.create(store, _request(task.resource))
            return
        with store.lock(), Netlink() as kernel:
            bridges.bring_up(store, network)
            if network.driver == "bridge":
                bridges.furnish(store.root, network, kernel)
                bridges.remake_rules(store)

    def remove(self, view: View, entry: Entry) -> str:
        """Remove it. Raises Conflict while containers are in it."""
        from specrun.network import creation

        store = NetworkStore(view.root)
        try:
            network = store.get(entry.name)
        except NetworkNotFound:
            return "-"
        creation.remove(store, network)
        return ""


def _spec(resource: Resource) -> models.NetworkSpec:
    assert isinstance(resource.spec, models.NetworkSpec)  # noqa: S101 - the table says so
    return resource.spec


def _recorded(network: Network) -> dict[str, Any]:
    """What the record says, by the fields of the spec."""
    return {
        "driver": network.driver,
        "internal": network.internal,
        "enableIPv6": network.ipv6,
        "mtu": int(network.options[MTU]) if MTU in network.options else None,
        "options": {key: value for key, value in network.options.items() if key != MTU},
        "ipam.config": [
            {"subnet": pool.get("Subnet"), "gateway": pool.get("Gateway"), "ipRange": pool.get("IPRange")}
            for pool in network.pools
        ]
        if network.chosen
        else [],
    }


def _wanted(resource: Resource) -> dict[str, Any]:
    spec = _spec(resource)
    request = _request(resource)
    pools = {pool["Subnet"]: pool for pool in request.check()}
    return {
        "driver": spec.driver,
        "internal": spec.internal,
        "enableIPv6": spec.enableIPv6,
        "mtu": spec.mtu,
        "options": spec.options,
        "ipam.config": [
            {"subnet": one.subnet, "gateway": pools[one.subnet].get("Gateway"), "ipRange": one.ipRange}
            for one in spec.ipam.config
        ],
    }


def _request(resource: Resource) -> Any:
    from specrun.network.creation import NetworkRequest

    spec = _spec(resource)
    pools = spec.ipam.config
    return NetworkRequest(
        resource.metadata.name,
        driver=spec.driver,
        subnets=[pool.subnet for pool in pools],
        ranges=[pool.ipRange for pool in pools if pool.ipRange],
        gateways=[pool.gateway for pool in pools if pool.gateway],
        internal=spec.internal,
        ipv6=spec.enableIPv6,
        labels=resource.metadata.labels,
        options={**spec.options, **({MTU: str(spec.mtu)} if spec.mtu else {})},
    )
