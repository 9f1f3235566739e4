"""`specrun plan`: what apply would do, and why. Writes nothing at all."""

from __future__ import annotations

from typing import Any

from specrun.cli.commands.specs import command, guarded
from specrun.cli.context import Context
from specrun.cli.options import Parsed
from specrun.paths import peek_root
from specrun.reconcile import project, render
from specrun.reconcile.observe import observe
from specrun.reconcile.plan import plan
from specrun.spec.loader import load

COMMAND = command(
    "plan",
    "Show what apply would change, and why. Exits with 0 for no change, 2 for changes, 1 for an error.",
    ["plan specs/workshop/01-hello-world.yaml"],
)


def run(arguments: list[str], context: Context) -> int:
    """Exit with 0 for no change, 2 for changes, 1 for an error."""

    def action(options: Parsed, as_json: bool) -> tuple[int, dict[str, Any]]:
        specs = load(options.arguments, options.project)
        root = peek_root(context.root_path)
        made = plan(specs, observe(root), project.load(root, specs.project))
        if not as_json:
            context.out(render.text(made, colour=render.use_colour(1)))
        return (2 if made.needed else 0), render.document(made)

    return guarded(COMMAND, arguments, context, action)
