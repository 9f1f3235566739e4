"""What Compose's own parser answers, case by case, where the corpora are beside the checkout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from specrun.spec import dotenv, short, template

FOLDER = next(
    (one / "shared/corpora" for one in Path(__file__).parents if (one / "shared/corpora").is_dir()),
    Path("/nonexistent"),
)
LEFT_OUT = {
    "dotenv": {"bar\nbaz"},  # compose-go gives the second of two bare names the name ""
}
WORDS = {"hostIP": "host_ip", "containerPort": "target", "hostPort": "published", "readOnly": "read_only"}


def cases(name: str) -> list[dict[str, Any]]:
    path = FOLDER / f"{name}.json"
    if not path.exists():
        pytest.skip("the corpora are not beside this checkout")
    found: list[dict[str, Any]] = json.loads(path.read_text())
    return [case for case in found if case["input"] not in LEFT_OUT.get(name, ())]


def port(fields: dict[str, Any]) -> dict[str, Any]:
    found = {WORDS.get(name, name): value for name, value in fields.items()}
    low, _, high = str(found.get("published", "")).partition("-")
    if low:
        found["published"] = low if low == high or not high else f"{low}-{high}"
    return {"mode": "ingress", **{name: value for name, value in found.items() if value}}


def volume(wanted: dict[str, Any]) -> dict[str, Any]:
    bind, kept = wanted.get("bind") or {}, wanted.get("volume") or {}
    fields = {
        "type": wanted["type"],
        "source": wanted.get("source"),
        "target": wanted["target"],
        "readOnly": wanted.get("read_only"),
        "propagation": bind.get("propagation"),
        "selinux": bind.get("selinux"),
        "noCopy": kept.get("nocopy"),
    }
    return {name: value for name, value in fields.items() if value is not None}


def compare(name: str, answer: Callable[[dict[str, Any]], Any], wanted: Callable[[Any], Any] = lambda one: one) -> None:
    wrong = []
    for case in cases(name):
        expected = case["expected"]
        try:
            found = answer(case)
        except ValueError as error:
            if "error" not in expected:
                wrong.append((case["input"], str(error)))
            continue
        if "error" in expected or found != wanted(expected["result"]):
            wrong.append((case["input"], found))
    assert wrong == []


def test_templates() -> None:
    compare("compose_template", lambda case: template.fill(case["input"], case["env"], compose=True))


def test_dotenv() -> None:
    compare("dotenv", lambda case: dotenv.parse(case["input"], case["env"]))


def test_ports() -> None:
    compare("compose_port", lambda case: [port(one) for one in short.ports(case["input"])])


def test_volumes() -> None:
    def answer(case: dict[str, Any]) -> dict[str, Any]:
        found = short.volume(case["input"], drives=True)
        found.pop("options", None)
        return found

    compare("compose_volume", answer, volume)
