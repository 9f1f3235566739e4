"""Kind Check on the local runtime: nothing is made of it. `specrun check` runs its claims."""

from __future__ import annotations

from typing import TYPE_CHECKING

from specrun.reconcile.changes import Action, Change, Found
from specrun.reconcile.kinds.base import Desk, Task, View
from specrun.reconcile.project import Entry

if TYPE_CHECKING:
    from specrun.spec.loader import Resource
    from specrun.spec.yamltext import Path


class Checks:
    """Claims are looked at on demand; a plan has nothing to do for them."""

    def unsupported(self, resource: Resource) -> list[Path]:
        """All of it is supported."""
        return []

    def observe(self, view: View, name: str, resource: Resource | None, entry: Entry | None) -> Found | None:
        """There is nothing to see before it is run."""
        return None

    def inputs(self, view: View, resource: Resource) -> dict[str, str]:
        """Claims are in the spec itself."""
        return {}

    def diff(self, desk: Desk, resource: Resource, found: Found | None, entry: Entry | None) -> Change:
        """Never anything."""
        return Change(Action.KEEP, resource.key, "run by specrun check")

    def apply(self, task: Task) -> None:
        """Nothing is to be made."""

    def remove(self, view: View, entry: Entry) -> str:
        """There was nothing."""
        return "-"
