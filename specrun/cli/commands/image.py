"""`specrun image assemble`: a base image from this host's signed packages."""

from __future__ import annotations

import argparse

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
