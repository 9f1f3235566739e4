"""`specrun drift`: what somebody has changed behind our back."""

from __future__ import annotations

import json
from typing import Any

from specrun.cli.commands.specs import asked, call_of, command, guarded, name_of, specs_of
from specrun.cli.context import Context
from specrun.cli.options import Parsed
from specrun.paths import peek_root
from specrun.reconcile import settled
from specrun.reconcile.changes import Change, Choice

COMMAND = command(
    "drift",
    "Show what is not as it was applied: field, wanted, found and where that was read. Exits with 2 for drift.",
    ["drift specs/workshop/02-where-is-my-container.yaml"],
)


def run(arguments: list[str], context: Context) -> int:
    """Exit with 0 for none, 2 for drift, 1 for an error; writes nothing."""

    def action(options: Parsed, quiet: bool) -> tuple[int, dict[str, Any]]:
        call = call_of(options)
        root = peek_root(context.root_path)
        if settled.recall(root, name_of(call), asked(call, Choice())):
            if not quiet:
                context.out(_text([], 0))
            return 0, {"project": name_of(call), "drift": [], "not_applied": 0}
        from specrun.reconcile.session import look

        session = look(root, specs_of(call))
        drifted = [change for change in session.plan.changes if change.drifted]
        rows = [row for change in drifted for row in _rows(change)]
        other = sum(not change.drifted for change in session.plan.needed)
        if not quiet:
            context.out(_text(rows, other))
        return (2 if drifted else 0), {"project": session.specs.project, "drift": rows, "not_applied": other}

    return guarded(COMMAND, arguments, context, action)


def _rows(change: Change) -> list[dict[str, Any]]:
    """A line for each field, or one for the whole object."""
    remedy = f"{change.action.word}: {change.reason}"
    if not change.differences:
        return [{"object": change.key, "field": "", "wanted": None, "found": None, "source": "", "remedy": remedy}]
    return [
        {
            "object": change.key,
            "field": one.dotted,
            "wanted": one.new,
            "found": one.old,
            "source": one.source,
            "remedy": remedy,
        }
        for one in change.differences
    ]


def _text(rows: list[dict[str, Any]], other: int) -> str:
    lines = []
    for row in rows:
        if row["field"]:
            lines.append(
                f"{row['object']}  {row['field']}: wanted {_value(row['wanted'])}, found {_value(row['found'])}"
            )
            lines.append(f"    in {row['source']}")
        else:
            lines.append(f"{row['object']}  {row['remedy'].partition(': ')[2]}")
    count = len({row["object"] for row in rows})
    lines.append(
        f"{count} object{'s have' if count != 1 else ' has'} drifted; `specrun apply` mends that."
        if rows
        else "no drift: everything that was applied is as it was."
    )
    if other:
        lines.append(
            f"{other} more object{'s differ' if other != 1 else ' differs'} from the specs: see `specrun plan`."
        )
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    return "none" if value is None else json.dumps(value, ensure_ascii=False)
