"""`specrun kill`: a signal to the first process of running containers."""

from __future__ import annotations

from specrun.cli.commands.each import for_each
from specrun.cli.options import Command, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.cli.context import Context

COMMAND = Command(
    "kill",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Send a signal to one or more running containers.",
    [Option("-s --signal", "value", "The signal (default SIGKILL)")],
    examples=["kill -s HUP simple1"],
)


def run(arguments: list[str], context: Context) -> int:
    """Send the signal; after SIGKILL, wait for the end as Docker does, up to ten seconds."""
    from specrun.engine.signals import signal_number

    options = COMMAND.parse(arguments)
    COMMAND.require(options, 1)
    number = signal_number(options.signal or "SIGKILL")
    engine = context.existing()
    engine.mend()

    def kill(name: str) -> str:
        container = engine.get(name)
        engine.kill(container, number)
        if number == 9:
            engine.ends_within(container, 10.0)
        return name

    return for_each(options.arguments, context, kill)
