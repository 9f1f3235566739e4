"""`specrun create`: a container that is not started yet."""

from __future__ import annotations

from specrun.cli.commands import run as running
from specrun.cli.options import Command
from specrun.errors import SpecrunError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.cli.context import Context

COMMAND = Command(
    "create",
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Create a container from an image without starting it.",
    running.OPTIONS,
    examples=["create --name later busybox echo hello"],
    interspersed=False,
    unsupported=running.UNSUPPORTED,
)


def run(arguments: list[str], context: Context) -> int:
    """Create a container and print its id."""
    options = COMMAND.parse(arguments)
    COMMAND.require(options, 1)
    request = running.request_of(options)
    request.auto_remove = options.rm
    running.prepare_cidfile(options.cidfile)
    engine = context.engine()
    try:
        container = running.with_image(request.image, options, context, lambda: engine.create(request))
    except SpecrunError as error:
        error.exit_status = 1  # Docker tells by this that the options themselves were well formed
        raise
    running.write_cidfile(options.cidfile, container.id)
    context.out(f"{container.id}\n")
    return 0
