"""`specrun save`: images as one file."""

from __future__ import annotations

import os
import sys

from specrun.cli.options import Command, Option
from specrun.errors import SpecrunError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.cli.context import Context
    from specrun.oci.reference import Reference
    from specrun.store.images import Image, ImageStore

COMMAND = Command(
    "save",
    "[OPTIONS] IMAGE [IMAGE...]",
    "Save one or more images to a tar archive, which Docker, podman and OCI tools load (standard output by default).",
    [Option("-o --output", "value", "Write to a file, instead of standard output")],
    examples=["save -o hello.tar hello:v1 hello:v2", "save busybox | ssh other specrun load"],
)


def run(arguments: list[str], context: Context) -> int:
    """Write the archive."""
    from specrun.store.images import ImageStore

    options = COMMAND.parse(arguments)
    COMMAND.require(options, 1)
    if not options.output and os.isatty(1):
        raise SpecrunError("cowardly refusing to save to a terminal", hint="use the -o flag or redirect")
    store = ImageStore(context.root())
    with store.adding():  # nothing is freed while we read
        wanted = _wanted(store, options.arguments)
        if options.output:
            _write_file(store, wanted, options.output)
        else:
            sys.stdout.flush()
            _write(store, wanted, 1)
    return 0


def _wanted(store: ImageStore, names: list[str]) -> list[tuple[Image, list[Reference]]]:
    """The images, each once. A name without a tag means all tags of that repository, as Docker has it."""
    from specrun.oci.reference import Reference

    found: dict[str, tuple[Image, list[Reference]]] = {}
    for name in names:
        if store.is_id(name):
            image = store.resolve(name)
            found.setdefault(image.id, (image, []))
            continue
        reference = Reference.parse(name)
        bare = not reference.digest and not name.endswith(f":{reference.tag}")
        known = [
            (image, Reference.parse(text))
            for image in (store.all() if bare else [store.resolve(name)])
            for text in image.references
        ]
        fitting = [
            (image, one) for image, one in known if one.name == reference.name and (bare or one.tag == reference.tag)
        ]
        if not fitting:
            image = store.resolve(name)
            found.setdefault(image.id, (image, []))
        for image, one in fitting:
            names_of = found.setdefault(image.id, (image, []))[1]
            if all(other.canonical != one.canonical for other in names_of):
                names_of.append(one)
    return list(found.values())


def _write_file(store: ImageStore, wanted: list[tuple[Image, list[Reference]]], path: str) -> None:
    """The file appears whole, or as it was before; a device or a pipe is written to."""
    if os.path.exists(path) and not os.path.isfile(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            _write(store, wanted, descriptor)
        finally:
            os.close(descriptor)
        return
    draft = f"{path}.{os.urandom(4).hex()}.draft"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        _write(store, wanted, descriptor)
        os.rename(draft, path)
    except BaseException:
        os.unlink(draft)
        raise
    finally:
        os.close(descriptor)


def _write(store: ImageStore, wanted: list[tuple[Image, list[Reference]]], descriptor: int) -> None:
    from specrun.store.archives import save
    from specrun_runtime.fds import write_all

    for part in save(store, wanted):
        write_all(descriptor, part)
