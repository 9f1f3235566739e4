"""Kind Volume on the local runtime: named volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from specrun.engine.volumes import VolumeNotFound, VolumeStore
from specrun.errors import Conflict
from specrun.reconcile.changes import Action, Change, Fact, Found
from specrun.reconcile.kinds.base import Desk, Task, View, fact_differences, gone, placed, spec_differences
from specrun.reconcile.project import Entry
from specrun.spec import models

if TYPE_CHECKING:
    from specrun.spec.loader import Resource
    from specrun.spec.yamltext import Path


class Volumes:
    """Files that outlive containers."""

    def unsupported(self, resource: Resource) -> list[Path]:
        """All of it is supported."""
        return []

    def observe(self, view: View, name: str, resource: Resource | None, entry: Entry | None) -> Found | None:
        """Its record and its folder."""
        try:
            volume = VolumeStore(view.root).get(name)
        except VolumeNotFound:
            return None
        facts = {
            f"options.{key}": Fact(volume.options.get(key), f"{volume.folder}/volume.json")
            for key in {*volume.options, *(_spec(resource).options if resource else {})}
        }
        return Found(name, "present", "", facts, {"labels": volume.labels})

    def inputs(self, view: View, resource: Resource) -> dict[str, str]:
        """Nothing stands beside the spec."""
        return {}

    def diff(self, desk: Desk, resource: Resource, found: Found | None, entry: Entry | None) -> Change:
        """Its files are never thrown away: options that differ are an error to be settled by hand."""
        if found is None:
            return gone(resource, entry, "present", "volumes of the state folder")
        wanted = {f"options.{key}": value for key, value in _spec(resource).options.items()}
        changed = fact_differences({**dict.fromkeys(found.facts), **wanted}, found)
        if changed:
            raise Conflict(
                f"{resource.key} is there with other options ({', '.join(one.dotted for one in changed)})",
                hint=f"remove it with `specrun volume rm {resource.metadata.name}`, if its files are not needed",
                place=resource.place("spec"),
            )
        if entry and (changed := spec_differences(resource, entry)):
            return placed(Action.UPDATE, resource, "its spec has changed; its files stay", changed)
        return Change(Action.KEEP, resource.key, "")

    def apply(self, task: Task) -> None:
        """Make it; one that is there is taken as it is."""
        name, spec = task.resource.metadata.name, _spec(task.resource)
        store = VolumeStore(task.view.root)
        try:
            store.get(name)
        except VolumeNotFound:
            store.create(name, labels=task.resource.metadata.labels or None, options=spec.options or None)

    def remove(self, view: View, entry: Entry) -> str:
        """Remove it, unless its spec says that it is to be kept."""
        store = VolumeStore(view.root)
        try:
            store.get(entry.name)
        except VolumeNotFound:
            return "-"
        if entry.values.get("keep", True):
            return "kept: its files may be needed; `keep: false` in its spec would remove them"
        store.remove(entry.name)
        return ""


def _spec(resource: Resource) -> models.VolumeSpec:
    assert isinstance(resource.spec, models.VolumeSpec)  # noqa: S101 - the table says so
    return resource.spec
