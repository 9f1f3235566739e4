"""Pages that are made from the code are what the code makes."""

from __future__ import annotations

from pathlib import Path

from specrun.bdd import reference

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_of_steps() -> None:
    assert (DOCS / "steps.md").read_text(encoding="utf-8") == reference.page()
