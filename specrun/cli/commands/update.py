"""`specrun update`: other limits for containers, at once where they run."""

from __future__ import annotations

from specrun.cli.commands.each import for_each
from specrun.cli.commands.limits import RESOURCE_OPTIONS, RESTART, resources_of
from specrun.cli.options import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.cli.context import Context

COMMAND = Command(
    "update",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Update the limits and the restart policy of one or more containers.",
    [*RESOURCE_OPTIONS, RESTART],
    examples=["update --memory 128m --memory-swap 256m simple1", "update --restart unless-stopped simple1"],
    unsupported="--cpu-rt-period --cpu-rt-runtime --kernel-memory",
)


def run(arguments: list[str], context: Context) -> int:
    """Update the containers."""
    from specrun.engine import control

    options = COMMAND.parse(arguments)
    COMMAND.require(options, 1)
    changes = resources_of(options).host_config()
    if not options.memory_swap:
        changes.pop("MemorySwap", None)
    if not changes and not options.restart:
        error = COMMAND.wrong("You must provide one or more flags when using this command.")
        error.exit_status = 1
        raise error
    engine = context.existing()
    engine.mend()

    def update(name: str) -> str:
        control.update(engine, engine.get(name), changes, options.restart)
        return name

    return for_each(options.arguments, context, update)
