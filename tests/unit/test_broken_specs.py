"""Broken specs, each with what is said about it: `tests/golden/specs/<case>.yaml` and `<case>.expected`."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from specrun.errors import SpecrunError
from specrun.reconcile.graph import graph
from specrun.reconcile.kinds import check_supported
from specrun.spec.loader import load
from specrun.spec.problems import SpecProblems

CASES = sorted(Path(__file__).parents[1].glob("golden/specs/*.yaml"))


def said(case: Path) -> str:
    """`line:column code field`, a line for each problem."""
    try:
        specs = load([str(case)])
        check_supported(specs)
        graph(specs)
    except SpecProblems as error:
        return "".join(
            f"{one.place.line}:{one.place.column} {one.code} {one.field}".rstrip() + "\n" for one in error.problems
        )
    except SpecrunError as error:
        return f"{error.place.line}:{error.place.column} {error.code}\n" if error.place else f"{error.code}\n"
    return ""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_is_refused_at_its_place(case: Path) -> None:
    began = time.monotonic()
    found = said(case)
    assert found
    assert found == case.with_suffix(".expected").read_text()
    assert time.monotonic() - began < 5


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 50
