"""The options of `run` and `create` that are about networks."""

from __future__ import annotations

from specrun.cli.options import Option
from specrun.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.cli.options import Parsed
    from specrun.engine.networking import NetworkRequest

NETWORK_OPTIONS = [
    Option("--add-host", "list", "Add a custom host-to-IP mapping (host:ip)"),
    Option("--dns", "list", "Set custom DNS servers"),
    Option("--dns-opt --dns-option", "list", "Set DNS options"),
    Option("--dns-search", "list", "Set custom DNS search domains"),
    Option("--expose", "list", "Expose a port or a range of ports"),
    Option("--ip", "value", "IPv4 address (e.g., 172.30.100.104)"),
    Option("--ip6", "value", "IPv6 address (e.g., 2001:db8::33)"),
    Option("--mac-address", "value", "Container MAC address (e.g., 92:d0:c6:0a:29:33)"),
    Option("--net --network", "list", "Connect a container to a network, or: none, host, container:NAME", "network"),
    Option("--net-alias --network-alias", "list", "Add network-scoped alias for the container"),
    Option("-p --publish", "list", "Publish a container's port(s) to the host: [[ADDRESS:][PORT]:]PORT[/udp]"),
    Option("-P --publish-all", "flag", "Publish all exposed ports to random ports"),
]


def network_of(options: Parsed) -> NetworkRequest:
    """The request that these options describe. Raises UsageError."""
    from specrun.engine.networking import NetworkRequest

    if not (options.publish or options.expose or len(options.network) > 1):
        ports, exposed, others = {}, [], []
    else:
        from specrun.network.joining import Wish
        from specrun.network.ports import parse_expose

        ports = published(options.publish)
        exposed = [port for text in options.expose for port in parse_expose(text)]
        others = [Wish(name) for name in options.network[1:]]
    mode = options.network[0] if options.network else "default"
    if others and mode in ("none", "host"):
        raise UsageError(f"conflicting options: network {mode} and others")
    return NetworkRequest(
        mode,
        aliases=options.network_alias,
        ip=options.ip,
        ip6=options.ip6,
        mac=options.mac_address,
        others=others,
        ports=ports,
        publish_all=options.publish_all,
        exposed=exposed,
        extra_hosts=options.add_host,
        dns=options.dns,
        dns_search=options.dns_search,
        dns_options=options.dns_option,
    )


def published(texts: list[str]) -> dict[str, list[dict[str, str]]]:
    """`PortBindings` of all -p. Raises UsageError."""
    from specrun.network.ports import parse_publish

    ports: dict[str, list[dict[str, str]]] = {}
    for text in texts:
        for port, binding in parse_publish(text):
            ports.setdefault(port, []).append(binding)
    return ports
