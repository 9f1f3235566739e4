"""Writing a report into a folder, in every form."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from specrun.report.model import VERSION, Report


def _html(report: Report) -> str:
    from specrun.report.html import render

    return render(report)


def _markdown(report: Report) -> str:
    from specrun.report.markdown import render

    return render(report)


def _junit(report: Report) -> str:
    from specrun.report.junit import render

    return render(report)


FORMS: dict[str, tuple[str, Callable[[Report], str]]] = {
    "html": ("report.html", _html),
    "md": ("report.md", _markdown),
    "junit": ("junit.xml", _junit),
}
"""Name of a form -> its file, and what renders it."""


def write(folder: Path, report: Report, runs: list[dict[str, Any]], forms: list[str]) -> list[Path]:
    """Write the forms and the results themselves; gives the files."""
    from specrun.files import write_atomic

    folder.mkdir(parents=True, exist_ok=True)
    texts = {FORMS[form][0]: FORMS[form][1](report) for form in forms if form != "json"}
    if "json" in forms:
        texts["results.json"] = json.dumps({"version": VERSION, "runs": runs}, indent=1, sort_keys=True) + "\n"
    for name, text in texts.items():
        write_atomic(str(folder / name), text.encode("utf-8", "replace"), mode=0o644)
    return [folder / name for name in texts]
