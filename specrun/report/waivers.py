"""Waivers: failures that are known, each with a reason, an owner and a day on which it ends."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import Any

from specrun.errors import Place
from specrun.spec.problems import Problem, SpecProblems
from specrun.spec.yamltext import Document, parse
from specrun.spec.yamltext import read as read_text

REQUIRED = ("scenario", "engine", "reason", "owner", "expires")
FIELDS = (*REQUIRED, "step")


@dataclass(frozen=True)
class Waiver:
    """One entry of the file. `feature`, `scenario` and `step` may have `*`; an engine of `*` is every engine."""

    feature: str
    scenario: str
    engine: str
    reason: str
    owner: str
    expires: str
    """The last day, as YYYY-MM-DD."""
    place: str
    step: str = "*"
    """The step that fails: that another one does is not waived."""

    def covers(self, file: str, title: str, engine: str) -> bool:
        """Whether it is about this scenario on this engine."""
        stem = file.rpartition("/")[2].removesuffix(".feature")
        return _is_like(stem, self.feature) and _is_like(title, self.scenario) and self.engine in ("*", engine)

    def excuses(self, step: str) -> bool:
        """Whether a failure of this step is expected."""
        return _is_like(step, self.step)


def load(path: str) -> list[Waiver]:
    """The waivers of a file: mappings of `scenario` (FEATURE: NAME), `engine`, `reason`, `owner` and `expires`.

    With `step` only the failure of that step is meant. `*` stands for anything.
    Raises SpecProblems with a place for each mistake.
    """
    documents = parse(*read_text(path))
    waivers: list[Waiver] = []
    problems: list[Problem] = []
    for document in documents:
        entries = document.value if isinstance(document.value, list) else [document.value]
        for index, entry in enumerate(entries):
            where = (index,) if isinstance(document.value, list) else ()
            found = _problems(document, where, entry)
            problems += found
            if not found:
                waivers.append(_waiver(entry, document.place(where)))
    if problems:
        raise SpecProblems(problems)
    return waivers


def _problems(document: Document, where: tuple[int, ...], entry: Any) -> list[Problem]:
    if not isinstance(entry, dict):
        return [Problem(document.place(where), "expected a waiver with " + ", ".join(REQUIRED), "bad-waiver")]
    known = ", ".join(FIELDS)
    found = [
        Problem(document.place((*where, key), key=True), f"{key}: unknown field, expected {known}", "unknown-field")
        for key in entry
        if key not in FIELDS
    ]
    for key in (*REQUIRED, *(key for key in ("step",) if key in entry)):
        if not isinstance(entry.get(key), str) or not entry[key].strip():
            place = document.place((*where, key)) if key in entry else document.place(where)
            found.append(Problem(place, f"{key}: is missing, or no text", "bad-waiver"))
    if found:
        return found
    if ": " not in entry["scenario"]:
        place = document.place((*where, "scenario"))
        found.append(Problem(place, "scenario: expected `FEATURE: NAME OF THE SCENARIO`", "bad-waiver"))
    try:
        datetime.date.fromisoformat(entry["expires"])
    except ValueError:
        place = document.place((*where, "expires"))
        found.append(Problem(place, f"expires: {entry['expires']!r} is no day, expected YYYY-MM-DD", "bad-waiver"))
    return found


def _waiver(entry: dict[str, str], place: Place) -> Waiver:
    feature, _, scenario = entry["scenario"].partition(": ")
    return Waiver(
        feature.strip(), scenario.strip(), entry["engine"], entry["reason"], entry["owner"], entry["expires"],
        f"{place.file}:{place.line}", entry.get("step", "*"),
    )  # fmt: skip


def _is_like(text: str, pattern: str) -> bool:
    """`*` stands for anything; nothing else is special, as brackets are in names of examples."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text, re.DOTALL) is not None
