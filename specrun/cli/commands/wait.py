"""`specrun wait`: until containers end."""

from __future__ import annotations

from specrun.cli.commands.each import for_each
from specrun.cli.options import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.cli.context import Context

COMMAND = Command(
    "wait",
    "CONTAINER [CONTAINER...]",
    "Block until one or more containers end, then print their exit status.",
    [],
    examples=["wait simple1"],
)


def run(arguments: list[str], context: Context) -> int:
    """Wait for the containers."""
    options = COMMAND.parse(arguments)
    COMMAND.require(options, 1)
    engine = context.existing()
    engine.mend()
    return for_each(options.arguments, context, lambda name: str(engine.wait(engine.get(name))))
