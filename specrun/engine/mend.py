"""What crashed commands and monitors left behind, found and cleared by the next command.

Nothing here trusts a pid: whoever is responsible for a container holds a lock on its `owner` file, and the kernel
releases it when the holder ends. A free lock beside a status that needs an owner is a crash.
"""

from __future__ import annotations

import os
import time

from specrun import events
from specrun.engine import groups, record
from specrun.files import locked, remove_tree
from specrun_runtime import state
from specrun_runtime.cgroups import Cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.paths import Root


def mend(root: Root) -> None:
    """Bring the records, the names and the control groups of this root to a state that is true."""
    found = groups.existing(root)
    if any(entry.startswith("frozen.") for entry in _listing(root.lock(""))):
        from specrun.engine.commit import thaw_abandoned

        thaw_abandoned(root)
    for entry in _listing(root.containers):
        _mend_container(root, entry)
    # Names first: a container's folder is there before its name, and one that is made meanwhile keeps its own.
    holders = {name: record.holder_of(root, name) for name in _listing(root.names)}
    present = {entry.lstrip(".") for entry in _listing(root.containers)}
    for name, holder in holders.items():
        if holder and holder not in present and not record.is_there(root, holder):
            record.release_name(root, name, holder)
    for group in found:
        if group.rpartition("/")[2].removeprefix(groups.prefix(root)) not in present:
            _remove_group(group)
    groups.clear_parents(root)
    if any(entry.startswith(".") for entry in _listing(root.volumes)):
        from specrun.engine.volumes import VolumeStore

        VolumeStore(root).sweep()
    for entry in _listing(root.trash):
        remove_tree(f"{root.trash}/{entry}")
    if os.path.exists(root.networks):
        from specrun.network import mending

        mending.mend(root)


def _mend_container(root: Root, entry: str) -> None:
    directory = f"{root.containers}/{entry}"
    if not entry.startswith("."):
        try:
            known = state.load(directory)
            if known.status in (state.CREATED, state.EXITED) and not _to_be_removed(directory, known):
                return
        except (OSError, ValueError):
            pass  # no record that can be read: a crash, if nobody owns it
    if entry.startswith("."):
        with locked(root.lock("making")):
            owner = state.take_over(directory)
    else:
        owner = state.take_over(directory)
    if owner is None:
        return
    try:
        _settle(root, entry, directory)
    finally:
        os.close(owner)


def _to_be_removed(directory: str, known: state.State) -> bool:
    if known.status != state.EXITED:
        return False
    try:
        return record.Record.load(directory).auto_remove
    except Exception:  # a damaged record is for `rm` to judge
        return False


def _settle(root: Root, entry: str, directory: str) -> None:
    """Nobody owns the container, and the lock is ours: say how it ended, or remove it."""
    identity = entry.lstrip(".")
    try:
        known = state.load(directory)
        kept = record.Record.load(directory)
    except Exception:
        discard(root, identity, entry)
        return
    _remove_group(groups.name_of(root, kept))
    _let_go(directory)
    if entry.startswith(".") or known.status == state.CREATING or (kept.auto_remove and known.status != state.CREATED):
        discard(root, identity, entry, unborn=known.status == state.CREATING)
        if known.status != state.CREATING:
            events.emit(root, "container", "destroy", identity, record.event_attributes(kept))
        return
    if not known.is_up:
        return  # settled meanwhile
    if known.status == state.RUNNING:
        known.exit_code, known.finished_at = 137, time.time()
    known.move(state.EXITED)
    known.pid = known.start_time = 0
    known.error = "the monitor ended before the container did"
    state.save(directory, known)
    events.emit(root, "container", "die", identity, {**record.event_attributes(kept), "exitCode": "137"})


def discard(root: Root, identity: str, entry: str, *, unborn: bool = False) -> None:
    """Remove a container's folder and free its name: out of the way first, then away.

    The volumes that were made for it alone go too, if it was to remove itself or is `unborn`: never made to the end.
    """
    trash = f"{root.trash}/{identity}.{os.urandom(4).hex()}"
    try:
        kept = record.Record.load(f"{root.containers}/{entry}")
        name, removes = kept.name, kept.auto_remove or unborn or entry.startswith(".")
        group = groups.name_of(root, kept)
    except Exception:
        name, removes, group = "", True, groups.prefix(root) + identity
    _remove_group(group)
    _let_go(f"{root.containers}/{entry}")
    try:
        os.rename(f"{root.containers}/{entry}", trash)
    except FileNotFoundError:
        return
    if name:
        record.release_name(root, name, identity)
    remove_tree(trash)
    if removes and os.path.exists(root.volumes):
        from specrun.engine.volumes import VolumeStore

        VolumeStore(root).remove_of(identity)


def _let_go(directory: str) -> None:
    """Give back what the container had of its networks, if it had any."""
    if os.path.exists(f"{directory}/network.json"):
        from specrun_runtime.attachment import release

        release(directory)


def _remove_group(name: str) -> None:
    group = Cgroup(name, groups.mounted())
    if not any(os.path.exists(group.folder(hierarchy)) for hierarchy in group.where):
        return
    group.kill()
    group.remove(5.0)


def _listing(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except FileNotFoundError:
        return []
