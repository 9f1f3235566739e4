"""References, case by case as distribution/reference answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from specrun.oci.reference import InvalidReference, Reference

CORPUS = Path(__file__).parents[3] / "shared" / "corpora" / "image_reference.json"
CASES: list[dict[str, Any]] = json.loads(CORPUS.read_text()) if CORPUS.exists() else []


def test_the_usual_ones() -> None:
    assert Reference.parse("busybox").canonical == "docker.io/library/busybox:latest"
    assert Reference.parse("127.0.0.1:5000/hello:v7").familiar == "127.0.0.1:5000/hello:v7"
    assert Reference.parse("library/python:3").familiar == "python:3"


@pytest.mark.skipif(not CASES, reason="the corpora are not beside this checkout")
def test_the_corpus() -> None:
    wrong = []
    for case in CASES:
        text, expected = case["input"], case["expected"]["normalized"]
        try:
            found = Reference.parse(text).canonical
        except InvalidReference:
            found = "error"
        wanted = expected.get("string", "error")
        if wanted != "error" and not expected.get("tag") and not expected.get("digest"):
            wanted += ":latest"  # which distribution/reference adds in a call of its own
        if found != wanted:
            wrong.append((text, wanted, found))
    assert wrong == []
    assert len(CASES) >= 290
