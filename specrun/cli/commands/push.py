"""`specrun push`: an image to the registry that its name begins with."""

from __future__ import annotations

from specrun.cli.commands.pull import TLS_VERIFY, verified
from specrun.cli.options import Command, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.cli.context import Context

COMMAND = Command(
    "push",
    "[OPTIONS] NAME[:TAG]",
    "Push an image to a registry.",
    [Option("-q --quiet", "flag", "Suppress verbose output"), TLS_VERIFY],
    examples=["tag hello:v7 127.0.0.1:5000/hello:v7", "push 127.0.0.1:5000/hello:v7"],
    unsupported="-a --all-tags --disable-content-trust",
)


def run(arguments: list[str], context: Context) -> int:
    """Push, with Docker's lines."""
    from specrun.oci.reference import Reference
    from specrun.registry.push import push
    from specrun.store.images import ImageNotFound

    options = COMMAND.parse(arguments)
    COMMAND.require(options, 1, 1)
    reference = Reference.parse(options.arguments[0])
    try:
        context.engine().images.resolve(reference.canonical)
    except ImageNotFound as error:
        raise ImageNotFound(f"An image does not exist locally with the tag: {reference.familiar_name}") from error
    if not options.quiet:
        context.out(f"The push refers to repository [{reference.name}]\n")

    def news(layer: str, what: str) -> None:
        if not options.quiet:
            context.out(f"{layer}: {what}\n")

    digest, size = push(context.root(), reference, verify=verified(options.tls_verify), news=news)
    if options.quiet:
        context.out(f"{reference.canonical}\n")
    else:
        context.out(f"{reference.tag}: digest: {digest} size: {size}\n")
    return 0
