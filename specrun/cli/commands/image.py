"""`specrun image assemble`: a base image from this host's signed packages; `image verify`: is the store sound?"""

from __future__ import annotations

import argparse

from specrun.cli.options import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.cli.context import Context


def run(arguments: list[str], context: Context) -> int:
    """Assemble an image and print its id."""
    parser = argparse.ArgumentParser(
        prog="specrun image assemble",
        description="Assemble an image from this host's signed Debian packages.",
        epilog="example: specrun image assemble python:3",
    )
    parser.add_argument("name", help="the reference of the new image, for example busybox")
    parser.add_argument(
        "--packages",
        default="",
        help="the packages, separated by commas, of an image without a recipe",
    )
    parser.add_argument("--tag", "-t", action="append", default=[], help="one more reference; may be repeated")
    parser.add_argument("--suite", default="", help="refuse to use packages of another release")
    options = parser.parse_args(arguments)
    packages = [name for name in options.packages.split(",") if name]
    from specrun.oci.reference import Reference
    from specrun.store.assemble import assemble_image, assemble_known

    tags = [options.name, *options.tag]
    if packages:
        image = assemble_image(context.root(), packages, tags=tags, suite=options.suite)
    else:
        known = Reference.parse(options.name).familiar_name
        image = assemble_known(context.root(), known, tags=tags, suite=options.suite)
    context.out(f"{image.id}\n")
    return 0


VERIFY = Command(
    "image verify",
    "",
    "Read every blob of the store, and say which is not what its digest says.",
    [],
    examples=["image verify"],
)


def verify(arguments: list[str], context: Context) -> int:
    """Print what is wrong, a line each; 1 when anything is."""
    from specrun.store.images import ImageStore

    VERIFY.require(VERIFY.parse(arguments), 0, 0)
    problems = ImageStore(context.root()).verify()
    context.out("".join(f"{problem}\n" for problem in problems))
    return 1 if problems else 0
