"""`specrun port`: where a container's ports are published."""

from __future__ import annotations

from specrun.cli.options import Command
from specrun.errors import SpecrunError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.cli.context import Context

COMMAND = Command(
    "port",
    "CONTAINER [PRIVATE_PORT[/PROTO]]",
    "List the published ports of a container, or where one of them is published.",
    [],
    examples=["port simple1", "port simple1 5000/tcp"],
)


def run(arguments: list[str], context: Context) -> int:
    """Print them."""
    from specrun.engine import networking

    options = COMMAND.parse(arguments)
    COMMAND.require(options, 1, 2)
    engine = context.existing()
    engine.mend()
    container = engine.get(options.arguments[0])
    lines = networking.published(container.directory)
    if len(options.arguments) == 1:
        context.out("".join(f"{port} -> {where}\n" for port, where in lines))
        return 0
    wanted = options.arguments[1]
    key = wanted if "/" in wanted else f"{wanted}/tcp"
    found = [where for port, where in lines if port == key]
    if not found:
        raise SpecrunError(f"No public port '{wanted}' published for {options.arguments[0]}")
    context.out("".join(f"{where}\n" for where in found))
    return 0
