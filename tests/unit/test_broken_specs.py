"""Broken specs, each with what is said about it.

A case is `tests/golden/specs/<case>.yaml`, or a folder with spec.yaml and perhaps an overlay.yaml, a .env and more;
`<case>.expected` has `path:line:column code field` of each problem.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from specrun.errors import SpecrunError
from specrun.reconcile.graph import graph
from specrun.spec.loader import Options, load
from specrun.spec.problems import SpecProblems

FOLDER = Path(__file__).parents[1] / "golden/specs"
CASES = sorted(path for path in FOLDER.iterdir() if path.suffix == ".yaml" or path.is_dir())


def said(case: Path) -> str:
    """`path:line:column code field`, a line for each problem; the path is left out of cases of one file."""
    spec, overlay = (case / "spec.yaml", case / "overlay.yaml") if case.is_dir() else (case, case)
    options = Options(
        environment={"FOO": "x"}, overlays=[str(overlay)] if overlay not in (spec,) and overlay.exists() else []
    )
    try:
        graph(load([str(spec)], options=options))
    except SpecProblems as error:
        lines = [f"{one.place} {one.code} {one.field}".rstrip() for one in error.problems]
    except SpecrunError as error:
        lines = [f"{error.place} {error.code}" if error.place else error.code]
    else:
        return ""
    return "".join(line.removeprefix(f"{case}:").removeprefix(f"{case}/") + "\n" for line in lines)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_is_refused_at_its_place(case: Path) -> None:
    began = time.monotonic()
    found = said(case)
    assert found
    assert found == case.with_suffix(".expected").read_text()
    assert time.monotonic() - began < 5


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 80
