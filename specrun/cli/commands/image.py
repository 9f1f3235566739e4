"""`specrun image assemble`: a base image from this host's signed packages."""

from __future__ import annotations

import argparse

from specrun.errors import SpecrunError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.cli.context import Context

RECIPES = {"busybox": ["busybox"]}
"""Names that need no list of packages."""


def run(arguments: list[str], context: Context) -> int:
    """Assemble an image and print its id."""
    parser = argparse.ArgumentParser(
        prog="specrun image assemble",
        description="Assemble an image from this host's signed Debian packages.",
        epilog="example: specrun image assemble busybox",
    )
    parser.add_argument("name", help="the reference of the new image, for example busybox")
    parser.add_argument("--packages", default="", help="the packages, separated by commas (busybox has its own)")
    parser.add_argument("--tag", "-t", action="append", default=[], help="one more reference; may be repeated")
    parser.add_argument("--suite", default="", help="refuse to use packages of another release")
    options = parser.parse_args(arguments)
    packages = [name for name in options.packages.split(",") if name] or RECIPES.get(options.name.split(":")[0], [])
    if not packages:
        raise SpecrunError(f"which packages make {options.name}?", hint="name them with --packages a,b")
    from specrun.store.assemble import assemble_image

    image = assemble_image(context.root(), packages, tags=[options.name, *options.tag], suite=options.suite)
    context.out(f"{image.id}\n")
    return 0
