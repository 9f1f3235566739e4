"""Kind Push: an image of the store is in a registry. What is there already, by its digest, is no change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from specrun.errors import SpecrunError
from specrun.oci.reference import DEFAULT_DOMAIN, Reference
from specrun.reconcile.changes import Action, Change, Fact, Found
from specrun.reconcile.kinds.base import Desk, Task, View
from specrun.reconcile.kinds.registry import address_of
from specrun.reconcile.project import Entry
from specrun.spec import models
from specrun.store.images import ImageNotFound

if TYPE_CHECKING:
    from specrun.spec.loader import Resource, Specs
    from specrun.spec.yamltext import Path


def _spec(resource: Resource) -> models.PushSpec:
    assert isinstance(resource.spec, models.PushSpec)  # noqa: S101 - the table says so
    return resource.spec


class Pushes:
    """Compared by the digest of the manifest, on both sides."""

    def unsupported(self, resource: Resource) -> list[Path]:
        """All of it is supported."""
        return []

    def observe(self, view: View, name: str, resource: Resource | None, entry: Entry | None) -> Found | None:
        """The digest that the registry has; None when it has none, or does not answer."""
        target = _target(view.specs, resource) if resource else entry.values.get("to", "") if entry else ""
        digest = _remote(target) if target else ""
        return Found(digest, facts={"digest": Fact(digest, target)}) if digest else None

    def inputs(self, view: View, resource: Resource) -> dict[str, str]:
        """The digest of the image that is to be there."""
        try:
            return {"image": view.engine.images.resolve(_spec(resource).image).manifest_digest}
        except ImageNotFound:
            return {}

    def diff(self, desk: Desk, resource: Resource, found: Found | None, entry: Entry | None) -> Change:
        """Against the digest that is wanted, unless the image itself is still to be made."""
        spec, key = _spec(resource), resource.key
        made = desk.image_change(spec.image)
        if made is not None and made.action is not Action.KEEP:
            return Change(Action.UPDATE if found else Action.CREATE, key, f"{spec.image} is made anew")
        wanted = desk.observed.inputs.get(key, {}).get("image", "")
        target = _target(desk.specs, resource)
        if found is None:
            return Change(Action.CREATE, key, f"to {target}", drifted=entry is not None and entry.made)
        if found.id != wanted:
            drifted = entry is not None and entry.inputs.get("image") == wanted
            return Change(Action.UPDATE, key, f"{target} is {found.id[:19]}, not {wanted[:19]}", drifted=drifted)
        return Change(Action.KEEP, key, "")

    def apply(self, task: Task) -> None:
        """Push. Raises SpecrunError."""
        from specrun.registry.push import push

        target = Reference.parse(_target(task.view.specs, task.resource))
        push(task.view.root, target, image=_spec(task.resource).image)

    def remove(self, view: View, entry: Entry) -> str:
        """What others may have pulled by now is not taken away."""
        return f"kept: {entry.values.get('to') or entry.values.get('image')} stays in its registry"


def _target(specs: Specs, resource: Resource) -> str:
    """Where `to` says, else to the image's own name; at the Registry, if one is named and `to` has no host."""
    spec = _spec(resource)
    if not spec.registry:
        return spec.to or spec.image
    address = address_of(specs.resources[f"registry/{spec.registry}"])
    if spec.to:
        return spec.to if _has_host(spec.to) else Reference.parse(f"{address}/{spec.to}").familiar
    image = Reference.parse(spec.image)
    return f"{address}/{image.path.removeprefix('library/')}:{image.tag or 'latest'}"


def _has_host(text: str) -> bool:
    hub = text.startswith((f"{DEFAULT_DOMAIN}/", "index.docker.io/"))
    return hub or Reference.parse(text).domain != DEFAULT_DOMAIN


def _remote(target: str) -> str:
    from specrun.registry.pull import digest_of

    try:
        return digest_of(Reference.parse(target))
    except SpecrunError:
        return ""
