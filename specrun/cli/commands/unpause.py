"""`specrun unpause`: the processes of paused containers go on."""

from __future__ import annotations

from specrun.cli.commands.each import for_each
from specrun.cli.options import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.cli.context import Context

COMMAND = Command(
    "unpause",
    "CONTAINER [CONTAINER...]",
    "Unpause all processes within one or more containers.",
    [],
    examples=["unpause simple1"],
)


def run(arguments: list[str], context: Context) -> int:
    """Let the containers go on."""
    from specrun.engine import control

    options = COMMAND.parse(arguments)
    COMMAND.require(options, 1)
    engine = context.existing()
    engine.mend()

    def resume(name: str) -> str:
        control.resume(engine, engine.get(name))
        return name

    return for_each(options.arguments, context, resume)
