"""How the control groups of containers are called, and where they are."""

from __future__ import annotations

from specrun_runtime import cgroups

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
    return prefix(root) + record.id
