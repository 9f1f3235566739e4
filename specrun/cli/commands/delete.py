"""`specrun delete`: remove what the specs' project has made."""

from __future__ import annotations

from typing import Any

from specrun.cli.commands.specs import call_of, command, guarded, specs_of
from specrun.cli.context import Context
from specrun.cli.options import Parsed
from specrun.reconcile import project
from specrun.reconcile.apply import default_parallel, delete
from specrun.reconcile.kinds.base import View

COMMAND = command(
    "delete",
    "Remove everything that apply has made of these specs.",
    ["delete specs/workshop/02-where-is-my-container.yaml"],
)


def run(arguments: list[str], context: Context) -> int:
    """Remove all objects of the project."""

    def action(options: Parsed, quiet: bool) -> tuple[int, dict[str, Any]]:
        specs = specs_of(call_of(options))
        root = context.root()
        lines: list[str] = []

        def news(line: str) -> None:
            lines.append(line)
            if not quiet:
                context.out(f"{line}\n")

        with project.locked(root, specs.project):
            record = project.load(root, specs.project)
            count = delete(View(root, specs, record), record, news, default_parallel())
        if not quiet:
            context.out(f"{count} deleted.\n")
        return 0, {"project": specs.project, "deleted": count, "news": lines}

    return guarded(COMMAND, arguments, context, action)
