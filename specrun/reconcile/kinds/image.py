"""Kind Image on the local runtime: images of the store, by the references that stand for them."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from specrun.errors import SpecrunError
from specrun.oci.reference import Reference, canonical
from specrun.reconcile.changes import Action, Change, Fact, Found
from specrun.reconcile.diff import Difference, Operation
from specrun.reconcile.kinds.base import Desk, Task, View, gone, input_differences, placed, spec_differences
from specrun.reconcile.project import Entry
from specrun.spec import models
from specrun.store.archives import load
from specrun.store.assemble import assemble_image, assemble_known, fingerprint, known_fingerprint
from specrun.store.images import Image, ImageStore, architecture

if TYPE_CHECKING:
    from specrun.spec.loader import Resource
    from specrun.spec.yamltext import Path


def _spec(resource: Resource) -> models.ImageSpec:
    assert isinstance(resource.spec, models.ImageSpec)  # noqa: S101 - the table says so
    return resource.spec


class Images:
    """Assembled, pulled, loaded or imported."""

    def unsupported(self, resource: Resource) -> list[Path]:
        """All of it is supported."""
        return []

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
        """The digest of the archive that stands beside the spec, or of what the registry has, where it is asked."""
        spec = _spec(resource)
        if spec.pull:
            return _pulled_inputs(view, resource, spec)
        return {field: _digest_of(view, resource, field) for field in ("load", "importFrom") if getattr(spec, field)}

    def diff(self, desk: Desk, resource: Resource, found: Found | None, entry: Entry | None) -> Change:
        """By the fingerprint of what it was made of, which the image carries."""
        spec = _spec(resource)
        key = resource.key
        there = {tag: desk.image(tag) for tag in spec.tags}
        missing = [tag for tag, image in there.items() if image is None]
        if len(missing) == len(there):
            return gone(resource, entry, "present", "index.json", f"{_origin(spec)}, tags {', '.join(spec.tags)}")
        mark = _mark(spec, desk.observed.inputs.get(key, {}))
        others = [tag for tag, image in there.items() if image and image.assembled != mark]
        if others:
            what = "recipe" if spec.packages else "digest or reference" if spec.pull else "archive"
            moved = [
                Difference(Operation.CHANGE, ("tags", index), found_id.id, f"the image of this {what}", "index.json")
                for index, (tag, found_id) in enumerate(there.items())
                if tag in others and found_id
            ]
            inputs = desk.observed.inputs.get(key, {})
            same = not spec_differences(resource, entry) and not input_differences(inputs, entry)
            drifted = entry is not None and entry.made and same
            reason = f"{', '.join(others)} is an image of another {what}"
            before, now = entry.inputs.get("pull") if entry else "", inputs.get("pull")
            if spec.pull and before and now and before != now and not spec_differences(resource, entry):
                reason = f"{spec.pull.reference} has moved: it is {now[:19]}, and was {before[:19]}"
            return placed(Action.REPLACE, resource, reason, moved, drifted=drifted)
        if faults := [image.fault for image in there.values() if image and image.fault]:
            return Change(Action.REPLACE, key, faults[0], drifted=True)
        if missing:
            return Change(Action.UPDATE, key, f"tags missing: {', '.join(missing)}", drifted=entry is not None)
        return Change(Action.KEEP, key, "")

    def apply(self, task: Task) -> None:
        """Make it; the store keeps what it has already."""
        spec = _spec(task.resource)
        store = ImageStore(task.view.root)
        mark = _mark(spec, self.inputs(task.view, task.resource))
        with store.adding():  # what we find, or make, is not freed before it has its names
            alike = (image for image in store.all() if image.assembled == mark and not store.fault(image))
            source = next(alike, None) or _make(task, spec)
            source.assembled = mark
            for tag in spec.tags:
                store.take(source, Reference.parse(tag))

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
        if not removed and not remark:
            engine.images.collect()  # a command that was killed may have taken the last tag, and freed nothing yet
        return remark or ("" if removed else "-")


def _origin(spec: models.ImageSpec) -> str:
    """Where it comes from, in a few words."""
    if spec.pull:
        return f"pulled from {spec.pull.reference}"
    if spec.load or spec.importFrom:
        return f"from {spec.load or spec.importFrom}"
    if spec.packages and spec.packages.recipe:
        return f"by the recipe {spec.packages.recipe}"
    count = len(spec.packages.include or []) if spec.packages else 0
    return f"from {count} package{'s' if count != 1 else ''}"


def _mark(spec: models.ImageSpec, inputs: dict[str, str]) -> str:
    """What an image that answers this spec carries: the fingerprint of all that it is made of."""
    if spec.packages and spec.packages.recipe:
        return known_fingerprint(spec.packages.recipe, spec.packages.suite, image_config(spec))
    if spec.packages:
        return fingerprint(spec.packages.include or [], spec.packages.suite, image_config(spec))
    archive = [f"{field} {digest}" for field, digest in sorted(inputs.items())]
    if spec.pull:
        archive.append(f"reference {spec.pull.reference} {spec.pull.platform or ''}")
    return fingerprint(archive, "", image_config(spec) if spec.importFrom else {})


def _digest_of(view: View, resource: Resource, field: str) -> str:
    """The digest of the file that a field names. Raises SpecrunError at the place of the field."""
    if resource.key not in view.digests:
        state = hashlib.sha256()
        for chunk in _chunks(resource, field):
            state.update(chunk)
        view.digests[resource.key] = state.hexdigest()
    return view.digests[resource.key]


def _chunks(resource: Resource, field: str) -> Iterator[bytes]:
    path = resource.path(getattr(resource.spec, field))
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        place = resource.place("spec", field)
        raise SpecrunError(f"{resource.key}: {path} cannot be read: {error.strerror}", place=place) from error
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise SpecrunError(f"{resource.key}: {path} is not a regular file", place=resource.place("spec", field))
        while data := file.read(1 << 20):
            yield data


def _pulled_inputs(view: View, resource: Resource, spec: models.ImageSpec) -> dict[str, str]:
    """With the policy Always, the digest that the tag has at the registry now, or had when it answered last."""
    if spec.pull is None or spec.pull.policy != "Always":
        return {}
    return {"pull": digest_at_registry(view, resource, "pull", spec.pull.reference)}


def digest_at_registry(view: View, resource: Resource, name: str, reference: str) -> str:
    """What a reference stands for at its registry now, or did when it answered last: the input `name` of an object."""
    from specrun.registry.pull import digest_of

    key = f"{resource.key} {name}"
    if key not in view.digests:
        try:
            view.digests[key] = digest_of(Reference.parse(reference))
        except SpecrunError:
            entry = view.record.entries.get(resource.key)
            view.digests[key] = entry.inputs.get(name, "") if entry else ""
    return view.digests[key]


def _pull(task: Task, spec: models.ImageSpec) -> Image:
    from specrun.registry.pull import pull

    if spec.pull is None:
        raise TypeError("the spec pulls nothing")
    reference = Reference.parse(spec.pull.reference)
    return pull(task.view.root, reference, platform=spec.pull.platform or "").image


def _make(task: Task, spec: models.ImageSpec) -> Image:
    if spec.pull:
        return _pull(task, spec)
    if spec.load:
        return _load(task, spec.load)
    if spec.importFrom:
        return _import(task, spec)
    root, config = task.view.root, image_config(spec)
    packages = spec.packages
    if packages and packages.recipe:
        return assemble_known(root, packages.recipe, tags=[], suite=packages.suite, config=config)
    include, suite = (packages.include or [], packages.suite) if packages else ([], "")
    return assemble_image(root, include, tags=[], suite=suite, config=config)


def _load(task: Task, name: str) -> Image:
    """The image of an archive that has one, or that of several which has one of the wanted tags."""
    found = load(ImageStore(task.view.root), _chunks(task.resource, "load"), lambda text: None, named=False)
    wanted = {canonical(tag) for tag in _spec(task.resource).tags}
    fitting = [image for image, names in found if wanted & {one.canonical for one in names}] or [
        image for image, _ in found
    ]
    if len(fitting) > 1:
        raise SpecrunError(
            f"{task.resource.key}: {name} holds {len(found)} images, and none of them is called as one of the tags",
            place=task.resource.place("spec", "load"),
            hint="save the one image alone",
        )
    return fitting[0]


def _import(task: Task, spec: models.ImageSpec) -> Image:
    """The image with one layer, a root file system."""
    from specrun.engine.commit import import_archive

    chunks = _chunks(task.resource, "importFrom")
    platform = {"architecture": architecture(), "os": "linux"}
    return import_archive(
        task.view.engine, chunks, [], message="", changes=[], platform=platform, config=image_config(spec)
    )


def image_config(spec: models.ImageSpec) -> dict[str, Any]:
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
