"""`specrun stop`: the stop signal, and SIGKILL for who does not listen."""

from __future__ import annotations

from specrun.cli.commands.each import for_each
from specrun.cli.options import Command, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.cli.context import Context

COMMAND = Command(
    "stop",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Stop one or more running containers.",
    [Option("-t --time", "number", "Seconds to wait before the container is killed (default 10)")],
    examples=["stop simple1"],
)


def run(arguments: list[str], context: Context) -> int:
    """Stop the containers."""
    options = COMMAND.parse(arguments)
    COMMAND.require(options, 1)
    engine = context.existing()
    engine.mend()

    def stop(name: str) -> str:
        container = engine.get(name)
        timeout = options.time if options.time is not None else container.config.get("StopTimeout", 10)
        engine.stop(container, float(timeout))
        return name

    return for_each(options.arguments, context, stop)
