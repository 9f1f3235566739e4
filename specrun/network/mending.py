"""What crashes, and others, did to networks, found and put right by the next command."""

from __future__ import annotations

import os

from specrun.network import bridges, links, names, neighbors, ports
from specrun.network.networks import NetworkStore
from specrun_runtime import attachment, state
from specrun_runtime.fds import start_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.paths import Root


def mend(root: Root) -> None:
    """Free the addresses of containers that are no more, and make the rules anew where they are not ours."""
    store = NetworkStore(root)
    networks = store.recorded()
    store.sweep(len(networks))
    for network in networks:
        for address, identity in store.leases(network).items():
            _free(root, identity, f"{store.folder(network)}/leases/{address}")
    _mend_names(root)
    up = [network for network in networks if network.driver == "bridge" and bridges.is_up(root, network)]
    if up and not bridges.rules_are_ours(root):
        with store.lock():
            if not bridges.rules_are_ours(root):
                bridges.remake_rules(store)
    if up:
        neighbors.pass_through(root)


def _mend_names(root: Root) -> None:
    """Start the resolver again if it has died, and tell it of all containers that need it."""
    needing = [one for one in ports.records(root) if one[1]["resolves"]]
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
