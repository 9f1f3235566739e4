"""`specrun restart`: containers are stopped and started."""

from __future__ import annotations

from specrun.cli.commands.each import for_each
from specrun.cli.commands.stop import STOP_OPTIONS
from specrun.cli.options import Command
from specrun.cli.starting import cannot_start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.cli.context import Context

COMMAND = Command(
    "restart",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Restart one or more containers.",
    STOP_OPTIONS,
    examples=["restart simple1"],
)


def run(arguments: list[str], context: Context) -> int:
    """Restart the containers."""
    from specrun.engine import control
    from specrun.engine.signals import signal_number
    from specrun_runtime.errors import StartFailed

    options = COMMAND.parse(arguments)
    COMMAND.require(options, 1)
    engine = context.engine()
    engine.mend()
    number = signal_number(options.signal) if options.signal else 0

    def restart(name: str) -> str:
        container = engine.get(name)
        try:
            control.restart(engine, container, options.timeout, number)
        except StartFailed as failure:
            raise cannot_start(failure) from failure
        return name

    return for_each(options.arguments, context, restart)
