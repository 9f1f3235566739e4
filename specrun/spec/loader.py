"""Spec files to specs: every problem of every file is found before anything is done."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pydantic import BaseModel

from specrun.errors import Place
from specrun.oci import digest
from specrun.spec import references
from specrun.spec.models import API_VERSION, Metadata
from specrun.spec.naming import project_name
from specrun.spec.problems import Problem, SpecProblems
from specrun.spec.sources import Options, gather
from specrun.spec.trace import Trace
from specrun.spec.understand import understand
from specrun.spec.yamltext import Document, Source


@dataclass(frozen=True)
class Resource:
    """One document, understood: its `key` is `kind/name`."""

    kind: str
    metadata: Metadata
    spec: BaseModel
    source: Document

    @cached_property
    def key(self) -> str:
        """`job/hello`."""
        return f"{self.kind.lower()}/{self.metadata.name}"

    @cached_property
    def values(self) -> dict[str, Any]:
        """The spec and the labels as plain values; what was left out is left out. Secrets are not shown."""
        values: dict[str, Any] = self.spec.model_dump(exclude_defaults=True)
        if self.kind == "Secret":
            values.pop("content", None)
        return {**values, **({"labels": self.metadata.labels} if self.metadata.labels else {})}

    @property
    def digest(self) -> str:
        """The same for two specs that mean the same."""
        return digest.of(json.dumps(self.values, sort_keys=True).encode())

    @property
    def folder(self) -> str:
        """What relative paths of the spec are relative to."""
        return os.path.dirname(os.path.abspath(self.source.file)) if self.source.file != "<stdin>" else os.getcwd()

    def path(self, relative: str) -> str:
        """A path of the host that the spec names, made absolute."""
        return os.path.normpath(os.path.join(self.folder, os.path.expanduser(relative)))

    def place(self, *path: str | int, key: bool = False) -> Place:
        """Where a field stands."""
        return self.source.place(path, key=key)


@dataclass(frozen=True)
class Specs:
    """All documents of one call, by `kind/name`, and the project that they make up."""

    project: str
    resources: dict[str, Resource]
    inactive: dict[str, Resource] = field(default_factory=dict)
    """Those whose profiles were not chosen."""
    trace: Trace | None = None
    """What they were read from; None for what was not read from files."""


def load(paths: list[str], project: str = "", options: Options | None = None) -> Specs:
    """Load files, folders (all their .yaml and .yml, sorted) and `-`. Raises SpecProblems with all that is wrong."""
    options = options or Options()
    with _without_collection():
        documents, problems = gather(paths, options)
        if not documents and not problems:
            path = paths[0] if paths else "-"
            what = "no file in it ends in .yaml or .yml, or they are empty" if os.path.isdir(path) else "holds no spec"
            problems.append(Problem(Place(path, 1, 1), what, "empty"))
        return _specs(documents, problems, project_name(paths, project), options.profiles, options.trace)


@contextmanager
def _without_collection() -> Iterator[None]:
    """Specs are many objects and no rubbish: looking for it in them, now and later, would take most of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


def from_values(values: list[dict[str, Any]], file: str, project: str) -> Specs:
    """Specs of plain documents, as a conversion or a revision has them. Raises SpecProblems."""
    documents = [Document(Source(file, []), value) for value in values]
    return _specs(documents, [], project, frozenset())


def _specs(
    documents: list[Document],
    problems: list[Problem],
    project: str,
    profiles: frozenset[str],
    trace: Trace | None = None,
) -> Specs:
    resources: dict[str, Resource] = {}
    inactive: dict[str, Resource] = {}
    for document in documents:
        found = understand(document, problems)
        if found is None:
            continue
        resource = Resource(*found, document)
        if other := resources.get(resource.key) or inactive.get(resource.key):
            where = other.place("metadata", "name")
            message = f"{resource.key} stands twice, first at {where}"
            place = resource.place("metadata", "name")
            problems.append(Problem(place, message, "duplicate-name", resource.key, "metadata.name"))
        wanted = resource.metadata.profiles
        (resources if not wanted or profiles & set(wanted) else inactive).setdefault(resource.key, resource)
    references.check(resources, inactive, problems)
    if problems:
        raise SpecProblems(problems)
    return Specs(project, resources, inactive, trace)


__all__ = ["API_VERSION", "Options", "Resource", "Specs", "load"]
