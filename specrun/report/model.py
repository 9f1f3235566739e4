"""The result model: what was run on which engines, with a verdict for each scenario and the evidence of each step.

All that a report says is derived from the results' own document, so rendering it twice gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from specrun.errors import SpecrunError
from specrun.report.waivers import Waiver

VERSION = 1


class Verdict(StrEnum):
    """What is to be said of a scenario on one engine."""

    PASSED = "passed"
    FLAKY = "flaky"
    """Failed, and passed when it was run again."""
    WAIVED = "waived"
    """Failed, as a waiver that is still valid expects."""
    SKIPPED = "skipped"
    EXPIRED = "expired"
    """Failed, and the waiver for it has expired."""
    FAILED = "failed"

    @property
    def holds(self) -> bool:
        """Whether a run with it is a success."""
        return self not in (Verdict.FAILED, Verdict.EXPIRED)


class BadResults(SpecrunError):
    """A file that is no document of results."""

    code = "bad-results"


@dataclass(frozen=True)
class Command:
    """A command line with what it showed; `status` is None for what is no process."""

    line: str
    status: int | None
    output: str
    errors: str
    seconds: float


@dataclass(frozen=True)
class Step:
    """A sentence that was carried out: `status` is passed, failed, undefined or not run."""

    keyword: str
    text: str
    status: str
    seconds: float
    error: str
    commands: tuple[Command, ...]


@dataclass
class Outcome:
    """One scenario on one engine. `attempts` are all its runs, the last one last."""

    attempts: list[dict[str, Any]]
    waiver: Waiver | None = None
    expired: bool = False

    @property
    def last(self) -> dict[str, Any]:
        """The attempt that counts."""
        return self.attempts[-1]

    @property
    def verdict(self) -> Verdict:
        """What is to be said."""
        status = self.last["status"]
        if status == "skipped":
            return Verdict.SKIPPED
        if status == "passed":
            return Verdict.FLAKY if len(self.attempts) > 1 else Verdict.PASSED
        if self.waiver is None:
            return Verdict.FAILED
        return Verdict.EXPIRED if self.expired else Verdict.WAIVED

    @property
    def seconds(self) -> float:
        """How long the last attempt took."""
        return float(self.last["seconds"])

    @property
    def reason(self) -> str:
        """Why it was skipped, or what failed first."""
        if self.verdict is Verdict.SKIPPED:
            return str(self.last["error"]).removeprefix("Skipped: ")
        failed = self._failed
        return str(failed[0]["error"] if failed else self.last["error"])

    @property
    def failing(self) -> str:
        """The text of the step that failed; "" where it was none of them."""
        failed = self._failed
        return str(failed[0]["text"]) if failed else ""

    @property
    def _failed(self) -> list[dict[str, Any]]:
        return [step for step in self.last["steps"] if step["status"] != "passed"]

    @property
    def steps(self) -> list[Step]:
        """All steps in order, with those that were not reached."""
        done = [
            Step(
                step["keyword"],
                step["text"],
                step["status"],
                step["seconds"],
                step["error"],
                tuple(Command(**command) for command in step["commands"]),
            )
            for step in self.last["steps"]
        ]
        rest = [line.partition(" ") for line in self.last["planned"][len(done) :]]
        return [*done, *(Step(keyword, text, "not run", 0.0, "", ()) for keyword, _, text in rest)]


@dataclass
class Scenario:
    """One row of the matrix."""

    name: str
    file: str
    line: int
    rule: str
    example: str
    tags: tuple[str, ...]
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The name, with the example of an outline."""
        return f"{self.name} [{self.example}]" if self.example else self.name


@dataclass
class Section:
    """One feature, which is one section of the workshop."""

    name: str
    file: str
    scenarios: list[Scenario] = field(default_factory=list)


@dataclass
class Report:
    """All of it."""

    title: str
    started: str
    configurations: dict[str, dict[str, str]]
    sections: list[Section]
    unneeded: list[Waiver] = field(default_factory=list)
    """Waivers of what has not failed."""
    changes: list[Change] = field(default_factory=list)
    """Against an earlier run, if one was given."""

    @property
    def engines(self) -> list[str]:
        """In the order of the runs."""
        return list(self.configurations)

    def outcomes(self, engine: str | None = None) -> Iterable[Outcome]:
        """All, or those of one engine."""
        for section in self.sections:
            for scenario in section.scenarios:
                for name, outcome in scenario.outcomes.items():
                    if engine in (None, name):
                        yield outcome

    def count(self, verdict: Verdict, engine: str | None = None) -> int:
        """How many scenarios have this verdict."""
        return sum(outcome.verdict is verdict for outcome in self.outcomes(engine))

    @property
    def holds(self) -> bool:
        """Whether there was something to judge, and all of it holds."""
        verdicts = [outcome.verdict for outcome in self.outcomes()]
        return bool(verdicts) and all(verdict.holds for verdict in verdicts)


@dataclass(frozen=True)
class Change:
    """A scenario whose verdict is another than in the earlier run; "" where it was not there."""

    scenario: str
    engine: str
    before: str
    now: str


def read(paths: Iterable[str]) -> list[dict[str, Any]]:
    """The runs in files of results, in order. Raises BadResults naming the file."""
    runs: list[dict[str, Any]] = []
    for path in paths:
        try:
            document = json.loads(Path(path).read_text(encoding="utf-8"))
            if document["version"] != VERSION:
                raise BadResults(f"{path}: found results of version {document['version']}, expected {VERSION}")
            _verify(document["runs"], path, "runs")
            runs += document["runs"]
        except OSError as error:
            raise BadResults(f"{path}: {error.strerror}", hint="`specrun test` writes results.json") from error
        except (ValueError, KeyError, TypeError) as error:
            raise BadResults(f"{path} is no document of results", hint="`specrun test` writes results.json") from error
    if not runs:
        raise BadResults("there are no runs in the results", hint="`specrun test` makes some")
    return runs


_NUMBER = (int, float)
_COMMAND = {"line": str, "status": (int, type(None)), "output": str, "errors": str, "seconds": _NUMBER}
_STEP = {"keyword": str, "text": str, "status": str, "error": str, "seconds": _NUMBER, "commands": list}
_SCENARIO = {
    "feature": str, "file": str, "scenario": str, "rule": str, "example": str, "line": int, "tags": list,
    "status": str, "error": str, "seconds": _NUMBER, "steps": list, "planned": list,
}  # fmt: skip
_RUN = {"engine": str, "started": str, "configuration": dict, "scenarios": list}
_PARTS: dict[str, dict[str, Any]] = {"runs": _RUN, "scenarios": _SCENARIO, "steps": _STEP, "commands": _COMMAND}
"""What the entries of each list have."""


def _verify(entries: Any, path: str, where: str) -> None:
    """Refuse what a torn or edited file has in the place of runs, with its place."""
    fields = _PARTS[where.rpartition(".")[2]]
    for index, entry in enumerate(entries):
        place = f"{where}[{index}]"
        for name, kind in fields.items():
            if not isinstance(entry, dict) or not isinstance(entry.get(name), kind):
                raise BadResults(f"{path}: {place}.{name} is missing, or not what `specrun test` writes")
            if name in _PARTS:
                _verify(entry[name], path, f"{place}.{name}")


_SHORT_ERROR = 200


def shortened(runs: list[dict[str, Any]], length: int) -> list[dict[str, Any]]:
    """The same runs with at most `length` characters of what each command has printed, for a small report.

    With 0, steps that passed have no evidence.
    """

    def cut(text: str, most: int = length) -> str:
        return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)\n"

    def step(found: dict[str, Any]) -> dict[str, Any]:
        kept = found["commands"] if length or found["status"] != "passed" else []
        commands = [{**one, "output": cut(one["output"]), "errors": cut(one["errors"])} for one in kept]
        return {**found, "commands": commands, "error": cut(found["error"], max(length, _SHORT_ERROR))}

    return [
        {**run, "scenarios": [{**one, "steps": list(map(step, one["steps"]))} for one in run["scenarios"]]}
        for run in runs
    ]


def build(runs: list[dict[str, Any]], waivers: Iterable[Waiver] = (), *, title: str = "Conformance report") -> Report:
    """The report of `runs`; runs on one engine are attempts at the same scenarios."""
    configurations: dict[str, dict[str, str]] = {}
    rows: dict[tuple[str, str, str], Scenario] = {}
    names: dict[str, str] = {}
    for run in runs:
        engine = run["engine"]
        configurations.setdefault(engine, run["configuration"])
        for attempt in run["scenarios"]:
            names[attempt["file"]] = attempt["feature"]
            key = (attempt["file"], attempt["scenario"], attempt["example"])
            row = rows.setdefault(
                key,
                Scenario(
                    attempt["scenario"], attempt["file"], attempt["line"], attempt["rule"], attempt["example"],
                    tuple(attempt["tags"]),
                ),
            )  # fmt: skip
            row.outcomes.setdefault(engine, Outcome([])).attempts.append(attempt)
    started = min(run["started"] for run in runs)
    unneeded = _apply(list(waivers), rows.values(), started[:10])
    sections = [Section(names[file], file) for file in sorted(names)]
    by_file = {section.file: section for section in sections}
    for row in sorted(rows.values(), key=lambda row: (row.file, row.line, row.example)):
        by_file[row.file].scenarios.append(row)
    return Report(title, started, configurations, sections, unneeded)


def compare(report: Report, earlier: Report) -> list[Change]:
    """What is another verdict now, what is new and what is gone."""
    before, now = _verdicts(earlier), _verdicts(report)
    keys = sorted({*before, *now})
    return [
        Change(scenario, engine, before.get((scenario, engine), ""), now.get((scenario, engine), ""))
        for scenario, engine in keys
        if before.get((scenario, engine)) != now.get((scenario, engine))
    ]


def _verdicts(report: Report) -> dict[tuple[str, str], str]:
    return {
        (f"{section.name}: {scenario.title}", engine): outcome.verdict.value
        for section in report.sections
        for scenario in section.scenarios
        for engine, outcome in scenario.outcomes.items()
    }


def _apply(waivers: list[Waiver], rows: Iterable[Scenario], day: str) -> list[Waiver]:
    """Give each failure its waiver; gives those that are about what was run here and that nothing needed."""
    about: set[Waiver] = set()
    needed: set[Waiver] = set()
    for row in rows:
        for engine, outcome in row.outcomes.items():
            covering = [waiver for waiver in waivers if waiver.covers(row.file, row.title, engine)]
            about.update(covering)
            if outcome.verdict is Verdict.FAILED:
                for waiver in [waiver for waiver in covering if waiver.excuses(outcome.failing)][:1]:
                    outcome.waiver, outcome.expired = waiver, waiver.expires < day
                    needed.add(waiver)
    return [waiver for waiver in waivers if waiver in about - needed]
