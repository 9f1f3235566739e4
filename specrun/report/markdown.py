"""A report as Markdown: for a terminal, a pull request, a wiki."""

from __future__ import annotations

from specrun.report.model import Outcome, Report, Verdict

SIGNS = {
    Verdict.PASSED: "✓",
    Verdict.FLAKY: "≈",
    Verdict.WAIVED: "w",
    Verdict.SKIPPED: "–",
    Verdict.EXPIRED: "✗ expired",
    Verdict.FAILED: "✗",
}


def render(report: Report) -> str:
    """The whole document."""
    parts = [f"# {report.title}", "", _summary(report), "", *_configuration(report), *_matrix(report)]
    parts += _failures(report) + _notes(report) + _changes(report)
    return "\n".join(parts).rstrip() + "\n"


def _summary(report: Report) -> str:
    words = "All of it holds" if report.holds else "**Not all of it holds**"
    counts = [f"{report.count(verdict)} {verdict.value}" for verdict in Verdict if report.count(verdict)]
    return f"{words}: {', '.join(counts) or 'no scenario was run'}. Run on {report.started}."


def _configuration(report: Report) -> list[str]:
    keys = list(dict.fromkeys(key for values in report.configurations.values() for key in values))
    head = ["| configuration | " + " | ".join(report.engines) + " |", "| --- |" + " --- |" * len(report.engines)]
    values = report.configurations.values()
    rows = [f"| {key} | " + " | ".join(_cell(value.get(key, "")) for value in values) + " |" for key in keys]
    totals = [
        f"| {verdict.value} | " + " | ".join(str(report.count(verdict, engine)) for engine in report.engines) + " |"
        for verdict in Verdict
        if report.count(verdict)
    ]
    return [*head, *rows, *totals, ""]


def _matrix(report: Report) -> list[str]:
    lines = ["## Scenarios", ""]
    for section in report.sections:
        lines += [f"### {section.name}", "", f"`{section.file}`", ""]
        lines += ["| scenario | " + " | ".join(report.engines) + " |", "| --- |" + " --- |" * len(report.engines)]
        for scenario in section.scenarios:
            cells = []
            for engine in report.engines:
                outcome = scenario.outcomes.get(engine)
                cells.append(SIGNS[outcome.verdict] if outcome else "")
            lines.append(f"| {_cell(scenario.title)} | " + " | ".join(cells) + " |")
        lines.append("")
    return lines


def _failures(report: Report) -> list[str]:
    lines: list[str] = []
    for section in report.sections:
        for scenario in section.scenarios:
            for engine, outcome in scenario.outcomes.items():
                if not outcome.verdict.holds:
                    lines += [f"### {section.name}: {scenario.title} ({engine})", "", *_block(outcome), ""]
    return ["## What failed", "", *lines] if lines else []


def _block(outcome: Outcome) -> list[str]:
    lines = ["```"]
    for step in outcome.steps:
        mark = {"passed": "  ", "failed": "> ", "undefined": "> "}.get(step.status, "  ")
        suffix = "" if step.status in ("passed", "failed") else f"  ({step.status})"
        lines.append(f"{mark}{step.keyword} {step.text}{suffix}")
        lines += [f"    {row}" for row in step.error.splitlines()]
    if not any(step.error for step in outcome.steps):
        lines += [f"    {row}" for row in outcome.reason.splitlines()[-20:]]
    return [*lines, "```"]


def _notes(report: Report) -> list[str]:
    waived, skipped = [], []
    for section in report.sections:
        for scenario in section.scenarios:
            for engine, outcome in scenario.outcomes.items():
                name = f"{section.name}: {scenario.title} ({engine})"
                if outcome.waiver and outcome.verdict in (Verdict.WAIVED, Verdict.EXPIRED):
                    waiver = outcome.waiver
                    waived.append(f"- {name}: {waiver.reason}. {waiver.owner}, until {waiver.expires}.")
                elif outcome.verdict is Verdict.SKIPPED:
                    skipped.append(f"- {name}: {outcome.reason}")
    lines = ["## Waived", "", *waived, ""] if waived else []
    return lines + (["## Skipped", "", *skipped, ""] if skipped else [])


def _changes(report: Report) -> list[str]:
    if not report.changes:
        return []
    rows = [
        f"| {_cell(row.scenario)} | {row.engine} | {row.before or 'not there'} | {row.now or 'not there'} |"
        for row in report.changes
    ]
    return [
        "## Against the earlier run",
        "",
        "| scenario | engine | before | now |",
        "| --- | --- | --- | --- |",
        *rows,
    ]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
