"""The networks of a root: their records, and the addresses that are given out in them.

    networks/<id>/network.json     what was asked for; replaced whole
    networks/<id>/leases/<address> a symbolic link whose text is the id of the container that has the address

Making a symbolic link is atomic, so no address is given out twice, and the link says who has it from the beginning.
"""

from __future__ import annotations

import os
import time

from specrun.errors import Conflict, Damaged, NotFound, SpecrunError
from specrun.files import locked, remove_tree, write_atomic
from specrun.network.subnets import Subnet, default_pools, parse, show
from specrun_runtime import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from specrun.paths import Root

DEFAULT = "bridge"
PREDEFINED = {"bridge": "bridge", "host": "host", "none": "null"}
"""Name -> driver of the networks that are always there."""

BRIDGE_OPTIONS = (
    "com.docker.network.bridge.name",
    "com.docker.network.bridge.enable_icc",
    "com.docker.network.bridge.enable_ip_masquerade",
    "com.docker.network.bridge.host_binding_ipv4",
    "com.docker.network.driver.mtu",
)
MACVLAN_OPTIONS = ("parent", "macvlan_mode", "com.docker.network.driver.mtu")
_FIELDS = ("id", "name", "driver", "created", "internal", "ipv6", "attachable", "labels", "options", "pools", "chosen")


class NetworkNotFound(NotFound):
    """No network has that name, id or beginning of an id."""


class AddressTaken(Conflict):
    """An address that another container has."""

    code = "address-taken"


class Network:
    """One network. `pools` are its subnets as `IPAM.Config` of `docker network inspect`."""

    __slots__ = _FIELDS

    id: str
    name: str
    driver: str
    created: float
    internal: bool
    ipv6: bool
    attachable: bool
    labels: dict[str, str]
    options: dict[str, str]
    pools: list[dict[str, Any]]
    chosen: bool
    """Whether somebody named the subnets; else they were found free."""

    def __init__(self, **values: Any) -> None:
        for field in _FIELDS:
            setattr(self, field, values[field])

    def document(self) -> dict[str, Any]:
        """As it is stored."""
        return {field: getattr(self, field) for field in _FIELDS}

    @property
    def predefined(self) -> bool:
        """Whether it is one of those that nobody can remove."""
        return self.name in PREDEFINED

    @property
    def mtu(self) -> int:
        """The largest packet, in bytes."""
        return int(self.options.get("com.docker.network.driver.mtu") or 1500)

    @property
    def talkative(self) -> bool:
        """Whether its containers reach each other."""
        return self.flag("com.docker.network.bridge.enable_icc")

    @property
    def masquerades(self) -> bool:
        """Whether what leaves it bears the host's address."""
        return not self.internal and self.flag("com.docker.network.bridge.enable_ip_masquerade")

    def flag(self, option: str) -> bool:
        """A boolean option that is true unless it is said to be false."""
        return self.options.get(option, "true").lower() not in ("false", "0", "f", "no")

    def link(self, root: Root) -> str:
        """The name of its bridge on the host: with the root's id in it, unless the user has named it."""
        return self.options.get("com.docker.network.bridge.name") or f"b{root.id}{self.id[:6]}"

    def pool(self, width: int) -> dict[str, Any] | None:
        """The first pool of addresses of this many bits."""
        for pool in self.pools:
            if Subnet.parse(pool["Subnet"]).width == width:
                return pool
        return None


class NetworkStore:
    """The networks of one root."""

    def __init__(self, root: Root) -> None:
        self.root = root

    def lock(self, *, shared: bool = False) -> locked:
        """Alone for whoever changes networks or makes all rules anew, shared for one container's part of them."""
        return locked(self.lock_path, shared=shared)

    @property
    def lock_path(self) -> str:
        """The file behind `lock`."""
        return self.root.lock("network")

    def folder(self, network: Network) -> str:
        """Where its record and its addresses are."""
        return f"{self.root.networks}/{network.id}"

    def all(self) -> list[Network]:
        """All networks, the predefined ones too, by name."""
        found = {network.name: network for network in self.recorded()}
        for name, driver in PREDEFINED.items():
            found.setdefault(name, self._predefined(name, driver))
        return sorted(found.values(), key=lambda network: network.name)

    def recorded(self) -> list[Network]:
        """Those that have a record: all that were made, and the default one once it was used."""
        return [network for entry in self._entries() if (network := self._load(entry))]

    def _entries(self) -> list[str]:
        try:
            return os.listdir(self.root.networks)
        except FileNotFoundError:
            return []

    def sweep(self, recorded: int) -> None:
        """Remove what killed commands have begun, where there is more than `recorded` networks."""
        if len(self._entries()) <= recorded:
            return
        with self.lock():
            for entry in self._entries():
                folder = f"{self.root.networks}/{entry}"
                if not os.path.exists(f"{folder}/network.json"):
                    remove_tree(folder)

    def get(self, name_or_id: str) -> Network:
        """The network of this name, id or unambiguous beginning of an id. Raises NetworkNotFound."""
        everything = self.all()
        for network in everything:
            if name_or_id in (network.name, network.id):
                return network
        found = [network for network in everything if name_or_id and network.id.startswith(name_or_id)]
        if len(found) > 1:
            raise NetworkNotFound(f"network {name_or_id} is ambiguous: {len(found)} ids begin so")
        if not found:
            raise NetworkNotFound(f"network {name_or_id} not found")
        return found[0]

    def check_wish(self, name: str, address: str) -> None:
        """Refuse a network that is not there or cannot be joined, and an address that it does not give."""
        network = self.get(name)
        if network.driver in ("host", "null"):
            raise Conflict(f"container cannot be connected to network {network.name} besides others")
        if address and not network.chosen:
            raise SpecrunError(
                "user specified IP address is supported only when connecting to networks with user configured subnets",
                hint=f"make the network {name} with --subnet",
            )

    def save(self, network: Network) -> None:
        """Write the record, durably."""
        folder = self.folder(network)
        os.makedirs(f"{folder}/leases", mode=0o700, exist_ok=True)
        write_atomic(f"{folder}/network.json", jsontext.dumps(network.document()).encode())

    def forget(self, network: Network) -> None:
        """Remove the record and all with it: out of the way first."""
        trash = f"{self.root.trash}/{network.id}.{os.urandom(4).hex()}"
        try:
            os.rename(self.folder(network), trash)
        except FileNotFoundError:
            return
        remove_tree(trash)

    def leases(self, network: Network) -> dict[str, str]:
        """Address -> id of the container that has it."""
        folder = f"{self.folder(network)}/leases"
        found = {}
        try:
            entries = os.listdir(folder)
        except FileNotFoundError:
            return {}
        for address in entries:
            try:
                found[address] = os.readlink(f"{folder}/{address}")
            except OSError:
                continue
        return found

    def claim(self, network: Network, identity: str, width: int, wanted: str = "") -> str:
        """Give the container an address of this many bits; gives the address.

        Raises AddressTaken for a wanted one that another has, SpecrunError for one that the network does not have,
        and SpecrunError when all are taken.
        """
        pool = network.pool(width)
        assert pool is not None  # noqa: S101
        subnet = Subnet.parse(pool["Subnet"])
        folder = f"{self.folder(network)}/leases"
        if wanted:
            return self._claim_this(network, identity, subnet, pool, wanted)
        ranged = Subnet.parse(pool.get("IPRange") or pool["Subnet"])
        reserved = {pool.get("Gateway"), *(pool.get("AuxiliaryAddresses") or {}).values()}
        taken = set(os.listdir(folder))
        for address in ranged.hosts():
            if address in taken or address in reserved or not subnet.usable(address):
                continue
            try:
                os.symlink(identity, f"{folder}/{address}")
                return address
            except FileExistsError:
                continue
        raise SpecrunError(
            f"no available IPv{4 if width == 32 else 6} addresses on network {network.name} ({ranged})",
            hint="remove containers that are not needed, or make a network with a larger subnet",
        )

    def _claim_this(self, network: Network, identity: str, subnet: Subnet, pool: dict[str, Any], wanted: str) -> str:
        found = parse(wanted)
        if found is None or not subnet.holds(wanted):
            raise SpecrunError(
                f"Invalid address {wanted}: It does not belong to any of this network's subnets",
                hint=f"network {network.name} has {subnet}",
            )
        address = show(*found)
        if address == pool.get("Gateway"):
            raise AddressTaken(f"Address already in use: {address} is the gateway of network {network.name}")
        if not subnet.usable(address):
            raise SpecrunError(f"Invalid address {wanted}: no host of {subnet} can have it")
        path = f"{self.folder(network)}/leases/{address}"
        try:
            os.symlink(identity, path)
        except FileExistsError:
            raise AddressTaken(
                f"Address already in use: {address} on network {network.name} belongs to container "
                f"{self._name_of(os.readlink(path))}"
            ) from None
        return address

    def _name_of(self, identity: str) -> str:
        try:
            with open(f"{self.root.containers}/{identity}/container.json", "rb") as file:
                return str(jsontext.loads(file.read())["name"])
        except (OSError, ValueError, KeyError):
            return identity[:12]

    def default(self) -> Network:
        """The record of the default network, made on first use. The caller holds the lock alone."""
        for network in self.recorded():
            if network.name == DEFAULT:
                return network
        network = self._predefined(DEFAULT, "bridge")
        network.id = os.urandom(32).hex()
        network.created = time.time()
        return network

    def _predefined(self, name: str, driver: str) -> Network:
        from specrun.oci.digest import sha256

        return Network(
            id=sha256(f"specrun {self.root.id} network {name}".encode()).hexdigest(),
            name=name,
            driver=driver,
            created=os.stat(f"{self.root.path}/id").st_mtime,
            internal=False,
            ipv6=False,
            attachable=False,
            labels={},
            options={},
            pools=[],
            chosen=False,
        )

    def _load(self, entry: str) -> Network | None:
        path = f"{self.root.networks}/{entry}/network.json"
        try:
            with open(path, "rb") as file:
                data = file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            return Network(**jsontext.loads(data))
        except (ValueError, KeyError, TypeError) as error:
            raise Damaged(f"the record {path} is damaged", hint="remove that folder") from error


def free_subnet(used: Iterable[tuple[Subnet, str]]) -> Subnet:
    """Docker's choice: the first of the default pools that overlaps with nothing. Raises SpecrunError."""
    taken = [subnet for subnet, _ in used]
    for pool in default_pools():
        if not any(pool.overlaps(other) for other in taken):
            return pool
    raise SpecrunError(
        "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network",
        hint="name one with --subnet, or remove networks that are not needed",
    )
