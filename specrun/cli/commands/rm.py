"""`specrun rm`: containers go."""

from __future__ import annotations

from specrun.cli.commands.each import for_each
from specrun.cli.options import Command, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.cli.context import Context

COMMAND = Command(
    "rm",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Remove one or more containers.",
    [
        Option("-f --force", "flag", "Remove a running container, by SIGKILL"),
        Option("-v --volumes", "flag", "Remove the anonymous volumes of the container too"),
    ],
    examples=["rm my_container_name_or_id", "rm -f simple1"],
    unsupported="-l --link",
)


def run(arguments: list[str], context: Context) -> int:
    """Remove the containers."""
    from specrun.errors import NotFound

    options = COMMAND.parse(arguments)
    COMMAND.require(options, 1)
    engine = context.existing()
    engine.mend()

    def remove(name: str) -> str:
        try:
            engine.remove(engine.get(name), force=options.force, volumes=options.volumes)
        except NotFound:
            if not options.force:
                raise
        return name

    return for_each(options.arguments, context, remove)
