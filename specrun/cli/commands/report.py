"""`specrun report`: conformance reports from results that `specrun test` or pytest has written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from specrun.cli.context import Context
from specrun.cli.options import Command, Option, Parsed
from specrun.errors import SpecrunError, UsageError

if TYPE_CHECKING:
    from specrun.report.model import Scenario
    from specrun.report.waivers import Waiver

FORMS = ("html", "md", "junit", "json")

OPTIONS = [
    Option("--earlier", "value", "Results of an earlier run to compare with", "file"),
    Option("--evidence", "number", "Keep at most so many characters of what each command has printed"),
    Option("--form", "list", "html, md, junit or json (default: all of them)", "form"),
    Option("--out", "value", "Folder to write to (default: reports)", "folder"),
    Option("--title", "value", "The report's title", "text"),
    Option("--waivers", "value", "Failures that are known, with reason, owner and expiry (YAML)", "file"),
]
COMMAND = Command(
    "report",
    "[OPTIONS] RESULTS...",
    "Write conformance reports from results. Exits with 1 when something in them does not hold.",
    OPTIONS,
    examples=["report reports/results.json", "report --earlier old.json --out site new.json"],
)


def run(arguments: list[str], context: Context) -> int:
    """Exit with 0 when all holds, 1 when not."""
    from specrun.report.model import read

    options = COMMAND.parse(arguments)
    COMMAND.require(options, 1)
    return publish(read(options.arguments), options, context)


def publish(runs: list[dict[str, Any]], options: Parsed, context: Context) -> int:
    """Build the report of `runs`, write it as the options say, and say how it went."""
    from specrun.report import model
    from specrun.report.write import write

    waivers, folder = known(options)
    runs = runs if options.evidence is None else model.shortened(runs, options.evidence)
    title = {"title": options.title} if options.title else {}
    report = model.build(runs, waivers, **title)
    if options.earlier:
        report.changes = model.compare(report, model.build(model.read([options.earlier]), waivers))
    files = write(folder, report, runs, options.form or list(FORMS))
    for engine in report.engines:
        counts = [f"{count} {verdict.value}" for verdict in model.Verdict if (count := report.count(verdict, engine))]
        context.out(f"{engine}: {', '.join(counts) or 'nothing was run'}\n")
    for section in report.sections:
        for scenario in section.scenarios:
            for engine, outcome in scenario.outcomes.items():
                if not outcome.verdict.holds:
                    context.err(f"{_place(scenario)}  {scenario.title}: {outcome.verdict.value} on {engine}\n")
                    context.err("".join(f"    {line}\n" for line in outcome.reason.splitlines()[:12]))
    for waiver in report.unneeded:
        context.err(f"{waiver.place}: nothing needs this waiver any more\n")
    for file in files:
        context.out(f"wrote {file}\n")
    return 0 if report.holds else 1


def _place(scenario: Scenario) -> str:
    return f"{scenario.file}:{scenario.line}"


def known(options: Parsed) -> tuple[list[Waiver], Path]:
    """The waivers that the options name, and the folder, which is there then. Raises SpecrunError for any mistake."""
    from specrun.report import model, waivers
    from specrun.spec.problems import SpecProblems

    unknown = [form for form in options.form if form not in FORMS]
    if unknown:
        raise UsageError(f"--form {unknown[0]}: expected one of {', '.join(FORMS)}")
    if options.evidence is not None and options.evidence < 0:
        raise UsageError(f"--evidence {options.evidence}: expected 0 or more")
    if options.earlier:
        model.read([options.earlier])
    folder = Path(options.out or "reports")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return waivers.load(options.waivers) if options.waivers else [], folder
    except OSError as error:
        raise SpecrunError(f"--out {folder}: {error.strerror}") from error
    except SpecProblems as error:
        last = error.problems[-1].code
        failure = SpecrunError(f"--waivers: {error.message.removesuffix(f'  [{last}]')}")
        failure.code = last
        raise failure from error
