"""Plans as people read them, and as programs do."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from specrun.reconcile.changes import Action, Change, Plan

if TYPE_CHECKING:
    from specrun.reconcile.policy import Finding

_COLOURS = {Action.CREATE: "32", Action.UPDATE: "33", Action.REPLACE: "35", Action.DELETE: "31", Action.KEEP: "2"}


def use_colour(descriptor: int) -> bool:
    """On a terminal, unless NO_COLOR is set."""
    return os.isatty(descriptor) and not os.environ.get("NO_COLOR")


def text(plan: Plan, *, colour: bool = False) -> str:
    """The plan, a line for each object with its differences below, and the sum."""
    width = max((len(change.key) for change in plan.changes), default=0)
    lines = [line for change in plan.changes for line in _lines(change, width, colour)]
    return "\n".join([*lines, summary(plan)]) + "\n"


def _lines(change: Change, width: int, colour: bool) -> list[str]:
    head = f"{change.action.value} {change.key.ljust(width)}   {change.action.word.ljust(8)} {change.reason}".rstrip()
    lines = [f"\033[{_COLOURS[change.action]}m{head}\033[0m" if colour else head]
    for one in change.differences:
        place = change.places.get(one.dotted)
        notes = [str(place)] if place else []
        if one.source and one.source != "content":
            notes.append(f"found in {one.source}")
        where = f"   ({'; '.join(notes)})" if notes else ""
        lines.append(f"    {one.dotted}: {_value(one.old)} -> {_value(one.new)}{where}")
    return lines


def _value(value: Any) -> str:
    if value is None:
        return "(nothing)"
    if isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef"):
        return value[:12]  # a digest
    return json.dumps(value, ensure_ascii=False)


def policy(findings: list[Finding]) -> str:
    """What the policy has to say, a line for each finding."""
    if not findings:
        return ""
    waived = sum(bool(one.waived) for one in findings)
    count = len(findings)
    head = f"policy: {count} finding{'s' if count != 1 else ''}, {waived} waived"
    return "\n".join([head, *(f"  {one.line()}" for one in findings)]) + "\n"


def summary(plan: Plan) -> str:
    """The closing line."""
    if not plan.needed:
        count = len(plan.changes)
        return f"nothing to change: {count} object{'s are' if count != 1 else ' is'} as the specs say."
    counts = [f"{plan.count(action)} {action.word}" for action in Action]
    return f"{len(plan.needed)} to change: {', '.join(counts)}."


def document(plan: Plan) -> dict[str, Any]:
    """The plan for `--output json`."""
    return {
        "project": plan.project,
        "changes": [
            {
                "action": change.action.word,
                "object": change.key,
                "reason": change.reason,
                "drifted": change.drifted,
                "differences": [
                    {
                        "operation": one.operation,
                        "field": one.dotted,
                        "old": one.old,
                        "new": one.new,
                        "source": one.source,
                        "place": str(change.places.get(one.dotted, "")),
                    }
                    for one in change.differences
                ],
            }
            for change in plan.changes
        ],
        "summary": {action.word: plan.count(action) for action in Action},
    }
