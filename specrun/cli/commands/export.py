"""`specrun export`: a container's file system as a tar archive."""

from __future__ import annotations

import os

from specrun.cli.options import Command, Option
from specrun.errors import SpecrunError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.cli.context import Context

COMMAND = Command(
    "export",
    "[OPTIONS] CONTAINER",
    "Write a container's file system, without its volumes, as a tar archive.",
    [Option("-o --output", "value", "Write to a file instead of stdout")],
    examples=["export simple1 -o simple1.tar", "export simple1 | tar t"],
)


def run(arguments: list[str], context: Context) -> int:
    """Write the archive."""
    from specrun.engine.rootfs import view
    from specrun.store.packing import Packer

    options = COMMAND.parse(arguments)
    COMMAND.require(options, 1, 1)
    if not options.output and os.isatty(1):
        raise UsageError("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    engine = context.engine()
    engine.mend()
    container = engine.get(options.arguments[0])
    with view(engine, container) as root:
        parts = Packer(f"/proc/self/fd/{root.number}/.")
        if not options.output:
            for part in parts:
                context.write(1, part)
        else:
            _write(options.output, parts)
    engine.tell(container, "export")
    return 0


def _write(path: str, parts: object) -> None:
    """Into a file that appears when it is complete."""
    from specrun_runtime.fds import write_all

    draft = f"{path}.{os.urandom(6).hex()}.draft"
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SpecrunError(f"failed to export container: {path}: {error.strerror}") from error
    try:
        try:
            for part in parts:  # type: ignore[attr-defined]
                write_all(descriptor, part)
        finally:
            os.close(descriptor)
        os.rename(draft, path)
    except BaseException:
        os.unlink(draft)
        raise
