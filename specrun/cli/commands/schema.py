"""`specrun schema`: the JSON Schema of specs, for editors and other checkers."""

from __future__ import annotations

import json

from specrun.cli.context import Context
from specrun.cli.options import Command

COMMAND = Command(
    "schema",
    "[KIND]",
    "Print the JSON Schema of specs, of all kinds or of one.",
    [],
    examples=["schema > specrun.schema.json", "schema Container"],
)


def run(arguments: list[str], context: Context) -> int:
    """Print the schema."""
    options = COMMAND.parse(arguments)
    COMMAND.require(options, 0, 1)
    from specrun.spec.schema import schema

    context.out(json.dumps(schema(*options.arguments), indent=2) + "\n")
    return 0
