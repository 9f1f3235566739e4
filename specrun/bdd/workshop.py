"""The workshop's text, features and files: in the package of an installation, in the checkout otherwise."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import specrun

_PACKAGE = Path(specrun.__file__).parent
_CHECKOUT = _PACKAGE.parent


@dataclass
class Section:
    """A section that has a feature: its number, its name, its text, and the command lines of its text."""

    number: int
    name: str
    feature: Path
    text: str = ""
    commands: list[str] = field(default_factory=list)


def features() -> Path:
    """The folder of the workshop's features."""
    return _first(_PACKAGE / "workshop" / "features", _CHECKOUT / "features" / "workshop")


def files() -> Path:
    """The folder of the workshop's specs, with `docker/` that its command lines build from."""
    return _first(_PACKAGE / "workshop" / "specs", _CHECKOUT / "specs" / "workshop")


def text() -> Path:
    """The workshop's text."""
    return _first(_PACKAGE / "workshop" / "workshop.md", _CHECKOUT / "docs" / "workshop.md")


def sections() -> list[Section]:
    """All sections that have a feature, in order; the number is the feature file's."""
    found = []
    parts = parts_of(text().read_text(encoding="utf-8"))
    for path in sorted(features().glob("[0-9]*.feature")):
        name = _feature_name(path)
        part = parts.get(name, "")
        found.append(Section(int(path.name.partition("_")[0]), name, path, part, commands_of(part)))
    return found


def parts_of(document: str) -> dict[str, str]:
    """Heading -> the text below it, up to the next heading of any depth."""
    pieces = re.split(r"^##+ +(.+)$", document, flags=re.MULTILINE)
    return {name.strip(): body.strip() for name, body in zip(pieces[1::2], pieces[2::2], strict=True)}


def commands_of(part: str) -> list[str]:
    """The command lines in the fenced blocks of a section, as they are, without the prompt."""
    blocks = re.findall(r"^```console\n(.*?)^```", part, flags=re.MULTILINE | re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def _feature_name(path: Path) -> str:
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip().startswith("Feature:"):
            return line.partition(":")[2].strip()
    return path.stem


def _first(*candidates: Path) -> Path:
    for path in candidates:
        if path.exists():
            return path
    raise FileNotFoundError(f"the workshop's files are missing: {candidates[0]}")
