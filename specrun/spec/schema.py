"""The JSON Schema of specs, made from the models; and the documentation of one field.

The schema says what the models say, so that an editor underlines what validation would refuse.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from specrun.errors import NotFound
from specrun.spec.models import KINDS, Envelope
from specrun.spec.understand import model_of

DRAFT = "https://json-schema.org/draft/2020-12/schema"


def schema(kind: str = "") -> dict[str, Any]:
    """The schema of documents of all kinds, or of one. Raises NotFound for an unknown kind."""
    kinds = [_kind(kind)] if kind else list(KINDS)
    models = [(KINDS[name], "validation") for name in kinds]
    _, definitions = models_json_schema([*models, (Envelope, "validation")], ref_template="#/$defs/{model}")  # type: ignore[list-item]
    defs = definitions["$defs"]
    envelope = defs.pop("Envelope")
    envelope["properties"]["kind"]["enum"] = kinds
    envelope["allOf"] = [
        {
            "if": {"properties": {"kind": {"const": name}}},
            "then": {"properties": {"spec": {"$ref": f"#/$defs/{KINDS[name].__name__}"}}},
        }
        for name in kinds
    ]
    include = {
        "type": "object",
        "properties": {"include": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}},
        "required": ["include"],
        "additionalProperties": False,
        "description": "More files and folders, relative to this one.",
    }
    return {
        "$schema": DRAFT,
        "title": f"specrun/v1 {kind}".strip(),
        "if": {"type": "object", "required": ["include"]},
        "then": include,
        "else": envelope,
        "$defs": defs,
    }


def _kind(text: str) -> str:
    for name in KINDS:
        if name.lower() == text.lower():
            return name
    close = get_close_matches(text.capitalize(), list(KINDS), 1)
    raise NotFound(
        f"there is no kind {text}", hint=f"did you mean {close[0]}?" if close else f"one of {', '.join(KINDS)}"
    )


def explain(path: str) -> str:
    """The documentation of `Kind` or `Kind.field.field`. Raises NotFound."""
    first, *rest = path.split(".")
    kind = _kind(first)
    model: type[BaseModel] | None = KINDS[kind]
    if rest[:1] == ["metadata"] or rest[:1] == ["spec"]:
        model = model_of(Envelope, "metadata") if rest[0] == "metadata" else model
        rest = rest[1:]
    title, note, done = kind, (model.__doc__ if model else "") or "", [kind]
    for name in rest:
        fields = model.model_fields if model else {}
        if name not in fields or model is None:
            close = get_close_matches(name, list(fields), 1)
            hint = f"did you mean {close[0]}?" if close else f"its fields are {', '.join(fields)}" if fields else ""
            raise NotFound(f"{'.'.join(done)} has no field {name}", hint=hint)
        info = fields[name]
        done.append(name)
        title = f"{'.'.join(done)}  <{type_of(model, name)}>{'  required' if info.is_required() else ''}"
        model = model_of(model, name)
        note = info.description or ""
        if model and model.__doc__:
            note = f"{note}\n{model.__doc__.strip()}" if note != model.__doc__.strip() else note
    lines = [title, "", *(f"  {line}" for line in note.strip().splitlines())]
    if model and model.model_fields:
        lines += ["", "Fields:"]
        width = max(len(name) for name in model.model_fields) + 2
        for name, info in model.model_fields.items():
            required = " (required)" if info.is_required() else ""
            lines.append(f"  {name.ljust(width)}<{type_of(model, name)}>{required} {info.description or ''}")
    return "\n".join(lines) + "\n"


def type_of(model: type[BaseModel], name: str) -> str:
    """A field's type in a few words."""
    document = model.model_json_schema()
    # A kind that may be written as a list is one of two things.
    forms = [document, *document.get("anyOf", [])]
    properties = next(form["properties"] for form in forms if "properties" in form)
    return _words(properties[name], document.get("$defs", {}))


def _words(node: dict[str, Any], defs: dict[str, Any]) -> str:
    if "$ref" in node:
        return _words(defs[node["$ref"].rsplit("/", 1)[1]], defs)
    if "enum" in node or "const" in node:
        return "|".join(str(one) for one in node.get("enum", [node.get("const")]))
    if "anyOf" in node and "type" not in node:
        parts = [_words(one, defs) for one in node["anyOf"] if one.get("type") != "null"]
        return " or ".join(dict.fromkeys(parts))
    kind = node.get("type", "anything")
    if isinstance(kind, list):
        return " or ".join(_PLAIN.get(str(one), str(one)) for one in kind)
    if kind == "array":
        return f"list of {_words(node.get('items', {}), defs)}"
    if kind == "object" and isinstance(node.get("additionalProperties"), dict):
        return f"map of {_words(node['additionalProperties'], defs)}"
    return _PLAIN.get(str(kind), str(kind))


_PLAIN = {"string": "text", "object": "mapping", "boolean": "true or false", "integer": "number"}
