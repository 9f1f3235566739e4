"""`specrun status`: what the specs' objects are doing."""

from __future__ import annotations

from typing import Any

from specrun.cli.commands.specs import command, guarded
from specrun.cli.context import Context
from specrun.cli.options import Parsed
from specrun.oci.reference import Reference
from specrun.paths import peek_root
from specrun.reconcile import project
from specrun.reconcile.observe import Observed, observe
from specrun.reconcile.project import Project
from specrun.spec.loader import Resource, load
from specrun.spec.models import ImageSpec

COMMAND = command("status", "Show what the objects of these specs are doing.", ["status specs/workshop"])


def run(arguments: list[str], context: Context) -> int:
    """Print a table; writes nothing."""

    def action(options: Parsed, as_json: bool) -> tuple[int, dict[str, Any]]:
        specs = load(options.arguments, options.project)
        root = peek_root(context.root_path)
        record, observed = project.load(root, specs.project), observe(root)
        rows = [_row(resource, record, observed) for resource in specs.resources.values()]
        if not as_json:
            from tabulate import tabulate

            context.out(tabulate(rows, headers="keys", tablefmt="plain") + "\n")
        return 0, {"project": specs.project, "objects": rows}

    return guarded(COMMAND, arguments, context, action)


def _row(resource: Resource, record: Project, observed: Observed) -> dict[str, str]:
    state, detail = "absent", ""
    if isinstance(resource.spec, ImageSpec):
        found = [observed.images.get(Reference.parse(tag).canonical) for tag in resource.spec.tags]
        if all(found):
            state, detail = "present", ", ".join(dict.fromkeys(image.id[7:19] for image in found if image))
    elif container := observed.containers.get(resource.metadata.name):
        entry = record.entries.get(resource.key)
        state, detail = container.status, container.id[:12]
        if entry is None or entry.token != container.token:
            state, detail = "absent", f"{container.id[:12]} has the name, and is not of this project"
        elif container.status == "exited":
            state = "completed" if container.exit_code == 0 else f"failed ({container.exit_code})"
    return {"kind": resource.kind, "name": resource.metadata.name, "state": state, "detail": detail}
