"""Kinds Secret and Config on the local runtime: contents in the state folder, that containers are given as files.

They are kept by the digest of their content, so that a container which still has the old one keeps it. The digest of
a secret begins with the project's salt: it may stand in plans and records, and tells nothing.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from specrun.errors import SpecrunError
from specrun.files import discard, write_atomic
from specrun.paths import Root
from specrun.reconcile.changes import Action, Change, Fact, Found
from specrun.reconcile.kinds.base import (
    Desk,
    Task,
    View,
    fact_differences,
    gone,
    input_differences,
    placed,
    spec_differences,
)
from specrun.reconcile.project import Entry
from specrun.spec import models

if TYPE_CHECKING:
    from specrun.spec.loader import Resource
    from specrun.spec.yamltext import Path

MAX_BYTES = 1 << 20
"""Of one secret or config."""


def content_of(resource: Resource) -> bytes:
    """What the spec says that the file holds. Raises SpecrunError at the place of the field."""
    spec = resource.spec
    if not isinstance(spec, (models.SecretSpec, models.ConfigSpec)):
        raise TypeError(resource.kind)
    if spec.content is not None:
        return spec.content.encode()
    if spec.environment is not None:
        if spec.environment not in os.environ:
            raise SpecrunError(
                f"{resource.key}: the environment variable {spec.environment} is not set",
                place=resource.place("spec", "environment"),
            )
        return os.environb[os.fsencode(spec.environment)]
    return read_file(resource, spec.file or "", "file")


def read_file(resource: Resource, name: str, *field: str | int) -> bytes:
    """A file that a spec names. Raises SpecrunError at the place of the field."""
    path = resource.path(name)
    place = resource.place("spec", *field)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SpecrunError(f"{resource.key}: {path} cannot be read: {error.strerror}", place=place) from error
    if len(data) > MAX_BYTES:
        raise SpecrunError(f"{resource.key}: {path} is larger than {MAX_BYTES} bytes", place=place)
    return data


def digest_of(view: View, resource: Resource) -> str:
    """The digest of the content, salted for secrets."""
    if resource.key not in view.digests:
        salt = view.record.salt.encode() if resource.kind == "Secret" else b""
        view.digests[resource.key] = hashlib.sha256(salt + content_of(resource)).hexdigest()
    return view.digests[resource.key]


def stored(root: Root, project: str, kind: str, name: str, digest: str) -> str:
    """Where the content is kept."""
    return f"{root.path}/{kind.lower()}s/{project}/{name}/{digest}"


def make_private(folder: str) -> None:
    """Make a folder and those above it, for root alone: `makedirs` gives its mode to the last one only."""
    umask = os.umask(0o077)
    try:
        os.makedirs(folder, exist_ok=True)
    finally:
        os.umask(umask)


class _Files:
    """What the two kinds have in common."""

    kind = ""

    def unsupported(self, resource: Resource) -> list[Path]:
        """All of it is supported."""
        return []

    def observe(self, view: View, name: str, resource: Resource | None, entry: Entry | None) -> Found | None:
        """The stored content, read and digested again."""
        digest = entry.inputs.get("content", "") if entry else ""
        path = stored(view.root, view.record.name, self.kind, name, digest)
        if not digest:
            return None
        try:
            with open(path, "rb") as file:
                data = file.read(MAX_BYTES + 1)
        except OSError:
            return None
        salt = view.record.salt.encode() if self.kind == "Secret" else b""
        return Found(digest, facts={"content": Fact(hashlib.sha256(salt + data).hexdigest(), path)})

    def inputs(self, view: View, resource: Resource) -> dict[str, str]:
        """The content that is wanted."""
        return {"content": digest_of(view, resource)}

    def diff(self, desk: Desk, resource: Resource, found: Found | None, entry: Entry | None) -> Change:
        """By the digest of the content."""
        inputs = desk.observed.inputs.get(resource.key, {})
        if found is None:
            return gone(resource, entry, "present", f"{self.kind.lower()}s of the state folder")
        if changed := input_differences(inputs, entry):
            return placed(Action.UPDATE, resource, "its content has changed", changed)
        if changed := fact_differences(inputs, found):
            return placed(Action.UPDATE, resource, "the stored content was changed", changed, drifted=True)
        if changed := spec_differences(resource, entry):
            return placed(Action.UPDATE, resource, "its spec has changed, its content has not", changed)
        return Change(Action.KEEP, resource.key, "")

    def apply(self, task: Task) -> None:
        """Store the content, readable by root alone."""
        digest = task.entry.inputs["content"]
        path = stored(task.view.root, task.view.specs.project, self.kind, task.resource.metadata.name, digest)
        make_private(os.path.dirname(path))
        write_atomic(path, content_of(task.resource))

    def remove(self, view: View, entry: Entry) -> str:
        """Remove all contents of the object."""
        folder = os.path.dirname(stored(view.root, view.record.name, self.kind, entry.name, "x"))
        try:
            names = os.listdir(folder)
        except FileNotFoundError:
            return "-"
        for name in names:
            discard(f"{folder}/{name}")
        os.rmdir(folder)
        _remove_empty(os.path.dirname(folder))
        return ""


def _remove_empty(folder: str) -> None:
    try:
        os.rmdir(folder)
        os.rmdir(os.path.dirname(folder))
    except OSError:
        pass


class Secrets(_Files):
    """Shown nowhere."""

    kind = "Secret"


class Configs(_Files):
    """Files like any other."""

    kind = "Config"
