"""What a container asks of networks, kept in its folder, and the files of /etc that tell it what it got."""

from __future__ import annotations

import os

from specrun.errors import Conflict, NotFound, SpecrunError, UsageError
from specrun.files import write_atomic
from specrun.network.subnets import is_address
from specrun_runtime import attachment, jsontext, state
from specrun_runtime.fds import start_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from specrun.engine.record import Record
    from specrun.network.joining import Joined, Wish
    from specrun.paths import Root

WISHES = "networks.json"
_HOSTS = """127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""
RESOLVER = "127.0.0.11"
"""Where containers of networks other than the default one find the resolver, as with Docker."""
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._")


class NetworkRequest:
    """What a new container asks of networks; with nothing said it gets the default network."""

    __slots__ = (
        "aliases",
        "dns",
        "dns_options",
        "dns_search",
        "exposed",
        "extra_hosts",
        "ip",
        "ip6",
        "links",
        "mac",
        "mode",
        "others",
        "ports",
        "publish_all",
    )

    def __init__(
        self,
        mode: str = "default",
        *,
        aliases: list[str] | None = None,
        ip: str = "",
        ip6: str = "",
        mac: str = "",
        others: list[Wish] | None = None,
        ports: dict[str, list[dict[str, str]]] | None = None,
        publish_all: bool = False,
        exposed: list[str] | None = None,
        extra_hosts: list[str] | None = None,
        dns: list[str] | None = None,
        dns_search: list[str] | None = None,
        dns_options: list[str] | None = None,
    ) -> None:
        self.mode = mode
        """`default`, `none`, `host`, `container:NAME` or a network."""
        self.aliases = aliases or []
        self.ip = ip
        self.ip6 = ip6
        self.mac = mac
        self.others = others or []
        """Networks besides the first."""
        self.ports = ports or {}
        """`port/protocol` -> where it is published, as HostConfig.PortBindings."""
        self.publish_all = publish_all
        self.exposed = exposed or []
        self.extra_hosts = extra_hosts or []
        """`name:address`, each."""
        self.dns = dns or []
        self.dns_search = dns_search or []
        self.dns_options = dns_options or []

    @property
    def plain(self) -> bool:
        """Whether the mode is none of the special ones."""
        return self.mode not in ("none", "host") and not self.mode.startswith("container:")

    def check(self) -> None:
        """Refuse what contradicts itself, with Docker's words."""
        if self.mode.startswith("container:"):
            if self.ports or self.publish_all:
                raise UsageError("conflicting options: port publishing and the container type network mode")
            if self.exposed:
                raise UsageError("conflicting options: port exposing and the container type network mode")
            if self.extra_hosts:
                raise UsageError("conflicting options: custom host-to-IP mapping and the network mode")
            if self.dns or self.dns_search or self.dns_options:
                raise UsageError("conflicting options: dns and the network mode")
        user_defined = self.plain and self.mode not in ("default", "bridge")
        if self.aliases and not user_defined:
            raise UsageError("network-scoped aliases are only supported for user-defined networks")
        if (self.ip or self.ip6) and not user_defined:
            raise UsageError("user specified IP address is supported on user defined networks only")
        if self.mac and not _is_mac(self.mac):
            raise UsageError(
                f"{self.mac} is not a valid mac address", hint="expected six bytes such as 02:42:ac:11:00:02"
            )
        if self.mac and not self.plain:
            raise UsageError("conflicting options: mac-address and the network mode")
        for entry in self.extra_hosts:
            name, colon, address = entry.partition(":")
            if not name or not colon or not (address == "host-gateway" or is_address(address)) or not _is_word(name):
                raise UsageError(f'bad format for add-host: "{entry}"', hint="expected NAME:ADDRESS")
        for address in self.dns:
            if not is_address(address):
                raise UsageError(f"IP address is not correctly formatted: {address}")
        for word in (*self.dns_search, *self.dns_options, *self.aliases):
            if not word or any(letter.isspace() or not letter.isprintable() for letter in word):
                raise UsageError(
                    f"{word!r} is no name for a resolver", hint="names have no blanks and no control characters"
                )


def _is_word(text: str) -> bool:
    return _NAME.issuperset(text)


def _is_mac(text: str) -> bool:
    parts = text.split(":")
    digits = frozenset("0123456789abcdefABCDEF")
    return (
        len(parts) == 6
        and all(len(part) == 2 and digits.issuperset(part) for part in parts)
        and not int(parts[0], 16) & 1
    )


def host_config(request: NetworkRequest) -> dict[str, Any]:
    """The part of `HostConfig` that is about networks."""
    return {
        "NetworkMode": request.mode,
        "PortBindings": request.ports,
        "PublishAllPorts": request.publish_all,
        "Dns": request.dns,
        "DnsOptions": request.dns_options,
        "DnsSearch": request.dns_search,
        "ExtraHosts": request.extra_hosts or None,
        "Links": None,
    }


def exposed_ports(request: NetworkRequest, image: dict[str, Any]) -> dict[str, Any]:
    """`ExposedPorts`: the image's, those of --expose, and all that are published."""
    known = {port if "/" in port else f"{port}/tcp" for port in image.get("ExposedPorts") or {}}
    return {port: {} for port in sorted(known | set(request.exposed) | set(request.ports))}


def save_wishes(directory: str, wishes: list[dict[str, Any]], *, durable: bool) -> None:
    """Write which networks the container is to be in."""
    write_atomic(f"{directory}/{WISHES}", jsontext.dumps(wishes).encode(), durable=durable)


def wishes_of(request: NetworkRequest) -> list[dict[str, Any]]:
    """The networks that a new container is to be in, with what it wants there."""
    if not request.plain:
        return []
    name = "bridge" if request.mode == "default" else request.mode
    first = {"network": name, "aliases": request.aliases, "ip": request.ip, "ip6": request.ip6, "mac": request.mac}
    return [first, *(wish.document() for wish in request.others)]


def load_wishes(directory: str) -> list[dict[str, Any]]:
    """What `save_wishes` wrote."""
    try:
        with open(f"{directory}/{WISHES}", "rb") as file:
            found: list[dict[str, Any]] = jsontext.loads(file.read())
            return found
    except FileNotFoundError:
        return []


class Network:
    """A container's network for one start: the namespace, and the files of /etc that describe it."""

    __slots__ = ("borrowed", "joined", "namespace")

    def __init__(self, namespace: str, *, joined: Joined | None = None, borrowed: str = "") -> None:
        self.namespace = namespace
        """The path of the namespace to join; "" for a new one with loopback only, or for the host's."""
        self.joined = joined
        self.borrowed = borrowed
        """The folder of the container whose network, and files of /etc, it shares."""

    def close(self) -> None:
        """The monitor has the namespace by now, or never will."""
        if self.joined:
            self.joined.namespace.close()


def prepare(root: Root, directory: str, record: Record, monitor: int) -> Network:
    """Give the container its network; `monitor` is the pid of the process that will answer for it.

    Raises SpecrunError; then nothing is held. What is held otherwise is let go of by `attachment.release`.
    """
    mode = record.host_config["NetworkMode"]
    attachment.release(directory)  # what a crash may have left
    if mode in ("none", "host"):
        return Network("")
    if mode.startswith("container:"):
        return _borrow(root, mode.partition(":")[2])
    from specrun.network import joining

    wishes = [joining.Wish(**wish) for wish in load_wishes(directory)]
    bindings = dict(record.host_config.get("PortBindings") or {})
    if record.host_config.get("PublishAllPorts"):
        bindings = {
            port: bindings.get(port) or [{"HostIp": "", "HostPort": ""}] for port in record.config["ExposedPorts"]
        }
    if not wishes:
        return Network("")
    try:
        joined = joining.join(root, directory, record.id, wishes, bindings, monitor)
    except BaseException:
        attachment.release(directory)
        raise
    return Network(f"/proc/{os.getpid()}/fd/{joined.namespace.number}", joined=joined)


let_go = attachment.release


def _borrow(root: Root, identity: str) -> Network:
    directory = f"{root.containers}/{identity}"
    try:
        known = state.load(directory)
    except FileNotFoundError as error:
        raise NotFound(f"No such container: {identity}") from error
    if known.status != state.RUNNING or start_time(known.pid) != known.start_time:
        raise Conflict(f"cannot join network of a non running container: {identity}")
    return Network(f"/proc/{known.pid}/ns/net", borrowed=directory)


def hosts_file(record: Record, network: Network) -> bytes:
    """/etc/hosts: Docker's lines, --add-host, and the container's own addresses."""
    if record.host_config["NetworkMode"] == "host":
        return _read("/etc/hosts") + _extra_hosts(record, "127.0.0.1").encode()
    gateway, lines = "", ""
    for endpoint in network.joined.endpoints if network.joined else []:
        gateway = gateway or endpoint["gateway"]
        names = own_names(record)
        for address in (endpoint["address"], endpoint["address6"]):
            lines += f"{address}\t{names}\n" if address else ""
    return (_HOSTS + _extra_hosts(record, gateway) + lines).encode()


def own_names(record: Record) -> str:
    """How /etc/hosts calls the container: its name in its domain, and its first word."""
    domain = record.config["Domainname"]
    full = f"{record.config['Hostname']}.{domain}" if domain else record.config["Hostname"]
    first, dot, _ = full.partition(".")
    return f"{full} {first}" if dot else full


def _extra_hosts(record: Record, gateway: str) -> str:
    lines = ""
    for entry in record.host_config.get("ExtraHosts") or []:
        name, _, address = entry.partition(":")
        if address == "host-gateway":
            if not gateway:
                raise SpecrunError(f'unable to derive the IP value for host-gateway of "{entry}": there is no gateway')
            address = gateway
        lines += f"{address}\t{name}\n"
    return lines


def resolver_file(record: Record, network: Network) -> bytes:
    """/etc/resolv.conf: the resolver's address in user-defined networks, else the host's servers."""
    endpoints = network.joined.endpoints if network.joined else []
    return _resolver_text(record, any(endpoint["name"] != "bridge" for endpoint in endpoints))


def rewrite_resolver(record: Record, directory: str) -> None:
    """The container has names from now on; the file is changed in place, as the container has it mounted."""
    with open(f"{directory}/resolv.conf", "r+b", buffering=0) as file:
        file.write(_resolver_text(record, True))
        file.truncate()


def _resolver_text(record: Record, named: bool) -> bytes:
    settings = record.host_config
    host = _host_lines()
    search = settings.get("DnsSearch") or [word for line in host if line[0] == "search" for word in line[1:]]
    options = settings.get("DnsOptions") or [word for line in host if line[0] == "options" for word in line[1:]]
    servers = settings.get("Dns") or [line[1] for line in host if line[0] == "nameserver" and len(line) > 1]
    if settings["NetworkMode"] not in ("host", "none"):
        servers = [server for server in servers if not server.startswith("127.") and server != "::1"] or [*_PUBLIC]
    if named:
        servers = [RESOLVER]
        options = [*(word for word in options if not word.startswith("ndots:")), "ndots:0"]
        if settings.get("DnsOptions"):
            options = settings["DnsOptions"]
    lines = [f"search {' '.join(search)}"] if search and search != ["."] else []
    lines += [f"nameserver {server}" for server in servers]
    lines += [f"options {' '.join(options)}"] if options else []
    return "".join(f"{line}\n" for line in lines).encode()


_PUBLIC = ("8.8.8.8", "8.8.4.4")
"""Docker's choice where the host names only servers of its own loopback."""


def host_servers() -> list[str]:
    """The host's name servers."""
    return [line[1] for line in _host_lines() if line[0] == "nameserver" and len(line) > 1]


def _host_lines() -> list[list[str]]:
    text = _read("/etc/resolv.conf")
    if b"127.0.0.53" in text and (real := _read("/run/systemd/resolve/resolv.conf")):
        text = real
    words = (line.split("#")[0].split() for line in text.decode("utf-8", "replace").splitlines())
    return [line for line in words if line]


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(1 << 16)
    except OSError:
        return b""


def settings_document(record: Record, directory: str) -> dict[str, Any]:
    """`NetworkSettings` of `docker inspect`."""
    held = attachment.load(directory)
    endpoints = {one["name"]: _endpoint_document(one, record.id) for one in (held["endpoints"] if held else [])}
    for wish in load_wishes(directory):
        endpoints.setdefault(wish["network"], _idle_document(wish, record.id))
    mode = record.host_config["NetworkMode"]
    if mode in ("none", "host"):
        endpoints[mode] = _idle_document({"network": mode, "aliases": [], "ip": "", "ip6": ""}, "")
    default = endpoints.get("bridge") or _idle_document({"network": "", "aliases": [], "ip": "", "ip6": ""}, "")
    top = {key: default[key] for key in _TOP}
    return {
        "Bridge": "",
        "SandboxID": record.id if held else "",
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "Ports": port_map(record, held) if held else {},
        "SandboxKey": "",
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        **top,
        "Networks": dict(sorted(endpoints.items())),
    }


_TOP = (
    "EndpointID", "Gateway", "GlobalIPv6Address", "GlobalIPv6PrefixLen", "IPAddress", "IPPrefixLen", "IPv6Gateway",
    "MacAddress",
)  # fmt: skip


def port_map(record: Record, held: dict[str, Any]) -> dict[str, Any]:
    """`Ports` of `docker inspect`: where each exposed port is published, null for one that is not."""
    ports: dict[str, Any] = dict.fromkeys(record.config.get("ExposedPorts") or {})
    for one in held["published"]:
        key = f"{one['inner']}/{one['protocol']}"
        ports[key] = [*(ports.get(key) or []), {"HostIp": one["address"], "HostPort": str(one["port"])}]
    return ports


def published(directory: str) -> list[tuple[str, str]]:
    """`port/protocol` and `address:port` of each published port of a container that runs."""
    held = attachment.load(directory)
    found = []
    for one in held["published"] if held else []:
        found.append((f"{one['inner']}/{one['protocol']}", f"{_shown(one['address'])}:{one['port']}"))
    return sorted(found, key=lambda entry: (int(entry[0].partition("/")[0]), entry[0].partition("/")[2]))


def ports_column(record: Record, directory: str) -> str:
    """What `ps` shows: first what has the same number on both sides, and ports in a row as one range."""
    held = attachment.load(directory)
    if held is None:
        return ""
    taken = {f"{one['inner']}/{one['protocol']}" for one in held["published"]}
    exposed = (port.partition("/") for port in record.config.get("ExposedPorts") or {} if port not in taken)
    entries = [(one["inner"], one["address"], one["port"], one["protocol"]) for one in held["published"]]
    return ", ".join(in_groups([*entries, *((int(number), "", 0, protocol) for number, _, protocol in exposed)]))


def in_groups(entries: list[tuple[int, str, int, str]]) -> list[str]:
    """Inner port, address ("" where it is only exposed), outer port and protocol of each, as Docker groups them."""
    done, singles = [], []
    groups: dict[tuple[str, str], list[int]] = {}
    for inner, address, outer, protocol in sorted(entries):
        if address and inner != outer:
            singles.append(f"{_shown(address)}:{outer}->{inner}/{protocol}")
            continue
        group = groups.setdefault((address, protocol), [inner, inner])
        if inner > group[1] + 1:
            done.append(_group(address, protocol, *group))
            group[0] = inner
        group[1] = inner
    return [*done, *(_group(*key, *group) for key, group in groups.items()), *singles]


def _group(address: str, protocol: str, first: int, last: int) -> str:
    span = str(first) if first == last else f"{first}-{last}"
    return f"{_shown(address)}:{span}->{span}/{protocol}" if address else f"{span}/{protocol}"


def _shown(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def network_names(record: Record, directory: str) -> list[str]:
    """The networks that the container is in, or will be."""
    names = sorted(wish["network"] for wish in load_wishes(directory))
    return names or [record.host_config["NetworkMode"]]


def _endpoint_document(one: dict[str, Any], identity: str) -> dict[str, Any]:
    wanted = one["wanted"]
    config = {"IPv4Address": wanted["ip"], "IPv6Address": wanted["ip6"]}
    return {
        "IPAMConfig": {key: value for key, value in config.items() if value} or None,
        "Links": None,
        "Aliases": _aliases(one["name"], one["aliases"], identity),
        "NetworkID": one["network"],
        "EndpointID": one["endpoint"],
        "Gateway": one["gateway"],
        "IPAddress": one["address"],
        "IPPrefixLen": one["prefix"],
        "IPv6Gateway": one["gateway6"],
        "GlobalIPv6Address": one["address6"],
        "GlobalIPv6PrefixLen": one["prefix6"],
        "MacAddress": one["mac"],
        "DriverOpts": None,
    }


def _idle_document(wish: dict[str, Any], identity: str) -> dict[str, Any]:
    empty = dict.fromkeys(("network", "endpoint", "gateway", "address", "gateway6", "address6", "mac"), "")
    one = {**empty, "name": wish["network"], "aliases": wish["aliases"], "prefix": 0, "prefix6": 0, "wanted": wish}
    return _endpoint_document(one, identity)


def _aliases(name: str, aliases: list[str], identity: str) -> list[str] | None:
    if name in ("bridge", "none", "host", ""):
        return None
    return [*aliases, identity[:12]]
