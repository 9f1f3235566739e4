"""The page that lists all steps, made from their table (`./dev docs` writes it)."""

from __future__ import annotations

import specrun.bdd.steps  # noqa: F401 (fills the table)
from specrun.bdd.sentences import TABLE

_HEAD = """# Steps

All sentences that a feature can say; made by `./dev docs`. A place such as `{text}` stands for
anything, `{count:d}` for a number. "And" and "But" repeat the kind of the step before. How to write features is in
[features.md](features.md).
"""
_TITLES = {"given": "Given", "when": "When", "then": "Then"}


def page() -> str:
    """The page."""
    parts = [_HEAD]
    for kind, title in _TITLES.items():
        rows = []
        for sentence in TABLE:
            if sentence.kind == kind:
                about = " ".join((sentence.function.__doc__ or "").split())
                extra = " (with a text block)" if "docstring" in sentence.function.__code__.co_varnames else ""
                rows.append(f"- **{sentence.text}**{extra}" + (f"  \n  {about}" if about else ""))
        parts.append(f"## {title}\n\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)
