"""Every command line of the workshop's text is run by a scenario of the feature that is named after its section."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from specrun.bdd import workshop

TEXT = workshop.text().read_text(encoding="utf-8")
SECTIONS = {section.name: section for section in workshop.sections()}


def quoted(section: workshop.Section) -> list[str]:
    """The lines that the steps of the section's feature quote."""
    lines = section.feature.read_text(encoding="utf-8").splitlines()
    marks = re.compile(r"the workshop says(?:, in [a-z ]+,)? `(.*)`$|what the workshop says: \"(.*)\"$")
    return [match.group(1) or match.group(2) for line in lines if (match := marks.search(line))]


@pytest.mark.parametrize("name", sorted(SECTIONS))
def test_a_section_is_run_as_it_is_written(name: str) -> None:
    section = SECTIONS[name]
    assert section.text, f"{section.feature.name}: docs/workshop.md has no section {name!r}"
    assert [line for line in section.commands if line not in quoted(section)] == []


def test_the_text_is_taken_apart() -> None:
    parts = workshop.parts_of("# top\n\n## One\n\nx\n\n```console\n$ a b\nout\n$ c\n```\n\n### Two\n\ny\n")
    assert list(parts) == ["One", "Two"]
    assert workshop.commands_of(parts["One"]) == ["a b", "c"]
    assert parts["Two"] == "y"


def test_each_section_has_a_spec_that_its_feature_applies() -> None:
    top = Path(__file__).parents[2]
    specs = {path.name[:2]: path.name for path in (top / "specs/workshop").glob("*.yaml")}
    features = {path.name[:2]: path.read_text() for path in (top / "features/workshop").glob("*.feature")}
    assert specs.keys() == features.keys()
    assert len(specs) == 27
    for number, name in specs.items():
        assert f"`specrun apply {name}`" in features[number] or f" {name}`" in features[number], name
