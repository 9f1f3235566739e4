"""`specrun cp`: files between a container and the host."""

from __future__ import annotations

import os

from specrun.cli.options import Command, Option
from specrun.errors import NotFound, SpecrunError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from specrun.cli.context import Context
    from specrun.engine.container import Container
    from specrun.engine.containers import Engine

COMMAND = Command(
    "cp",
    "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n        specrun cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
    "Copy files between a container and the host. `-` is a tar archive on stdin or stdout.",
    [
        Option("-a --archive", "flag", "Keep the owners of what is copied out"),
        Option("-L --follow-link", "flag", "Follow a symbolic link at the end of SRC_PATH"),
        Option("-q --quiet", "flag", "Print no warnings"),
    ],
    examples=["cp simple1:/etc/hosts .", "cp page.html simple1:/srv/", "cp simple1:/srv - | tar t"],
)


def run(arguments: list[str], context: Context) -> int:
    """Copy one way or the other."""
    options = COMMAND.parse(arguments)
    COMMAND.require(options, 2, 2)
    source_container, source = split(options.arguments[0])
    target_container, target = split(options.arguments[1])
    if source_container and target_container:
        raise SpecrunError("copying between containers is not supported", hint="pipe one `cp ... -` into another")
    if not source_container and not target_container:
        raise SpecrunError("must specify at least one container source", hint="as in CONTAINER:PATH")
    if not (source if source_container else target):
        raise SpecrunError("bad parameter: path cannot be empty")
    engine = context.engine()
    engine.mend()
    source = _clean(source) if source_container and source else source
    target = _clean(target) if target_container and target else target
    name, path = (source_container, source) if source_container else (target_container, target)
    try:
        container = engine.get(name)
    except NotFound as error:
        raise NotFound(f"No such container:path: {name}:{path}") from error
    if source_container:
        warnings = _out(engine, container, name, source, target, options.follow_link, options.archive, context)
    else:
        warnings = _in(engine, container, name, source, target, options.follow_link)
    if not options.quiet:
        context.err("".join(f"warning: {warning}\n" for warning in warnings))
    return 0


def split(text: str) -> tuple[str, str]:
    """`CONTAINER:PATH`, or a path of the host's: one that begins with `/` or `.`, or has no colon."""
    if text.startswith(("/", ".")) or ":" not in text:
        return "", text
    name, _, path = text.partition(":")
    return name, path


def _out(
    engine: Engine, container: Container, name: str, source: str, target: str, follow: bool, archive: bool,
    context: Context,
) -> list[str]:  # fmt: skip
    from specrun.engine import copying
    from specrun.engine.rootfs import within

    def work(root: int) -> list[str]:
        try:
            if target == "-":
                for part in copying.archive(root, source, follow=follow):
                    context.write(1, part)
                return []
            host = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            owner = None if archive else (os.geteuid(), os.getegid())
            return copying.copy(root, source, host, _absolute(target), follow=follow, owner=owner)
        except copying.NoPath as error:
            if error.message == source or error.message.startswith("/"):
                raise NotFound(f"No such container:path: {name}:{error.message}") from error
            raise

    return within(engine, container, work)


def _in(
    engine: Engine, container: Container, name: str, source: str, target: str, follow: bool
) -> list[str]:  # fmt: skip
    from specrun.engine import copying
    from specrun.engine.rootfs import within
    from specrun.store.compression import decompress

    if source != "-" and not os.path.lexists(source):
        raise SpecrunError(f"lstat {_absolute(source).rstrip('/')}: no such file or directory")
    if container.host_config.get("ReadonlyRootfs") and not _mount_at(container, target):
        raise SpecrunError("container rootfs is marked read-only")

    def work(root: int) -> list[str]:
        try:
            if source == "-":
                copying.unpack(decompress(_stdin()), root, target, f"{name}:{target}")
                return []
            host = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            return copying.copy(host, _absolute(source), root, target, follow=follow)
        except copying.NoPath as error:
            if error.message.startswith("invalid output path"):
                folder = os.path.dirname(target.rstrip("/"))
                raise NotFound(f"No such container:path: {name}:{folder}") from error
            raise
        except OSError as error:
            if error.errno == 30:
                what = "mounted volume" if _mount_at(container, target) else "container rootfs"
                raise SpecrunError(f"{what} is marked read-only") from error
            raise

    return within(engine, container, work)


def _clean(path: str) -> str:
    """A path in a container, by its text, with the slash or dot at its end that says what is meant."""
    from posixpath import normpath

    end = "/." if path.endswith("/.") or path == "." else "/" if path.endswith("/") else ""
    return normpath("/" + path.lstrip("/")).rstrip("/") + end or "/"


def _mount_at(container: Container, path: str) -> bool:
    """Whether a mount of the user's is at `path` or above it."""
    full = "/" + path.strip("/") + "/"
    return any(full.startswith(mount["Destination"].rstrip("/") + "/") for mount in container.record.mounts)


def _absolute(path: str) -> str:
    """Against this process's folder, with the slash or dot at its end that says what is meant."""
    if path.startswith("/"):
        return path
    return f"{os.getcwd()}/{path}"


def _stdin() -> Iterator[bytes]:
    while data := os.read(0, 1 << 20):
        yield data
