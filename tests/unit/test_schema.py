"""The schema and the validator accept the same documents, and the published schema is today's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from specrun.errors import NotFound
from specrun.spec.models import KINDS, Envelope
from specrun.spec.schema import explain, schema
from specrun.spec.yamltext import parse

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "docs/specrun.schema.json"
GOOD = {
    "Image": {"tags": ["busybox"], "packages": {"include": ["busybox"]}},
    "Build": {"tags": ["a"], "dockerfileInline": "FROM scratch"},
    "Container": {
        "image": "busybox",
        "ports": ["80", {"containerPort": 1}],
        "volumes": ["a:/b", {"type": "tmpfs", "target": "/t", "size": "1m"}],
        "dependsOn": [{"job": "j", "condition": "completed"}],
        "resources": {"limits": {"memory": "64m"}},
        "healthcheck": {"test": ["CMD", "x"], "interval": "1s"},
    },
    "Job": {"image": "busybox", "env": {"A": "b"}, "network": "none"},
    "Network": {"ipam": {"config": [{"subnet": "10.0.0.0/24"}]}},
    "Volume": {},
    "Secret": {"content": "x"},
    "Config": {"file": "x"},
    "Registry": {"listen": "127.0.0.1:5000"},
    "Push": {"image": "a", "to": "localhost:5000/a"},
    "Check": [{"that": "it is there", "file": {"image": "a", "path": "/a"}, "expect": {"mode": "0644"}}],
}
VALUES: list[Any] = [None, True, 0, -1, 1.5, "", "x", "/x", "1m", "10.0.0.0/8", "a/b:c", [], ["x"], {}, {"x": "y"}]


def accepts(document: dict[str, Any]) -> bool:
    try:
        envelope = Envelope.model_validate(document)
        KINDS[envelope.kind].read(document["spec"])
    except (ValidationError, KeyError):
        return False
    return True


def schema_accepts(document: dict[str, Any]) -> bool:
    return bool(VALIDATOR.is_valid(document))


VALIDATOR = jsonschema.Draft202012Validator(schema(), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)


def document(kind: str, spec: Any) -> dict[str, Any]:
    return {"apiVersion": "specrun/v1", "kind": kind, "metadata": {"name": "a"}, "spec": spec}


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """A good document with one thing changed, added or taken away."""
    kind = draw(st.sampled_from(sorted(KINDS)))
    made = json.loads(json.dumps(document(kind, GOOD[kind])))
    node = made
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys or draw(st.booleans()) is False and node is not made:
            break
        key = draw(st.sampled_from(keys))
        if isinstance(node[key], (dict, list)) and node[key] and draw(st.integers(0, 3)):
            node = node[key]
            continue
        action = draw(st.sampled_from(["replace", "remove"]))
        if action == "remove":
            del node[key]
        else:
            node[key] = draw(st.sampled_from(VALUES))
        return made
    if isinstance(node, dict):
        fields = sorted({name for model in KINDS.values() for name in model.model_fields} | {"nothing"})
        node[draw(st.sampled_from(fields))] = draw(st.sampled_from(VALUES))
    else:
        node.append(draw(st.sampled_from(VALUES)))
    return made


@given(mutated())
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_changed_document_is_judged_alike(made: dict[str, Any]) -> None:
    assert schema_accepts(made) == accepts(made), made


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_good_documents_are_good(kind: str) -> None:
    assert accepts(document(kind, GOOD[kind]))
    assert schema_accepts(document(kind, GOOD[kind]))


@pytest.mark.parametrize("path", sorted(ROOT.glob("specs/**/*.yaml")), ids=lambda path: path.stem)
def test_our_own_specs_fit(path: Path) -> None:
    for one in parse(str(path), path.read_text()):
        assert list(VALIDATOR.iter_errors(one.value)) == []


def test_the_published_schema_is_not_stale() -> None:
    assert json.loads(PUBLISHED.read_text()) == schema(), "run: specrun schema > docs/specrun.schema.json"


def test_every_field_is_documented() -> None:
    for name, model in KINDS.items():
        assert all(info.description for info in model.model_fields.values()), name


def test_explain() -> None:
    assert explain("container.healthcheck.interval").startswith("Container.healthcheck.interval  <text>")
    assert "(required)" in explain("Container")
    with pytest.raises(NotFound) as error:
        explain("container.helthcheck")
    assert error.value.hint == "did you mean healthcheck?"
