"""`specrun pull`: an image from its registry."""

from __future__ import annotations

from specrun.cli.options import Command, Option, Parsed
from specrun.errors import SpecrunError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.cli.context import Context
    from specrun.oci.reference import Reference

TLS_VERIFY = Option("--tls-verify", "value", "Verify certificates; false allows plain HTTP too (default true)", "bool")
CONTENT_TRUST = Option("--disable-content-trust", "flag", "Skip image verification (always true: there is none)")
COMMAND = Command(
    "pull",
    "[OPTIONS] NAME[:TAG|@DIGEST]",
    "Pull an image from a registry.",
    [
        Option("-a --all-tags", "flag", "Pull all tags of the repository"),
        Option("--platform", "value", "The platform to choose from an index, as linux/amd64"),
        Option("-q --quiet", "flag", "Suppress verbose output"),
        CONTENT_TRUST,
        TLS_VERIFY,
    ],
    examples=["pull 127.0.0.1:5000/hello:v7", "pull --platform linux/arm64 registry.example.com/hello"],
)


def run(arguments: list[str], context: Context) -> int:
    """Pull, with Docker's lines."""
    from specrun.oci import platform
    from specrun.oci.reference import Reference

    options = COMMAND.parse(arguments)
    COMMAND.require(options, 1, 1)
    wanted_platform = platform.parse(options.platform) if options.platform else ""
    verify = verified(options.tls_verify)
    require_no_trust(options)
    reference = Reference.parse(options.arguments[0])
    wanted = [reference]
    if options.all_tags:
        wanted = every_tag(reference, verify)
    for one in wanted:
        fetch(one, context, verify=verify, platform=wanted_platform, quiet=options.quiet)
    context.out(f"{reference.name if options.all_tags else reference.canonical}\n")
    return 0


def require_no_trust(options: Parsed) -> None:
    """Raises UsageError where signatures are to be verified."""
    if "disable_content_trust" in options.given and not options.disable_content_trust:
        raise UsageError(
            "--disable-content-trust=false: signatures of Docker Content Trust cannot be verified",
            hint="name the digest of what you trust: NAME@sha256:...",
        )


def every_tag(reference: Reference, verify: bool) -> list[Reference]:
    """All tags that the registry has of a repository. Raises SpecrunError when one is named already."""
    from specrun.oci.reference import Reference
    from specrun.registry.listing import tags

    require_no_tag(reference)
    return [Reference.parse(f"{reference.name}:{tag}") for tag in tags(reference, verify=verify)]


def require_no_tag(reference: Reference) -> None:
    """Raises SpecrunError where one is named, though all are wanted."""
    if reference.text not in (reference.name, reference.familiar_name):
        raise SpecrunError("tag can't be used with --all-tags/-a")


def fetch(
    reference: Reference, context: Context, *, verify: bool = True, platform: str = "", quiet: bool = False,
    descriptor: int = 1,
) -> None:  # fmt: skip
    """Pull what `reference` stands for, and say how it goes on standard output, or on another `descriptor`."""
    from specrun.cli.progress import Progress
    from specrun.registry.pull import pull
    from specrun.store.images import ImageStore

    def say(text: str) -> None:
        if not quiet:
            context.write(descriptor, text.encode())

    reference = reference.pinned
    say(f"{reference.tag or reference.digest}: Pulling from {reference.path}\n")
    with Progress(say, descriptor) as progress:
        found = pull(context.root(), reference, verify=verify, platform=platform, news=progress.news)
    ImageStore(context.root()).collect()
    status = "Downloaded newer image" if found.new else "Image is up to date"
    say(f"Digest: {found.digest}\nStatus: {status} for {reference.familiar}\n")


def verified(text: str) -> bool:
    """The value of --tls-verify. Raises UsageError."""
    if text not in ("", "true", "false", "1", "0"):
        raise UsageError(f"--tls-verify {text}: expected true or false")
    return text not in ("false", "0")
