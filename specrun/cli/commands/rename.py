"""`specrun rename`: a container gets another name."""

from __future__ import annotations

from specrun.cli.options import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.cli.context import Context

COMMAND = Command("rename", "CONTAINER NEW_NAME", "Rename a container.", [], examples=["rename simple1 web"])


def run(arguments: list[str], context: Context) -> int:
    """Rename the container; nothing is printed."""
    from specrun.engine import control

    options = COMMAND.parse(arguments)
    COMMAND.require(options, 2, 2)
    engine = context.existing()
    engine.mend()
    before, after = options.arguments
    control.rename(engine, engine.get(before), after.removeprefix("/"))
    return 0
