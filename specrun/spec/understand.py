"""One document to one object: the judgement of the models, in our own words and at its place."""

from __future__ import annotations

import json
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError

from specrun.spec.models import KINDS, Envelope, Metadata
from specrun.spec.problems import Problem, dotted
from specrun.spec.yamltext import Document, Path

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
    "float_type": "a number",
}
_BOUNDS = {
    "greater_than": ("gt", "above"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "below"),
    "less_than_equal": ("le", "at most"),
}


def understand(document: Document, problems: list[Problem]) -> tuple[str, Metadata, BaseModel] | None:
    """Kind, metadata and spec of a document, or None with what is wrong added to `problems`."""
    value = document.value
    if not isinstance(value, dict):
        message = f"found {type_name(value)}, expected a mapping with apiVersion and kind"
        problems.append(Problem(document.place(()), message, "wrong-type"))
        return None
    if isinstance(value.get("services"), dict) and not value.keys() & {"apiVersion", "kind"}:
        message = "is a Compose file, not a spec"
        note = "`specrun convert --from compose FILE` makes specs of it"
        problems.append(Problem(document.place(("services",), key=True), message, "compose-file", note=note))
        return None
    subject = _subject(value)
    envelope = spec = None
    try:
        envelope = Envelope.model_validate(value)
    except ValidationError as error:
        problems += _problems(document, subject, error, Envelope, ())
    model = KINDS.get(str(value.get("kind")))
    if model is None or "spec" not in value:
        return None
    shorthand = model.LIST_FIELD if isinstance(value["spec"], list) else ""
    try:
        spec = model.read(value["spec"])
    except ValidationError as error:
        problems += _problems(document, subject, error, model, ("spec",), shorthand)
    return (envelope.kind, envelope.metadata, spec) if envelope and spec else None


def _subject(value: dict[str, Any]) -> str:
    metadata = value.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    kind = value.get("kind")
    return f"{kind.lower()}/{name}" if isinstance(kind, str) and isinstance(name, str) else ""


def _problems(
    document: Document, subject: str, error: ValidationError, model: type[BaseModel], prefix: Path, shorthand: str = ""
) -> list[Problem]:
    """All errors of pydantic. Of the branches of a union, only the one that came furthest is heard.

    `shorthand` is the field that the document has left out (Model.LIST_FIELD).
    """
    inner_model = (model_of(model, shorthand) or model) if shorthand else model
    items = error.errors(include_url=False)
    found = []
    seen: dict[Path, tuple[int, Problem]] = {}
    for item in items:
        location = item["loc"][1:] if shorthand else item["loc"]
        path, inner = _real_path(document, (*prefix, *location))
        problem = _problem(document, subject, item, path, inner_model, prefix)
        if not inner:
            found.append(problem)
            continue
        depth = len(item["loc"])
        if path not in seen or seen[path][0] < depth:
            seen[path] = (depth, problem)
    unions = [problem for _, problem in seen.values()]
    return found + unions


def _real_path(document: Document, path: Path) -> tuple[Path, bool]:
    """The part of a location that is in the document; pydantic adds the names of a union's branches to it."""
    value: Any = document.value
    real: list[str | int] = []
    union = False
    for part in path:
        if isinstance(value, dict) and isinstance(part, str):
            real.append(part)
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            real.append(part)
            value = value[part]
        elif isinstance(value, (dict, list)):
            real.append(part)
            value = None
        else:
            union = True
    return tuple(real), union


def _problem(document: Document, subject: str, item: Any, path: Path, model: type[BaseModel], prefix: Path) -> Problem:
    """One error of pydantic in our words and at its place."""
    kind, context, found = item["type"], item.get("ctx", {}), item.get("input")
    field = dotted(path)
    if kind == "extra_forbidden":
        known = known_fields(model, path[len(prefix) : -1])
        close = get_close_matches(str(path[-1]), known, 1)
        note = f'did you mean "{close[0]}"?' if close else f"expected one of {', '.join(known)}" if known else ""
        place = document.place(path, key=True)
        return Problem(place, "unknown field", "unknown-field", subject, field, note)
    if kind == "missing":
        place = document.place(path[:-1], key=True) if path[:-1] else document.place(())
        return Problem(place, "is missing", "missing-field", subject, field, "expected here")
    place = document.place(path)
    if kind == "literal_error":
        words = [word.strip("'") for word in context["expected"].replace(" or ", ", ").split(", ")]
        close = get_close_matches(str(found), words, 1, 0.5)
        note = f'did you mean "{close[0]}"?' if close else f"expected {context['expected']}"
        message, code = _UNKNOWN.get(field, ("is not one of the possible values", "bad-value"))
        return Problem(place, f"{message} {found!r}", code, subject, field, note)
    if "expected" in context and "found" in context:
        return Problem(place, item["msg"], kind, subject, field, f"expected {context['expected']}")
    if kind in _TYPES:
        scalar = kind == "string_type" and isinstance(found, (bool, int, float))
        note = f'write it in quotes: "{json.dumps(found)}"' if scalar else ""
        message = f"found {type_name(found)}, expected {_TYPES[kind]}"
        return Problem(place, message, "wrong-type", subject, field, note)
    if kind in ("too_short", "string_too_short"):
        what = "at least one item" if kind == "too_short" else "some text"
        return Problem(place, f"is empty, expected {what}", "empty", subject, field)
    if kind in _BOUNDS:
        bound, direction = _BOUNDS[kind]
        return Problem(place, f"found {found}, expected {direction} {context[bound]}", "out-of-range", subject, field)
    if kind == "string_pattern_mismatch":
        note = f"expected text that matches {context['pattern']}"
        return Problem(place, f"found {found!r}", "bad-value", subject, field, note)
    return Problem(place, item["msg"], kind.replace("_", "-"), subject, field)


def type_name(value: Any) -> str:
    """What something of a document is, for a message."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"the boolean {'true' if value else 'false'}"
    if isinstance(value, (int, float)):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    return "a list" if isinstance(value, list) else "a mapping"


def known_fields(model: type[BaseModel], path: Path) -> list[str]:
    """The fields that the mapping at `path` may have."""
    current: type[BaseModel] | None = model
    for part in path:
        if isinstance(part, int):
            continue
        current = model_of(current, part) if current else None
    return list(current.model_fields) if current else []


def model_of(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    """The model of a field's mapping, or of the items of its list."""
    info = model.model_fields.get(name)
    return _model_in(info.annotation) if info else None


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in getattr(annotation, "__args__", ()):
        if (found := _model_in(part)) is not None:
            return found
    return None
