"""The sample of a report that git keeps: small, about all sections, and without what is this machine's."""

from __future__ import annotations

import re
from pathlib import Path

from specrun.bdd import workshop

TOP = Path(__file__).parents[2]
SAMPLE = TOP / "reports" / "sample"


def test_the_sample_is_about_all_sections_and_all_engines() -> None:
    text = (SAMPLE / "report.md").read_text(encoding="utf-8")
    assert "| configuration | specrun | docker | podman |" in text
    assert "All of it holds" in text
    for section in workshop.sections():
        assert f"### {section.name}\n" in text


def test_the_sample_is_small_and_needs_nothing() -> None:
    pages = {path.name: path.read_text(encoding="utf-8") for path in SAMPLE.iterdir()}
    assert set(pages) == {"report.md", "report.html"}
    for text in pages.values():
        assert len(text) < 600_000
        assert not re.search(r"(?:src|href)=[\"']?https?:", text)
        assert str(TOP) not in text
