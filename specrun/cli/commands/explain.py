"""`specrun explain`: what a kind is, and what a field of it means."""

from __future__ import annotations

from specrun.cli.context import Context
from specrun.cli.options import Command

COMMAND = Command(
    "explain",
    "KIND[.FIELD ...]",
    "Print the documentation of a kind or of one of its fields.",
    [],
    examples=["explain Container", "explain container.healthcheck.interval"],
)


def run(arguments: list[str], context: Context) -> int:
    """Print the documentation."""
    options = COMMAND.parse(arguments)
    COMMAND.require(options, 1, 1)
    from specrun.spec.schema import explain

    context.out(explain(options.arguments[0]))
    return 0
