"""What crashes, and others, did to networks, found and put right by the next command."""

from __future__ import annotations

import os

from specrun.files import locked
from specrun.network import bridges, elements, links, names, neighbors, ports, rules
from specrun.network.networks import NetworkStore
from specrun_runtime import attachment, netlink, nft, state
from specrun_runtime.fds import start_time
from specrun_runtime.netlink import Netlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from specrun.network.networks import Network
    from specrun.paths import Root


def mend(root: Root) -> None:
    """Free the addresses of containers that are no more, and make the rules anew where they are not ours."""
    store = NetworkStore(root)
    networks = store.recorded()
    store.sweep(len(networks))
    for network in networks:
        for address, identity in store.leases(network).items():
            _free(root, identity, f"{store.folder(network)}/leases/{address}")
    records = ports.records(root)
    _mend_names(root, records)
    up = [network for network in networks if network.driver == "bridge" and bridges.is_up(root, network)]
    if up:
        _mend_rules(store, up, [record for _, record in records])
        neighbors.pass_through(root)


def _mend_rules(store: NetworkStore, up: list[Network], records: list[dict[str, Any]]) -> None:
    """Make all rules anew when one of them, or a member of their sets, is not there.

    The kernel counts the changes of all rules. While its count is what it was when all was seen to be there, nobody has
    taken anything away, and nothing more is looked at.
    """
    root = store.root
    with Netlink(netlink.NETFILTER) as kernel:
        now = nft.generation(kernel)
    if nft.is_seen(rules.seen_path(root), now):
        return
    if bridges.rules_are_ours(root):
        if elements.are_there(root, up, records):
            nft.see(rules.seen_path(root), now)
            return
        try:
            with locked(store.lock_path, wait=False):  # without it, a container that starts or ends just now looks so
                if not elements.are_there(root, up, bridges.living(root)):
                    bridges.remake_rules(store)
        except BlockingIOError:
            pass  # the next command sees what became of it
        return
    with store.lock():
        if not bridges.rules_are_ours(root):
            bridges.remake_rules(store)


def _mend_names(root: Root, records: list[tuple[str, dict[str, Any]]]) -> None:
    """Start the resolver again if it has died, and tell it of all containers that need it."""
    needing = [one for one in records if one[1]["resolves"]]
    if not needing or names.is_running(root):
        return
    for identity, _ in needing:
        directory = f"{root.containers}/{identity}"
        try:
            known = state.load(directory)
            if known.status != state.RUNNING or start_time(known.pid) != known.start_time:
                continue
            namespace = links.Namespace.of(known.pid)
            try:
                names.register(root, directory, identity, namespace, known.monitor_pid)
            finally:
                namespace.close()
        except (OSError, ValueError):
            continue  # it ends just now, or somebody else was faster


def _free(root: Root, identity: str, lease: str) -> None:
    """Let go of what a container has that nobody answers for; of its address at least."""
    for entry in (identity, f".{identity}"):
        directory = f"{root.containers}/{entry}"
        if os.path.exists(directory):
            if not state.is_owned(directory):
                attachment.release(directory)
                attachment.release_lease(lease, identity)
            return
    attachment.release_lease(lease, identity)
