"""`specrun diff`: what a container has changed in the files of its image."""

from __future__ import annotations

from specrun.cli.options import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.cli.context import Context

COMMAND = Command(
    "diff",
    "CONTAINER",
    "Show what was added (A), changed (C) and deleted (D) in a container's file system.",
    [],
    examples=["diff simple1"],
)


def run(arguments: list[str], context: Context) -> int:
    """Print a line for each change."""
    from specrun.engine.changes import changes
    from specrun.engine.rootfs import layers_of
    from specrun_runtime import mounts

    options = COMMAND.parse(arguments)
    COMMAND.require(options, 1, 1)
    engine = context.engine()
    engine.mend()
    container = engine.get(options.arguments[0])
    with mounts.new_view(layers_of(engine, container)) as below:
        lines = [f"{kind} {path}\n" for kind, path in changes(f"{container.directory}/upper", below.number)]
    context.out("".join(lines))
    return 0
