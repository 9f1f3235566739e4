"""`specrun status`: what the specs' objects are doing."""

from __future__ import annotations

from typing import Any

from specrun.cli.commands.specs import call_of, command, guarded, specs_of
from specrun.cli.context import Context
from specrun.cli.options import Parsed
from specrun.paths import peek_root
from specrun.reconcile import project
from specrun.reconcile.changes import Observed
from specrun.reconcile.observe import observe
from specrun.reconcile.project import Project
from specrun.spec.loader import Resource
from specrun.spec.models import ProcessSpec

COMMAND = command(
    "status", "Show what the objects of these specs are doing.", ["status specs/workshop/02-where-is-my-container.yaml"]
)


def run(arguments: list[str], context: Context) -> int:
    """Print a table; writes nothing."""

    def action(options: Parsed, quiet: bool) -> tuple[int, dict[str, Any]]:
        specs = specs_of(call_of(options))
        root = peek_root(context.root_path)
        record = project.load(root, specs.project)
        observed = observe(root, specs, record)
        rows = [_row(resource, record, observed) for resource in specs.resources.values()]
        if not quiet:
            from tabulate import tabulate

            context.out(tabulate(rows, headers="keys", tablefmt="plain") + "\n")
        return 0, {"project": specs.project, "objects": rows}

    return guarded(COMMAND, arguments, context, action)


def _row(resource: Resource, record: Project, observed: Observed) -> dict[str, str]:
    found = observed.objects.get(resource.key)
    state, detail = "absent", ""
    if found is not None:
        state = found.state
        detail = found.id if "://" in found.id else found.id.removeprefix("sha256:")[:12]
        if isinstance(resource.spec, ProcessSpec):
            entry = record.entries.get(resource.key)
            if entry is None or found.token not in (entry.token, *entry.earlier):
                state, detail = "absent", f"{detail} has the name, and is not of this project"
            elif state == "exited":
                code = found.detail["exit_code"]
                state = "completed" if code == 0 else f"failed ({code})"
            elif health := found.detail.get("health"):
                state = f"{state} ({health})"
    return {"kind": resource.kind, "name": resource.metadata.name, "state": state, "detail": detail}
