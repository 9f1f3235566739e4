"""`specrun pause`: all processes of containers stand still."""

from __future__ import annotations

from specrun.cli.commands.each import for_each
from specrun.cli.options import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.cli.context import Context

COMMAND = Command(
    "pause",
    "CONTAINER [CONTAINER...]",
    "Pause all processes within one or more containers.",
    [],
    examples=["pause simple1"],
)


def run(arguments: list[str], context: Context) -> int:
    """Freeze the containers."""
    from specrun.engine import control

    options = COMMAND.parse(arguments)
    COMMAND.require(options, 1)
    engine = context.existing()
    engine.mend()

    def pause(name: str) -> str:
        control.pause(engine, engine.get(name))
        return name

    return for_each(options.arguments, context, pause)
