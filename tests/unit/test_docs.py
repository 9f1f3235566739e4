"""Pages that are made from the code are what the code makes, and what the documentation shows can be typed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from specrun.cli import reference
from specrun.cli.commands.completion import _command
from specrun.cli.main import LONG_NAMES, VERBS
from specrun.spec.loader import load
from specrun.spec.models import KINDS
from specrun.spec.schema import explain

TOP = Path(__file__).parents[2]
DOCS = TOP / "docs"
TEXTS = [TOP / "README.md", *sorted(DOCS.rglob("*.md"))]
PAGES = reference.pages()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_code_makes(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == PAGES[name], "it is stale: run ./dev docs"


def test_there_are_no_pages_of_what_is_no_more() -> None:
    assert {f"reference/{path.name}" for path in (DOCS / "reference").iterdir()} <= set(PAGES)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_explains_itself(kind: str) -> None:
    assert "Fields:" in explain(kind)


def blocks(language: str) -> Iterator[tuple[str, str]]:
    """Each fenced block of the language, with where it is."""
    for path in TEXTS:
        text = path.read_text(encoding="utf-8")
        for match in re.finditer(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            line = text.count("\n", 0, match.start()) + 2
            yield f"{path.relative_to(TOP)}:{line}", match.group(1)


def commands() -> Iterator[tuple[str, str]]:
    """Each command line of ours in the console blocks; a backslash at its end goes on."""
    for place, block in blocks("console"):
        for line in block.replace("\\\n", " ").splitlines():
            if match := re.match(r"[#$] ((?:sudo )?specrun .*)", line):
                yield place, match.group(1)


def test_the_links_lead_somewhere() -> None:
    broken = []
    for path in TEXTS:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            if not (path.parent / target).exists():
                broken.append(f"{path.relative_to(TOP)}: {target}")
    assert broken == []


def test_the_documents_that_are_shown_are_valid(tmp_path: Path) -> None:
    found = list(blocks("yaml"))
    assert len(found) > 15
    for number, (place, text) in enumerate(found):
        documents = [one for one in yaml.safe_load_all(text) if one is not None]
        whole = [one for one in documents if isinstance(one, dict) and "apiVersion" in one]
        assert documents or text.lstrip().startswith("#"), place
        if whole and not place.startswith("docs/reference/"):  # those refer to each other: see test_reference
            file = tmp_path / f"{number}.yaml"
            file.write_text(text)
            load([str(file)])


def test_the_commands_that_are_shown_can_be_typed() -> None:
    found = list(commands())
    assert len(found) > 100
    for place, line in found:
        words = shlex.split(re.split(r" (?:[|;]|&&|>|<) ?|;", line)[0], comments=True)
        words = words[words.index("specrun") + 1 :]
        while words and words[0] in ("--root", "--debug"):
            words = words[2 if words[0] == "--root" else 1 :]
        if not words or words[0] in ("--help", "--version"):
            continue
        assert words[0] in {*VERBS, *LONG_NAMES}, f"{place}: {line}"
        command, rest = _command(words)
        if command is not None and rest[-1:] != ["--help"]:
            try:
                command.parse(rest)
            except Exception as error:
                raise AssertionError(f"{place}: {line}: {error}") from error
