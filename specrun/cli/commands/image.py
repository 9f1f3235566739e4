"""`specrun image assemble`: a base image from this host's signed packages; `image verify`: is the store sound?"""

from __future__ import annotations

from specrun.cli.options import Command, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.cli.context import Context


ASSEMBLE = Command(
    "image assemble",
    "[OPTIONS] NAME[:TAG]",
    "Assemble an image from this host's signed Debian packages.",
    [
        Option("--packages", "value", "The packages, separated by commas, of an image without a recipe"),
        Option("--suite", "value", "Refuse to use packages of another release"),
        Option("-t --tag", "list", "One more name; may be repeated"),
    ],
    examples=["image assemble python:3", "image assemble tools --packages busybox,curl"],
)


def assemble(arguments: list[str], context: Context) -> int:
    """Assemble an image and print its id."""
    options = ASSEMBLE.parse(arguments)
    ASSEMBLE.require(options, 1, 1)
    packages = [name for name in options.packages.split(",") if name]
    from specrun.oci.reference import Reference
    from specrun.store.assemble import assemble_image, assemble_known

    (name,) = options.arguments
    tags = [name, *options.tag]
    if packages:
        image = assemble_image(context.root(), packages, tags=tags, suite=options.suite)
    else:
        known = Reference.parse(name).familiar_name
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
