"""`specrun network`: create, list, inspect and remove networks, connect and disconnect containers."""

from __future__ import annotations

from specrun.cli import output
from specrun.cli.commands.each import for_each
from specrun.cli.commands.pruning import confirmed, listing
from specrun.cli.options import Command, Option
from specrun.engine import connecting
from specrun.errors import NotFound, SpecrunError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from specrun.cli.context import Context
    from specrun.engine.existing import Existing
    from specrun.network.networks import Network

CREATE = Command(
    "network create",
    "[OPTIONS] NETWORK",
    "Create a network.",
    [
        Option("--attachable", "flag", "Enable manual container attachment (all networks are attachable)"),
        Option("--aux-address", "list", "Auxiliary addresses that no container gets: name=address"),
        Option("-d --driver", "value", "Driver to manage the network: bridge or macvlan"),
        Option("--gateway", "list", "IPv4 or IPv6 gateway for the subnet"),
        Option("--internal", "flag", "Restrict external access to the network"),
        Option("--ip-range", "list", "Allocate container addresses from a sub-range"),
        Option("--ipv6", "flag", "Enable IPv6 networking"),
        Option("--label", "list", "Set metadata on a network"),
        Option("-o --opt", "list", "Set driver specific options"),
        Option("--subnet", "list", "Subnet in CIDR format that represents a network segment"),
    ],
    examples=["network create front", "network create --subnet 10.5.0.0/16 --gateway 10.5.0.1 --internal back"],
    unsupported="--config-from --config-only --ingress --ipam-driver --ipam-opt --ipv4 --scope",
)
LS = Command(
    "network ls",
    "[OPTIONS]",
    "List networks.",
    [
        Option("-f --filter", "list", "Filter by driver= id= name= label= scope= type= dangling=", "filter"),
        Option("--format", "value", "table, json or a Go template"),
        Option("--no-trunc", "flag", "Don't truncate output"),
        Option("-q --quiet", "flag", "Only show ids"),
    ],
    examples=["network ls", "network ls -q -f driver=bridge"],
)
INSPECT = Command(
    "network inspect",
    "[OPTIONS] NETWORK [NETWORK...]",
    "Display detailed information on one or more networks.",
    [
        Option("-f --format", "value", "Print by a Go template, or json"),
        Option("-v --verbose", "flag", "Accepted as Docker does; there is nothing more to tell"),
    ],
    examples=["network inspect bridge"],
)
RM = Command(
    "network rm",
    "NETWORK [NETWORK...]",
    "Remove one or more networks.",
    [Option("-f --force", "flag", "Do not error if the network does not exist")],
    examples=["network rm front"],
)
PRUNE = Command(
    "network prune",
    "[OPTIONS]",
    "Remove all networks that no container uses. What the default network needs on the host is taken down too, until\n"
    "it is used again.",
    [
        Option("--filter", "list", "Filter by label=, label!= or until=", "filter"),
        Option("-f --force", "flag", "Do not prompt for confirmation"),
    ],
    examples=["network prune -f"],
)
CONNECT = Command(
    "network connect",
    "[OPTIONS] NETWORK CONTAINER",
    "Connect a container to a network, also while it runs.",
    [
        Option("--alias", "list", "Add network-scoped alias for the container"),
        Option("--ip", "value", "IPv4 address (e.g., 172.30.100.104)"),
        Option("--ip6", "value", "IPv6 address (e.g., 2001:db8::33)"),
    ],
    examples=["network connect --alias db back simple1"],
    unsupported="--driver-opt --gw-priority --link --link-local-ip",
)
DISCONNECT = Command(
    "network disconnect",
    "[OPTIONS] NETWORK CONTAINER",
    "Disconnect a container from a network, also while it runs.",
    [Option("-f --force", "flag", "Force the container to disconnect from a network")],
    examples=["network disconnect back simple1"],
)
FIELDS = [("NETWORK ID", "ID"), ("NAME", "Name"), ("DRIVER", "Driver"), ("SCOPE", "Scope")]


def run(arguments: list[str], context: Context) -> int:
    """One of the verbs of `network`."""
    if not arguments or arguments[0] in ("--help", "-h"):
        context.out(_usage())
        return 0
    verb = _VERBS.get(arguments[0])
    if verb is None:
        raise UsageError(f"'network {arguments[0]}' is not a specrun command.", hint="see 'specrun network --help'")
    return verb(arguments[1:], context)


def _usage() -> str:
    lines = ["Usage:  specrun network COMMAND", "", "Manage networks.", "", "Commands:"]
    for command in (CONNECT, CREATE, DISCONNECT, INSPECT, LS, PRUNE, RM):
        name = command.name.removeprefix("network ")
        lines.append(f"  {name.ljust(11)} {command.summary.splitlines()[0]}")
    return "\n".join(lines) + "\n"


def _create(arguments: list[str], context: Context) -> int:
    options = CREATE.parse(arguments)
    CREATE.require(options, 1, 1)
    from specrun.network.creation import NetworkRequest, create

    engine = context.existing()
    engine.mend()
    request = NetworkRequest(
        options.arguments[0],
        driver=options.driver or "bridge",
        subnets=options.subnet,
        ranges=options.ip_range,
        gateways=options.gateway,
        reserved=dict(_pair(text, "--aux-address") for text in options.aux_address),
        internal=options.internal,
        ipv6=options.ipv6,
        attachable=options.attachable,
        labels=dict(_pair(text, "--label", bare=True) for text in options.label),
        options=dict(_pair(text, "--opt", bare=True) for text in options.opt),
    )
    context.out(f"{create(engine.networks, request).id}\n")
    return 0


def _pair(text: str, what: str, *, bare: bool = False) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not (equals or bare):
        raise UsageError(f"invalid argument {text!r} for {what}", hint="expected key=value")
    return key, value


def _ls(arguments: list[str], context: Context) -> int:
    options = LS.parse(arguments)
    LS.require(options, 0, 0)
    filters = [_filter(text) for text in options.filter]
    engine = context.existing()
    engine.mend()
    found = [network for network in engine.networks.all() if _passes(network, filters, engine)]
    if options.quiet:
        context.out("".join(f"{one.id if options.no_trunc else one.id[:12]}\n" for one in found))
        return 0
    rows = [_row(network, options.no_trunc) for network in found]
    context.out(output.listing(rows, FIELDS, options.format))
    return 0


def _row(network: Network, whole: bool) -> dict[str, Any]:
    return {
        "ID": network.id if whole else network.id[:12],
        "Name": network.name,
        "Driver": network.driver,
        "Scope": "local",
        "CreatedAt": output.local_time(network.created),
        "IPv4": "true",
        "IPv6": str(network.ipv6).lower(),
        "Internal": str(network.internal).lower(),
        "Labels": ",".join(f"{key}={value}" for key, value in network.labels.items()),
    }


def _filter(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if key not in ("driver", "id", "name", "label", "scope", "type", "dangling") or not equals:
        raise UsageError(f"Invalid filter '{text}'", hint="expected driver= id= name= label= scope= type= or dangling=")
    return key, value


def _passes(network: Network, filters: list[tuple[str, str]], engine: Existing) -> bool:
    for key in {key for key, _ in filters}:
        tests = [_holds(network, key, value, engine) for other, value in filters if other == key]
        if not (all(tests) if key == "label" else any(tests)):
            return False
    return True


def _holds(network: Network, key: str, value: str, engine: Existing) -> bool:
    if key == "label":
        name, equals, wanted = value.partition("=")
        return name in network.labels and (not equals or network.labels[name] == wanted)
    if key == "type":
        return (value == "builtin") == network.predefined
    if key == "dangling":
        used = bool(engine.networks.leases(network)) or network.predefined
        return used == (value.lower() in ("false", "0"))
    known = {"driver": network.driver, "scope": "local"}
    if key in known:
        return known[key] == value
    return network.id.startswith(value) if key == "id" else value in network.name


def _inspect(arguments: list[str], context: Context) -> int:
    from specrun.cli.commands.inspect import print_documents

    options = INSPECT.parse(arguments)
    INSPECT.require(options, 1)
    engine = context.existing()
    engine.mend()
    return print_documents(
        options.arguments, lambda name: describe(engine, engine.networks.get(name)), options.format, context
    )


def describe(engine: Existing, network: Network) -> dict[str, Any]:
    """A network as `docker network inspect` shows it."""
    return {
        "Name": network.name,
        "Id": network.id,
        "Created": output.rfc3339(network.created),
        "Scope": "local",
        "Driver": network.driver,
        "EnableIPv6": network.ipv6,
        "IPAM": {"Driver": "default", "Options": {} if not network.predefined else None, "Config": network.pools},
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {
            identity: {
                "Name": name,
                "EndpointID": endpoint["endpoint"],
                "MacAddress": endpoint["mac"],
                "IPv4Address": f"{endpoint['address']}/{endpoint['prefix']}",
                "IPv6Address": f"{endpoint['address6']}/{endpoint['prefix6']}" if endpoint["address6"] else "",
            }
            for identity, name, endpoint in connecting.members(engine, network)
        },
        "Options": network.options,
        "Labels": network.labels,
    }


def _rm(arguments: list[str], context: Context) -> int:
    options = RM.parse(arguments)
    RM.require(options, 1)
    from specrun.network.creation import remove

    engine = context.existing()
    engine.mend()

    def one(name: str) -> str:
        try:
            remove(engine.networks, engine.networks.get(name))
        except NotFound:
            if not options.force:
                raise
        return name

    return for_each(options.arguments, context, one)


def _prune(arguments: list[str], context: Context) -> int:
    options = PRUNE.parse(arguments)
    PRUNE.require(options, 0, 0)
    tests = [_prune_filter(text) for text in options.filter]
    what = "custom networks not used by at least one container"
    if not options.force and not confirmed(context, f"WARNING! This will remove all {what}.\n"):
        return 0
    from specrun.network.creation import prune

    engine = context.existing()
    engine.mend()
    removed = prune(engine.networks, connecting.wanted(engine), lambda network: all(test(network) for test in tests))
    context.out(listing("Deleted Networks", removed))
    return 0


def _prune_filter(text: str) -> Callable[[Network], bool]:
    key, equals, value = text.partition("=")
    if key == "until" and equals:
        moment = output.parse_time(value) or _ago(value)
        return lambda network: network.created <= moment
    if key in ("label", "label!") and equals:
        name, given, wanted = value.partition("=")

        def labelled(network: Network) -> bool:
            has = name in network.labels and (not given or network.labels[name] == wanted)
            return has == (key == "label")

        return labelled
    raise UsageError(f"Invalid filter '{text}'", hint="expected label=, label!= or until=")


def _ago(text: str) -> float:
    import time

    units = {"s": 1, "m": 60, "h": 3600}
    if text[-1:] in units and text[:-1].isdigit():
        return time.time() - int(text[:-1]) * units[text[-1]]
    raise UsageError(f"Invalid filter 'until={text}'", hint="expected a time such as 10m, 24h or 2026-01-31T00:00:00")


def _connect(arguments: list[str], context: Context) -> int:
    options = CONNECT.parse(arguments)
    CONNECT.require(options, 2, 2)
    engine = context.existing()
    engine.mend()
    connecting.connect(
        engine,
        options.arguments[0],
        engine.get(options.arguments[1]),
        aliases=options.alias,
        ip=options.ip,
        ip6=options.ip6,
    )
    return 0


def _disconnect(arguments: list[str], context: Context) -> int:
    options = DISCONNECT.parse(arguments)
    DISCONNECT.require(options, 2, 2)
    engine = context.existing()
    engine.mend()
    try:
        connecting.disconnect(engine, options.arguments[0], engine.get(options.arguments[1]))
    except SpecrunError:
        if not options.force:
            raise
    return 0


_VERBS: dict[str, Callable[[list[str], Context], int]] = {
    "create": _create,
    "ls": _ls,
    "list": _ls,
    "inspect": _inspect,
    "rm": _rm,
    "remove": _rm,
    "prune": _prune,
    "connect": _connect,
    "disconnect": _disconnect,
}
