"""The VLAN that a macvlan network is on: `eth0.50` is VLAN 50 of eth0, made where there is none, as Docker does.

That it is ours is written down in the network's folder before it is made, so that it goes with the network however a
command ends. A link that was there before is somebody else's, and stays.
"""

from __future__ import annotations

import errno
import os

from specrun.errors import HostUnfit, SpecrunError
from specrun.files import write_atomic
from specrun.network import links
from specrun_runtime.netlink import Netlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.network.networks import Network, NetworkStore


def _parts(name: str) -> tuple[str, int] | None:
    """The link and the number of a VLAN of this name."""
    parent, _, digits = name.rpartition(".")
    number = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 5 else 0
    return (parent, number) if parent and 1 <= number <= 4094 and str(number) == digits else None


def check(name: str) -> None:
    """Refuse a parent that is not there and cannot be made. Raises SpecrunError."""
    if links.index_of(name):
        return
    parts = _parts(name)
    missing = name if parts is None else parts[0]
    if not links.index_of(missing):
        hint = "see `ip link`; LINK.NUMBER, as eth0.50, is a VLAN of a link, and made when it is needed"
        raise SpecrunError(f"there is no link {missing} on this host", hint=hint)


def is_there(network: Network) -> bool:
    """Whether the network's parent is."""
    return links.index_of(network.options.get("parent", "")) > 0


def make(store: NetworkStore, network: Network) -> None:
    """Make the network's parent, unless it is there; the caller holds the store's lock alone. Raises SpecrunError."""
    name = network.options.get("parent", "")
    check(name)
    parts = _parts(name)
    if parts is None or links.index_of(name):
        return
    write_atomic(_note(store, network), name.encode())
    try:
        with Netlink() as kernel:
            links.make_vlan(kernel, name, links.index_of(parts[0]), parts[1])
            links.take_up(kernel, name)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            raise HostUnfit(f"cannot make {name}: this kernel has no VLANs", hint="load its module 8021q") from error
        hint = f"take {parts[0]} up first: ip link set {parts[0]} up" if error.errno == errno.ENETDOWN else ""
        raise HostUnfit(f"cannot make {name}: {error.strerror}", hint=hint) from error


def remove(store: NetworkStore, network: Network) -> None:
    """Remove the network's parent if we have made it; another network of ours that is on it takes it over."""
    note = _note(store, network)
    if not os.path.exists(note):
        return
    name = network.options["parent"]
    for other in store.recorded():
        if other.id != network.id and other.options.get("parent") == name:
            os.rename(note, _note(store, other))
            return
    with Netlink() as kernel:
        links.delete(kernel, name)


def _note(store: NetworkStore, network: Network) -> str:
    return f"{store.folder(network)}/vlan"
