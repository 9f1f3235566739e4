"""Plans in files: what was planned, and all that it was planned from, so that a stale one is refused by name.

The specs themselves are read again when the plan is applied; no secret is in the file, and only its owner reads it.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from specrun.errors import Conflict, SpecrunError
from specrun.files import write_atomic
from specrun.reconcile import render
from specrun.reconcile.diff import differences

if TYPE_CHECKING:
    from specrun.reconcile.session import Session

FORMAT = "specrun-plan/1"


class StalePlan(Conflict):
    """Something is not as it was when the plan was made."""

    code = "stale-plan"


def save(path: str, session: Session, call: dict[str, Any]) -> None:
    """Write the plan. `call` is what the specs were read by: paths, options. Raises SpecrunError."""
    if "-" in call["paths"]:
        raise SpecrunError(
            "a plan of standard input cannot be saved", hint="apply reads the specs again: put them into a file"
        )
    document = {
        "format": FORMAT,
        "call": {**call, "folder": os.getcwd(), "project": session.specs.project},
        "salt": session.record.salt,
        "basis": _basis(session),
        "plan": render.document(session.plan),
    }
    try:
        write_atomic(os.path.abspath(path), json.dumps(document, indent=1).encode())
    except OSError as error:
        raise SpecrunError(f"the plan cannot be written to {path}: {error.strerror}") from error


def is_saved(path: str) -> bool:
    """Whether a file is a plan and not a spec."""
    try:
        with open(path, "rb") as file:
            return FORMAT.encode() in file.read(200)
    except OSError:
        return False


def load(path: str) -> dict[str, Any]:
    """The saved document. Raises SpecrunError for a damaged one."""
    try:
        with open(path, "rb") as file:
            document: dict[str, Any] = json.load(file)
        if document["format"] == FORMAT and {"call", "salt", "basis", "plan"} <= document.keys():
            return document
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    raise SpecrunError(f"{path} is not a plan that `specrun plan -o` has written", hint="make the plan again")


def require_fresh(document: dict[str, Any], session: Session) -> None:
    """Raises StalePlan that names every object and field that is not as it was."""
    before, now = document["basis"], _basis(session)
    changed = []
    for key in sorted({*before, *now}):
        for one in differences(before.get(key, {}), now.get(key, {})):
            changed.append(f"{key}: {one.dotted} was {_short(one.old)} and is {_short(one.new)}")
    if changed:
        listed = "".join(f"\n    {line}" for line in changed[:20])
        more = f"\n    and {len(changed) - 20} more" if len(changed) > 20 else ""
        raise StalePlan(f"the plan is stale; since it was made:{listed}{more}", hint="make the plan again")


def _basis(session: Session) -> dict[str, Any]:
    """All that the plan depends on, by object, as JSON has it."""
    observed = session.observed
    basis: dict[str, Any] = {}
    for key, resource in session.specs.resources.items():
        basis.setdefault(key, {})["spec"] = resource.values
    for key, found in observed.objects.items():
        state = {
            "id": found.id,
            "state": found.state,
            "facts": {name: fact.value for name, fact in found.facts.items()},
        }
        basis.setdefault(key, {})["found"] = state
    for key, inputs in observed.inputs.items():
        basis.setdefault(key, {})["content"] = inputs
    for key, entry in session.record.entries.items():
        basis.setdefault(key, {})["record"] = asdict(entry)
    for change in session.plan.changes:
        basis.setdefault(change.key, {})["action"] = change.action.word
    known: dict[str, Any] = json.loads(json.dumps(basis))
    return known


def _short(value: Any) -> str:
    text = "absent" if value is None else json.dumps(value)
    return text if len(text) < 60 else f"{text[:57]}..."
