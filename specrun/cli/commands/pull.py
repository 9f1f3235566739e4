"""`specrun pull`: an image from its registry."""

from __future__ import annotations

from specrun.cli.options import Command, Option
from specrun.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from specrun.cli.context import Context
    from specrun.oci.reference import Reference

TLS_VERIFY = Option("--tls-verify", "value", "Verify certificates; false allows plain HTTP too (default true)", "bool")
COMMAND = Command(
    "pull",
    "[OPTIONS] NAME[:TAG|@DIGEST]",
    "Pull an image from a registry.",
    [
        Option("--platform", "value", "The platform to choose from an index, as linux/amd64"),
        Option("-q --quiet", "flag", "Suppress verbose output"),
        TLS_VERIFY,
    ],
    examples=["pull 127.0.0.1:5000/hello:v7"],
    unsupported="-a --all-tags --disable-content-trust",
)


def run(arguments: list[str], context: Context) -> int:
    """Pull, with Docker's lines."""
    from specrun.oci.reference import Reference

    options = COMMAND.parse(arguments)
    COMMAND.require(options, 1, 1)
    reference = Reference.parse(options.arguments[0])
    fetch(reference, context, verify=verified(options.tls_verify), platform=options.platform, quiet=options.quiet)
    context.out(f"{reference.canonical}\n")
    return 0


def fetch(
    reference: Reference, context: Context, *, verify: bool = True, platform: str = "", quiet: bool = False,
    write: Callable[[str], None] | None = None,
) -> None:  # fmt: skip
    """Pull what `reference` stands for, and say how it goes."""
    from specrun.registry.pull import pull

    say = (lambda text: None) if quiet else write or context.out
    say(f"{reference.tag or reference.digest}: Pulling from {reference.path}\n")

    def news(layer: str, what: str) -> None:
        say(f"{layer}: {what}\n")

    found = pull(context.root(), reference, verify=verify, platform=platform, news=news)
    engine = context.engine()
    engine.images.collect()
    status = "Downloaded newer image" if found.new else "Image is up to date"
    say(f"Digest: {found.digest}\nStatus: {status} for {reference.familiar}\n")


def verified(text: str) -> bool:
    """The value of --tls-verify. Raises UsageError."""
    if text not in ("", "true", "false", "1", "0"):
        raise UsageError(f"--tls-verify {text}: expected true or false")
    return text not in ("false", "0")
