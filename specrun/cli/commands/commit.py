"""`specrun commit` and `specrun import`: images from containers and from archives."""

from __future__ import annotations

import os

from specrun.cli.options import Command, Option
from specrun.errors import SpecrunError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from specrun.cli.context import Context
    from specrun.oci.reference import Reference

_CHANGE = Option("-c --change", "list", "Apply an instruction of a Dockerfile: CMD, ENV, USER, ...")
COMMAND = Command(
    "commit",
    "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    "Create a new image from a container's changes.",
    [
        Option("-a --author", "value", 'Author (for example, "John Hannibal Smith <hannibal@a-team.com>")'),
        _CHANGE,
        Option("-m --message", "value", "Commit message"),
        Option("-p --pause", "flag", "Pause the container during the commit (the default; --pause=false does not)"),
    ],
    examples=["commit simple1 mine:1", 'commit -c \'CMD ["cat", "/f"]\' simple1 mine:2'],
)
IMPORT = Command(
    "import",
    "[OPTIONS] FILE|- [REPOSITORY[:TAG]]",
    "Create an image from a tar archive of files.",
    [
        _CHANGE,
        Option("-m --message", "value", "Commit message"),
        Option("--platform", "value", "Platform of the image: OS[/ARCHITECTURE]"),
    ],
    examples=["import rootfs.tar mine:1", "export simple1 | specrun import - copy"],
)


def run(arguments: list[str], context: Context) -> int:
    """Commit a container and print the image's id."""
    from specrun.engine.commit import commit

    options = COMMAND.parse(arguments)
    COMMAND.require(options, 1, 2)
    references = _references(options.arguments[1:])
    engine = context.engine()
    engine.mend()
    container = engine.get(options.arguments[0])
    image = commit(
        engine, container, references, author=options.author, message=options.message, changes=options.change,
        pause=options.pause or "pause" not in options.given,
    )  # fmt: skip
    context.out(f"{image.id}\n")
    return 0


def import_(arguments: list[str], context: Context) -> int:
    """Import an archive and print the image's id."""
    from specrun.engine.commit import import_archive

    options = IMPORT.parse(arguments)
    IMPORT.require(options, 1, 2)
    source = options.arguments[0]
    if source.startswith(("http://", "https://")):
        raise UsageError(f"import from {source} is not supported", hint="fetch it, and import the file or `-`")
    references = _references(options.arguments[1:])
    system, _, machine = (options.platform or "linux").partition("/")
    machine = machine or {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    try:
        descriptor = 0 if source == "-" else os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise SpecrunError(f"open {source}: {(error.strerror or '').lower()}") from error
    image = import_archive(
        context.engine(), _chunks(descriptor), references, message=options.message or f"Imported from {source}",
        changes=options.change, platform={"architecture": machine, "os": system},
    )  # fmt: skip
    context.out(f"{image.id}\n")
    return 0


def _references(words: list[str]) -> list[Reference]:
    from specrun.oci.reference import Reference

    return [Reference.parse(word) for word in words if word]


def _chunks(descriptor: int) -> Iterator[bytes]:
    while data := os.read(descriptor, 1 << 20):
        yield data
