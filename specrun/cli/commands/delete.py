"""`specrun delete`: remove what the specs' project has made."""

from __future__ import annotations

from typing import Any

from specrun.cli.commands.specs import command, guarded
from specrun.cli.context import Context
from specrun.cli.options import Parsed
from specrun.reconcile import project
from specrun.reconcile.apply import delete
from specrun.spec.loader import load

COMMAND = command("delete", "Remove everything that apply has made of these specs.", ["delete specs/workshop"])


def run(arguments: list[str], context: Context) -> int:
    """Remove containers, jobs and images of the project."""

    def action(options: Parsed, as_json: bool) -> tuple[int, dict[str, Any]]:
        specs = load(options.arguments, options.project)
        root = context.root()
        lines: list[str] = []
        with project.exclusive(root, specs.project):
            count = delete(root, project.load(root, specs.project), lines.append)
        if not as_json:
            context.out("".join(f"{line}\n" for line in lines) + f"{count} deleted.\n")
        return 0, {"project": specs.project, "deleted": count, "news": lines}

    return guarded(COMMAND, arguments, context, action)
