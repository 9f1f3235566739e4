"""A report as one HTML file that needs nothing else: no network, no script to be read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from specrun.errors import SpecrunError
from specrun.report.model import Report, Verdict

if TYPE_CHECKING:
    from jinja2 import Template

_WORDS = {
    Verdict.PASSED: ("✓", "passed"),
    Verdict.FLAKY: ("≈", "flaky"),
    Verdict.WAIVED: ("◇", "waived"),
    Verdict.SKIPPED: ("–", "skipped"),
    Verdict.EXPIRED: ("✗", "waiver expired"),
    Verdict.FAILED: ("✗", "failed"),
}


def render(report: Report) -> str:
    """The document."""
    keys = list(dict.fromkeys(key for values in report.configurations.values() for key in values))
    return _template().render(report=report, keys=keys, verdicts=list(Verdict), words=_WORDS)


def _template() -> Template:
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError as error:
        raise SpecrunError(
            "HTML reports need Jinja2, which is not installed", hint="pip install 'specrun[bdd]'"
        ) from error
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html.j2")
