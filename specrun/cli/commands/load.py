"""`specrun load`: images from a file that `save` of specrun, Docker, podman or skopeo has written."""

from __future__ import annotations

import os

from specrun.cli.options import Command, Option
from specrun.errors import SpecrunError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from specrun.cli.context import Context

COMMAND = Command(
    "load",
    "[OPTIONS]",
    "Load images from a tar archive, plain or compressed, in Docker's form or OCI's (standard input by default).",
    [
        Option("-i --input", "value", "Read from a file, instead of standard input"),
        Option("-q --quiet", "flag", "Suppress the load output"),
    ],
    examples=["load -i hello.tar", "load < busybox.tar"],
)


def run(arguments: list[str], context: Context) -> int:
    """Load them, and say their names."""
    from specrun import events
    from specrun.store.archives import load
    from specrun.store.images import ImageStore

    options = COMMAND.parse(arguments)
    COMMAND.require(options, 0, 0)
    if not options.input and os.isatty(0):
        raise SpecrunError("requested load from stdin, but stdin is empty", hint="use -i, or a pipe")
    news = context.err if os.isatty(2) and not options.quiet else (lambda text: None)
    for image, references in load(ImageStore(context.root()), _chunks(options.input), lambda text: news(f"{text}\n")):
        events.emit(context.root(), "image", "load", image.id, {"name": image.id})
        lines = [f"Loaded image: {reference.familiar}\n" for reference in references]
        context.out("".join(lines) or f"Loaded image ID: {image.id}\n")
    return 0


def _chunks(path: str) -> Iterator[bytes]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC) if path else os.dup(0)
    except OSError as error:
        raise SpecrunError(f"open {path}: {(error.strerror or '').lower()}") from error
    try:
        while data := os.read(descriptor, 1 << 20):
            yield data
    except IsADirectoryError as error:
        raise SpecrunError(f"{path} is a folder, not an archive") from error
    finally:
        os.close(descriptor)
