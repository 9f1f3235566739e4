"""What is there: read from the kernel and the store; writes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from specrun.paths import Root
from specrun.reconcile.changes import Found, Observed
from specrun.reconcile.kinds import TABLE, kind_of
from specrun.reconcile.kinds.base import View
from specrun.reconcile.project import Project

if TYPE_CHECKING:
    from specrun.spec.loader import Specs


def observe(root: Root | None, specs: Specs, record: Project) -> Observed:
    """Look at all objects of the specs and of the record; where there is no root yet, nothing is there."""
    view = View(root or Root("/nonexistent", "/nonexistent", ""), specs, record)
    inputs = {
        resource.key: contents
        for resource in specs.resources.values()
        if (contents := kind_of(resource.kind).inputs(view, resource))
    }
    if root is None:
        return Observed(inputs=inputs)
    objects: dict[str, Found] = {}
    for key, resource in specs.resources.items():
        found = kind_of(resource.kind).observe(view, resource.metadata.name, resource, record.entries.get(key))
        if found is not None:
            objects[key] = found
    for key, entry in record.entries.items():
        if key not in specs.resources and entry.kind in TABLE:
            found = kind_of(entry.kind).observe(view, entry.name, None, entry)
            if found is not None:
                objects[key] = found
    return Observed(view.images, objects, inputs)
