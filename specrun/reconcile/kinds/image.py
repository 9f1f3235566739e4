"""Kind Image on the local runtime: images of the store, by the references that stand for them."""

from __future__ import annotations

from typing import Any

from specrun.errors import SpecrunError
from specrun.oci.reference import Reference
from specrun.reconcile.changes import Action, Change, Fact, Found
from specrun.reconcile.graph import canonical
from specrun.reconcile.kinds.base import Desk, Task, View
from specrun.reconcile.project import Entry
from specrun.spec.loader import Resource
from specrun.spec.models import ImageSpec
from specrun.spec.yamltext import Path
from specrun.store.assemble import assemble_image, fingerprint


def _spec(resource: Resource) -> ImageSpec:
    assert isinstance(resource.spec, ImageSpec)  # noqa: S101 - the table says so
    return resource.spec


class Images:
    """Assembled, pulled, loaded or imported."""

    def unsupported(self, resource: Resource) -> list[Path]:
        """Sources that this version has not."""
        return [(name,) for name in ("pull", "load", "importFrom") if getattr(resource.spec, name) is not None]

    def observe(self, view: View, name: str, resource: Resource | None, entry: Entry | None) -> Found | None:
        """Its tags, and what they stand for."""
        tags = _spec(resource).tags if resource else entry.values.get("tags", []) if entry else []
        found = {tag: view.images.get(canonical(tag)) for tag in tags}
        facts = {
            f"tags[{index}]": Fact(image.id if image else None, "index.json")
            for index, (_, image) in enumerate(found.items())
        }
        present = [image for image in found.values() if image]
        return Found(present[0].id, "present", "", facts) if present else None

    def inputs(self, view: View, resource: Resource) -> dict[str, str]:
        """Packages come from the distribution; nothing stands beside the spec."""
        return {}

    def diff(self, desk: Desk, resource: Resource, found: Found | None, entry: Entry | None) -> Change:
        """By the recipe's fingerprint, which the image carries."""
        spec = _spec(resource)
        key = resource.key
        include = spec.packages.include if spec.packages else []
        there = {tag: desk.image(tag) for tag in spec.tags}
        missing = [tag for tag, image in there.items() if image is None]
        packages = f"{len(include)} package{'s' if len(include) != 1 else ''}"
        if len(missing) == len(there):
            gone = entry is not None and entry.made
            return Change(Action.CREATE, key, f"from {packages}, tags {', '.join(spec.tags)}", drifted=gone)
        mark = fingerprint(include, spec.packages.suite if spec.packages else "", image_config(spec))
        others = [tag for tag, image in there.items() if image and image.assembled != mark]
        if others:
            return Change(Action.REPLACE, key, f"{', '.join(others)} is an image of another recipe")
        if faults := [image.fault for image in there.values() if image and image.fault]:
            return Change(Action.REPLACE, key, faults[0], drifted=True)
        if missing:
            return Change(Action.UPDATE, key, f"tags missing: {', '.join(missing)}", drifted=entry is not None)
        return Change(Action.KEEP, key, "")

    def apply(self, task: Task) -> None:
        """Assemble it; the store keeps what it has already."""
        spec = _spec(task.resource)
        if spec.packages:
            include, suite = spec.packages.include, spec.packages.suite
            assemble_image(task.view.root, include, tags=list(spec.tags), suite=suite, config=image_config(spec))

    def remove(self, view: View, entry: Entry) -> str:
        """Take its tags away; an image that a container of somebody else uses stays."""
        engine = view.engine
        removed, remark = False, ""
        for tag in entry.values.get("tags", []):
            try:
                image = engine.images.resolve(tag)
            except SpecrunError:
                continue
            users = [container.name for container in engine.list(all=True) if container.image_id == image.id]
            if users:
                remark = f"kept: {tag} is used by {', '.join(users)}"
                continue
            removed = engine.images.untag(Reference.parse(tag)) or removed
        return remark or ("" if removed else "-")


def image_config(spec: ImageSpec) -> dict[str, Any]:
    """`config` of the OCI image configuration, of what the spec says."""
    config = spec.config
    fields = {
        "Cmd": config.cmd,
        "Entrypoint": config.entrypoint,
        "Env": [f"{key}={value}" for key, value in config.env.items()],
        "WorkingDir": config.workingDir,
        "User": config.user,
        "Labels": config.labels,
    }
    return {key: value for key, value in fields.items() if value}
