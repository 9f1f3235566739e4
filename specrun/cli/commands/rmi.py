"""`specrun rmi`: names of images go, and images with their last name."""

from __future__ import annotations

from specrun.cli.options import Command, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.cli.context import Context

COMMAND = Command(
    "rmi",
    "[OPTIONS] IMAGE [IMAGE...]",
    "Remove one or more images.",
    [
        Option("-f --force", "flag", "Remove it although stopped containers use it, or it has several names"),
        Option("--no-prune", "flag", "Do not remove untagged parents"),
    ],
    examples=["rmi hello:v1", "rmi -f 50928f386c70"],
)


def run(arguments: list[str], context: Context) -> int:
    """Remove the images; go on when one can't be removed."""
    from specrun.cli.main import describe
    from specrun.engine.removal import remove_image
    from specrun.errors import NotFound, SpecrunError

    options = COMMAND.parse(arguments)
    COMMAND.require(options, 1)
    engine = context.engine()
    engine.mend()
    status = 0
    for name in options.arguments:
        try:
            removed = remove_image(engine, name, force=options.force, prune=not options.no_prune)
            context.out("".join(f"{line}\n" for line in removed.lines))
        except SpecrunError as error:
            context.err(describe(error) + "\n")
            if not (options.force and isinstance(error, NotFound)):
                status = 1
    return status
