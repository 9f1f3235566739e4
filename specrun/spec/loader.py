"""Spec files to specs: every problem of every file is found before anything is done."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError

from specrun.errors import Place, SpecrunError
from specrun.oci import digest
from specrun.paths import is_name
from specrun.spec.models import API_VERSION, KINDS, Envelope, ImageSpec, Metadata, ProcessSpec
from specrun.spec.problems import Problem, SpecProblems
from specrun.spec.yamltext import Document, Path, parse, read


@dataclass(frozen=True)
class Resource:
    """One document, understood: its `key` is `kind/name`."""

    kind: str
    metadata: Metadata
    spec: BaseModel
    source: Document

    @property
    def key(self) -> str:
        """`job/hello`."""
        return f"{self.kind.lower()}/{self.metadata.name}"

    @property
    def values(self) -> dict[str, Any]:
        """The spec and the labels as plain values; what was left out is left out."""
        values: dict[str, Any] = self.spec.model_dump(exclude_defaults=True)
        return {**values, **({"labels": self.metadata.labels} if self.metadata.labels else {})}

    @property
    def digest(self) -> str:
        """The same for two specs that mean the same."""
        return digest.of(json.dumps(self.values, sort_keys=True).encode())

    def place(self, *path: str | int, key: bool = False) -> Place:
        """Where a field stands."""
        return self.source.place(path, key=key)


@dataclass(frozen=True)
class Specs:
    """All documents of one call, by `kind/name`, and the project that they make up."""

    project: str
    resources: dict[str, Resource]


def load(paths: list[str], project: str = "") -> Specs:
    """Load files, folders (all their .yaml and .yml, sorted) and `-`. Raises SpecProblems with all that is wrong."""
    documents: list[Document] = []
    problems: list[Problem] = []
    for path in _expand(paths):
        try:
            documents += parse(*read(path))
        except SpecProblems as error:
            problems += error.problems
    resources: dict[str, Resource] = {}
    for document in documents:
        resource = _understand(document, problems)
        if resource is None:
            continue
        if other := resources.get(resource.key):
            where = other.place("metadata", "name")
            message = f"{resource.key} stands twice, first at {where}"
            place = resource.place("metadata", "name")
            problems.append(Problem(place, message, "duplicate-name", resource.key, "metadata.name"))
        resources.setdefault(resource.key, resource)
    if not documents and not problems:
        problems.append(Problem(Place(paths[0] if paths else "-", 1, 1), "holds no spec", "empty"))
    _check_references(resources, problems)
    if problems:
        raise SpecProblems(problems)
    return Specs(_project(paths, project), resources)


def _expand(paths: list[str]) -> list[str]:
    files = []
    for path in paths:
        if path != "-" and os.path.isdir(path):
            names = sorted(name for name in os.listdir(path) if name.endswith((".yaml", ".yml")))
            files += [os.path.join(path, name) for name in names]
        else:
            files.append(path)
    return files


def _project(paths: list[str], chosen: str) -> str:
    if chosen:
        if not is_name(chosen):
            raise SpecrunError(f"{chosen!r} is not the name of a project", hint="letters, digits, '_', '.' and '-'")
        return chosen
    first = "stdin" if paths[0] == "-" else os.path.basename(os.path.abspath(paths[0]))
    stem = first.rsplit(".", 1)[0] if first.endswith((".yaml", ".yml")) else first
    cleaned = "".join(char if char.isalnum() and char.isascii() or char in "_.-" else "-" for char in stem).lstrip(
        "_.-"
    )
    return cleaned[:128] or "project"


def _understand(document: Document, problems: list[Problem]) -> Resource | None:
    value = document.value
    if not isinstance(value, dict):
        found = _type_name(value)
        place = document.place(())
        problems.append(Problem(place, f"found {found}, expected a mapping with apiVersion and kind", "wrong-type"))
        return None
    subject = _subject(value)
    try:
        envelope = Envelope.model_validate(value)
    except ValidationError as error:
        problems += [_problem(document, subject, item, ()) for item in error.errors()]
        envelope = None
    model = KINDS.get(str(value.get("kind")))
    if model is None or "spec" not in value:
        return None
    try:
        spec = model.model_validate(value["spec"])
    except ValidationError as error:
        problems += [_problem(document, subject, item, ("spec",)) for item in error.errors()]
        return None
    return Resource(envelope.kind, envelope.metadata, spec, document) if envelope else None


def _subject(value: dict[str, Any]) -> str:
    metadata = value.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    kind = value.get("kind")
    return f"{kind.lower()}/{name}" if isinstance(kind, str) and isinstance(name, str) else ""


def _problem(document: Document, subject: str, item: Any, prefix: Path) -> Problem:
    """One error of pydantic in our words and at its place."""
    path: Path = (*prefix, *item["loc"])
    kind, context, found = item["type"], item.get("ctx", {}), item.get("input")
    field = _dotted(path)
    if kind == "extra_forbidden":
        known = _known_fields(path)
        close = get_close_matches(str(path[-1]), known, 1)
        note = f'did you mean "{close[0]}"?' if close else f"expected one of {', '.join(known)}" if known else ""
        place = document.place(path, key=True)
        return Problem(place, "unknown field", "unknown-field", subject, field, note)
    if kind == "missing":
        place = document.place(path[:-1], key=True) if path[:-1] else document.place(())
        return Problem(place, "is missing", "missing-field", subject, field, "expected here")
    if kind == "literal_error":
        close = get_close_matches(str(found), [word.strip("'") for word in context["expected"].split(" or ")], 1, 0.5)
        note = f'did you mean "{close[0]}"?' if close else f"expected {context['expected']}"
        message, code = _UNKNOWN.get(field, ("is not one of the possible values", "bad-value"))
        return Problem(document.place(path), f"{message} {found!r}", code, subject, field, note)
    if "expected" in context and "found" in context:
        note = f"expected {context['expected']}"
        return Problem(document.place(path), item["msg"], kind, subject, field, note)
    if kind in _TYPES:
        expected = _TYPES[kind]
        scalar = kind == "string_type" and isinstance(found, (bool, int, float))
        note = f'write it in quotes: "{json.dumps(found)}"' if scalar else ""
        message = f"found {_type_name(found)}, expected {expected}"
        return Problem(document.place(path), message, "wrong-type", subject, field, note)
    if kind == "too_short":
        return Problem(document.place(path), "is empty, expected at least one item", "empty", subject, field)
    return Problem(document.place(path), item["msg"], kind.replace("_", "-"), subject, field)


_UNKNOWN = {
    "apiVersion": ("unknown apiVersion", "unknown-version"),
    "kind": ("unknown kind", "unknown-kind"),
}
_TYPES = {
    "string_type": "text",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "bool_type": "true or false",
    "int_type": "a whole number",
}


def _type_name(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"the boolean {'true' if value else 'false'}"
    if isinstance(value, (int, float)):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    return "a list" if isinstance(value, list) else "a mapping"


def _dotted(path: Path) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _known_fields(path: Path) -> list[str]:
    """The fields that could stand where the unknown one at `path` does."""
    for model in (Envelope, *KINDS.values()):
        current: Any = model
        for part in path[1:-1] if path[0] == "spec" else path[:-1]:
            if isinstance(part, int):
                continue
            current = _model_of(current, str(part))
            if current is None:
                break
        if current is not None and (model is Envelope) == (path[0] != "spec"):
            matches = get_close_matches(str(path[-1]), list(current.model_fields), 1)
            if matches or model in (Envelope, list(KINDS.values())[-1]):
                return list(current.model_fields)
    return []


def _model_of(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    info = model.model_fields.get(name)
    if info is None:
        return None
    candidates = [info.annotation, *getattr(info.annotation, "__args__", ())]
    return next((one for one in candidates if isinstance(one, type) and issubclass(one, BaseModel)), None)


def _check_references(resources: dict[str, Resource], problems: list[Problem]) -> None:
    """dependsOn must name what is there; names of containers and jobs share one space; tags belong to one image."""
    users: dict[str, Resource] = {}
    tags: dict[str, Resource] = {}
    for resource in resources.values():
        if isinstance(resource.spec, ImageSpec):
            for index, tag in enumerate(resource.spec.tags):
                other = tags.setdefault(tag, resource)
                if other is not resource:
                    place = resource.place("spec", "tags", index)
                    message = f"{tag} is a tag of {other.key} already"
                    problems.append(Problem(place, message, "duplicate-tag", resource.key, f"spec.tags[{index}]"))
        if not isinstance(resource.spec, ProcessSpec):
            continue
        other = users.setdefault(resource.metadata.name, resource)
        if other is not resource:
            place = resource.place("metadata", "name")
            message = f"the container of {other.key} is called so already"
            problems.append(Problem(place, message, "duplicate-name", resource.key, "metadata.name"))
        for index, dependency in enumerate(resource.spec.dependsOn):
            if dependency.key not in resources:
                close = get_close_matches(dependency.key, list(resources), 1)
                note = f'did you mean "{close[0].split("/")[1]}"?' if close else ""
                place = resource.place("spec", "dependsOn", index)
                field = f"spec.dependsOn[{index}]"
                problems.append(
                    Problem(
                        place, f"there is no {dependency.key} in these specs", "no-such-spec", resource.key, field, note
                    )
                )


__all__ = ["API_VERSION", "Resource", "Specs", "load"]
