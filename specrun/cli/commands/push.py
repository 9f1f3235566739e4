"""`specrun push`: an image to the registry that its name begins with."""

from __future__ import annotations

from specrun.cli.commands.pull import CONTENT_TRUST, TLS_VERIFY, require_no_tag, require_no_trust, verified
from specrun.cli.options import Command, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.cli.context import Context
    from specrun.oci.reference import Reference

COMMAND = Command(
    "push",
    "[OPTIONS] NAME[:TAG]",
    "Push an image to a registry.",
    [
        Option("-a --all-tags", "flag", "Push all tags of the repository that are here"),
        Option("-q --quiet", "flag", "Suppress verbose output"),
        CONTENT_TRUST,
        TLS_VERIFY,
    ],
    examples=["tag hello:v7 127.0.0.1:5000/hello:v7", "push 127.0.0.1:5000/hello:v7"],
)


def run(arguments: list[str], context: Context) -> int:
    """Push, with Docker's lines."""
    from specrun.oci.reference import Reference
    from specrun.store.images import ImageNotFound, ImageStore

    options = COMMAND.parse(arguments)
    COMMAND.require(options, 1, 1)
    verify = verified(options.tls_verify)
    require_no_trust(options)
    reference = Reference.parse(options.arguments[0])
    images = ImageStore(context.root())
    if options.all_tags:
        require_no_tag(reference)
        named = [Reference.parse(text) for image in images.all() for text in image.references]
        wanted = sorted((one for one in named if one.name == reference.name and one.tag), key=lambda one: one.tag)
    else:
        try:
            images.resolve(reference.canonical)
        except ImageNotFound:
            wanted = []
        else:
            wanted = [reference]
    if not wanted:
        raise ImageNotFound(f"An image does not exist locally with the tag: {reference.familiar_name}")
    if not options.quiet:
        context.out(f"The push refers to repository [{reference.name}]\n")
    for one in wanted:
        _push(one, context, verify, options.quiet)
    if options.quiet:
        context.out(f"{reference.name if options.all_tags else reference.canonical}\n")
    return 0


def _push(reference: Reference, context: Context, verify: bool, quiet: bool) -> None:
    from specrun.cli.progress import Progress
    from specrun.registry.push import push

    def say(text: str) -> None:
        if not quiet:
            context.out(text)

    with Progress(say, 1) as progress:
        digest, size = push(context.root(), reference, verify=verify, news=progress.news)
    say(f"{reference.tag or reference.digest}: digest: {digest} size: {size}\n")
