"""`specrun validate`: are these specs right in themselves?"""

from __future__ import annotations

from typing import Any

from specrun.cli.commands.specs import call_of, command, guarded, specs_of
from specrun.cli.context import Context
from specrun.cli.options import Parsed
from specrun.reconcile.graph import graph
from specrun.reconcile.kinds import check_supported

COMMAND = command(
    "validate", "Check specs without doing or changing anything.", ["validate specs/workshop/01-hello-world.yaml"]
)


def run(arguments: list[str], context: Context) -> int:
    """Exit with 0 when all is right, 1 when not."""

    def action(options: Parsed, quiet: bool) -> tuple[int, dict[str, Any]]:
        specs = specs_of(call_of(options))
        check_supported(specs)
        keys = [resource.key for resource in graph(specs).order]
        if not quiet:
            context.out(f"{len(keys)} object{'s' if len(keys) != 1 else ''}, all valid: {', '.join(keys)}\n")
        return 0, {"project": specs.project, "objects": keys, "errors": []}

    return guarded(COMMAND, arguments, context, action)
