"""How the control groups of containers are called, where they are, and the groups above them that we have made.

`groups.json` in the root lists the parents that containers were asked to have (`--cgroup-parent`), level by level, with
the folders that were made for it: these go with the last container below them, the others are somebody's.
"""

from __future__ import annotations

import os

from specrun.files import locked, write_atomic
from specrun_runtime import cgroups, jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.engine.record import Record
    from specrun.paths import Root

_mounted: list[cgroups.Hierarchy] = []


def mounted() -> list[cgroups.Hierarchy]:
    """The hierarchies of this host, which do not change while a command runs."""
    if not _mounted:
        _mounted.extend(cgroups.hierarchies())
    return _mounted


def prefix(root: Root) -> str:
    """What the names of all control groups of this root begin with."""
    return f"specrun-{root.id}-"


def name_of(root: Root, record: Record) -> str:
    """The name of the container's control groups, counted from the root of each hierarchy."""
    return "/".join([*_parts(record), prefix(root) + record.id])


def existing(root: Root) -> list[str]:
    """The names of all control groups of containers of this root that there are."""
    found = cgroups.existing(prefix(root), mounted())
    for level in _load(root):
        found += [f"{level}/{name}" for name in cgroups.existing(prefix(root), mounted(), level)]
    return found


def claim_parents(root: Root, record: Record) -> list[str]:
    """Write down the parents of the container's groups; gives the folders that go with the last one, deepest first."""
    parts = _parts(record)
    if not parts:
        return []
    levels = ["/".join(parts[: number + 1]) for number in range(len(parts))]
    with locked(root.lock("groups")):
        known = _load(root)
        for level in levels:
            missing = [folder for folder in _folders(level) if not os.path.exists(folder)]
            known[level] = sorted({*known.get(level, []), *missing})
        _save(root, known)
    return [folder for level in reversed(levels) for folder in known[level]]


def clear_parents(root: Root) -> None:
    """Remove the parents that we have made and nobody needs any more, and forget those that are gone."""
    if not os.path.exists(_path(root)):
        return
    with locked(root.lock("groups")):
        known = _load(root)
        for level in sorted(known, key=len, reverse=True):
            cgroups.remove_unused(known[level])
            if not any(map(os.path.exists, _folders(level))):
                del known[level]
        _save(root, known)


def _folders(level: str) -> list[str]:
    return [f"{hierarchy.path}/{level}" for hierarchy in mounted()]


def _parts(record: Record) -> list[str]:
    return [part for part in (record.host_config.get("CgroupParent") or "").split("/") if part not in ("", ".")]


def _path(root: Root) -> str:
    return f"{root.path}/groups.json"


def _load(root: Root) -> dict[str, list[str]]:
    try:
        with open(_path(root), "rb") as file:
            known: dict[str, list[str]] = jsontext.loads(file.read())
    except (FileNotFoundError, ValueError):
        return {}
    return known


def _save(root: Root, known: dict[str, list[str]]) -> None:
    """The groups do not survive a restart of the machine, so neither must this."""
    if known:
        write_atomic(_path(root), jsontext.dumps(known).encode(), durable=False)
    else:
        try:
            os.unlink(_path(root))
        except FileNotFoundError:
            pass
