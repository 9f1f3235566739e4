"""`specrun restart`: containers are stopped and started."""

from __future__ import annotations

from specrun.cli.commands.each import for_each
from specrun.cli.options import Command, Option
from specrun.cli.starting import cannot_start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.cli.context import Context

COMMAND = Command(
    "restart",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Restart one or more containers.",
    [Option("-t --time", "number", "Seconds to wait before the container is killed (default 10)")],
    examples=["restart simple1"],
)


def run(arguments: list[str], context: Context) -> int:
    """Restart the containers."""
    from specrun.engine import control
    from specrun_runtime.errors import StartFailed

    options = COMMAND.parse(arguments)
    COMMAND.require(options, 1)
    engine = context.engine()
    engine.mend()

    def restart(name: str) -> str:
        container = engine.get(name)
        timeout = options.time if options.time is not None else container.config.get("StopTimeout", 10)
        try:
            control.restart(engine, container, float(timeout))
        except StartFailed as failure:
            raise cannot_start(failure) from failure
        return name

    return for_each(options.arguments, context, restart)
