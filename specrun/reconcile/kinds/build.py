"""Kind Build on the local runtime: images of the builder, built again when a file that they read has changed."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from specrun.errors import SpecrunError
from specrun.oci.reference import Reference, canonical
from specrun.reconcile.changes import Action, Change, Fact, Found
from specrun.reconcile.graph import bases_of, makers_of
from specrun.reconcile.kinds.base import Desk, Task, View, input_differences, placed, spec_differences
from specrun.reconcile.kinds.files import content_of
from specrun.reconcile.kinds.image import digest_at_registry
from specrun.reconcile.project import Entry
from specrun.spec import models

if TYPE_CHECKING:
    from specrun.spec.loader import Resource
    from specrun.spec.yamltext import Path


def _spec(resource: Resource) -> models.BuildSpec:
    assert isinstance(resource.spec, models.BuildSpec)  # noqa: S101 - the table says so
    return resource.spec


class Builds:
    """By the builder of `specrun build`, with its cache."""

    def unsupported(self, resource: Resource) -> list[Path]:
        """A platform that can't run here."""
        from specrun.build.executor import is_built_here

        spec = _spec(resource)
        return [("platforms", index) for index, text in enumerate(spec.platforms or []) if not is_built_here(text)]

    def observe(self, view: View, name: str, resource: Resource | None, entry: Entry | None) -> Found | None:
        """Its tags, and what they stand for."""
        tags = _spec(resource).tags if resource else entry.values.get("tags", []) if entry else []
        images = [view.images.get(canonical(tag)) for tag in tags]
        facts = {
            f"tags[{index}]": Fact(image.id if image else None, "index.json") for index, image in enumerate(images)
        }
        present = [image for image in images if image]
        return Found(present[0].id, "present", "", facts) if present else None

    def inputs(self, view: View, resource: Resource) -> dict[str, str]:
        """The digests of the context, of the Dockerfile, and of the folders that are contexts too."""
        spec = _spec(resource)
        found = {"context": _digest(_folder(resource, spec.context))}
        if spec.dockerfile:
            found["dockerfile"] = _digest(resource.path(os.path.join(spec.context, spec.dockerfile)))
        for name, text in spec.contexts.items():
            if not text.startswith("docker-image://"):
                found[f"contexts.{name}"] = _digest(_folder(resource, text))
        if spec.pull:
            made = makers_of(view.specs)
            for base in bases_of(resource):
                if Reference.parse(base).canonical not in made:
                    found[f"base {base}"] = digest_at_registry(view, resource, f"base {base}", base)
        return found

    def diff(self, desk: Desk, resource: Resource, found: Found | None, entry: Entry | None) -> Change:
        """By the digest of what it reads; the builder's own cache then decides step by step."""
        spec, key = _spec(resource), resource.key
        there = {tag: desk.image(tag) for tag in spec.tags}
        missing = [tag for tag, image in there.items() if image is None]
        if len(missing) == len(there):
            return Change(Action.CREATE, key, f"tags {', '.join(spec.tags)}", drifted=entry is not None and entry.made)
        if changed := spec_differences(resource, entry):
            return placed(Action.REPLACE, resource, "its spec has changed", changed)
        if changed := input_differences(desk.observed.inputs.get(key, {}), entry):
            return placed(Action.REPLACE, resource, "its files have changed", changed)
        if entry is None:
            return Change(Action.UPDATE, key, "its tags stand for images that this project has not built")
        if missing:
            return Change(Action.UPDATE, key, f"tags missing: {', '.join(missing)}", drifted=True)
        if len({image.id for image in there.values() if image}) > 1:
            return Change(Action.UPDATE, key, "its tags stand for different images", drifted=True)
        return Change(Action.KEEP, key, "")

    def apply(self, task: Task) -> None:
        """Build it; what is cached is not done again."""
        from specrun.build.exchange import Place
        from specrun.build.executor import Build
        from specrun.build.progress import Quiet
        from specrun.build.request import BuildRequest, Secrets
        from specrun.engine.resources import Resources

        resource, spec = task.resource, _spec(task.resource)
        request = BuildRequest(
            _folder(resource, spec.context),
            dockerfile=resource.path(os.path.join(spec.context, spec.dockerfile)) if spec.dockerfile else "",
            text=spec.dockerfileInline,
            tags=list(spec.tags),
            arguments=dict(spec.args),
            labels=dict(spec.labels),
            target=spec.target or "",
            network=spec.network or "default",
            no_cache=spec.noCache,
            cache_from=[Place(text, resource.path) for text in spec.cacheFrom],
            cache_to=[Place(text, resource.path) for text in spec.cacheTo],
            contexts={
                name: text if text.startswith("docker-image://") else _folder(resource, text)
                for name, text in spec.contexts.items()
            },
            secrets=Secrets({name: self._secret(task, secret) for name, secret in spec.secrets.items()}),
            pull=spec.pull,
            made_beside=frozenset(makers_of(task.view.specs)) if spec.pull else frozenset(),
            extra_hosts=[f"{name}:{address}" for name, address in spec.extraHosts.items()],
            resources=Resources(shm_size=spec.shmSize) if spec.shmSize else None,
        )
        shown = task.output.stderr
        Build(task.view.root, request, Quiet(lambda data: _show(data, shown))).run()

    def _secret(self, task: Task, name: str) -> bytes:
        found = task.view.specs.resources.get(f"secret/{name}")
        if found is None:
            raise SpecrunError(f"there is no secret {name}", place=task.resource.place("spec", "secrets"))
        return content_of(found)

    def remove(self, view: View, entry: Entry) -> str:
        """Take its tags away; an image that a container of somebody else uses stays."""
        from specrun.reconcile.kinds.image import Images

        return Images().remove(view, entry)


def _show(data: bytes, descriptor: int | None) -> None:
    if descriptor is not None:
        os.write(descriptor, data)


def _folder(resource: Resource, name: str) -> str:
    return resource.path(name)


def _digest(path: str) -> str:
    """The digest of a file, or of all files below a folder: names, kinds, modes and contents. "" when it is missing."""
    state = hashlib.sha256()
    if os.path.isfile(path):
        with open(path, "rb") as file:
            state.update(file.read())
        return state.hexdigest()
    if not os.path.isdir(path):
        return ""
    from specrun.build.tree import Item, Tree
    from specrun.build.trees import read_ignored
    from specrun_runtime.fds import Fd

    items: list[Item] = []
    with Fd(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as opened:
        tree = Tree(opened, path, read_ignored(os.path.join(path, ".dockerignore")))
        items = tree.items()
    for item in items:
        state.update(f"{item.path}\0{item.info.st_mode:o}\0{item.digest}\0".encode("utf-8", "surrogateescape"))
    return state.hexdigest()
