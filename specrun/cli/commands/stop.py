"""`specrun stop`: the stop signal, and SIGKILL for who does not listen."""

from __future__ import annotations

from specrun.cli.commands.each import for_each
from specrun.cli.options import Command, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.cli.context import Context

STOP_OPTIONS = [
    Option("-s --signal", "value", "Signal to send to the container instead of its own"),
    Option("-t --time --timeout", "number", "Seconds to wait before the container is killed (default 10; -1: forever)"),
]
COMMAND = Command(
    "stop",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Stop one or more running containers.",
    STOP_OPTIONS,
    examples=["stop simple1"],
)


def run(arguments: list[str], context: Context) -> int:
    """Stop the containers."""
    from specrun.engine.signals import signal_number

    options = COMMAND.parse(arguments)
    COMMAND.require(options, 1)
    engine = context.existing()
    engine.mend()
    number = signal_number(options.signal) if options.signal else 0

    def stop(name: str) -> str:
        container = engine.get(name)
        engine.stop(container, options.timeout, number)
        return name

    return for_each(options.arguments, context, stop)
