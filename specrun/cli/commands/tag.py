"""`specrun tag`: one more name for an image."""

from __future__ import annotations

from specrun.cli.options import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.cli.context import Context

COMMAND = Command(
    "tag",
    "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE.",
    [],
    examples=["tag hello:v7 hello:latest", "tag hello:v7 127.0.0.1:5000/hello:v7"],
)


def run(arguments: list[str], context: Context) -> int:
    """Let the second name stand for the image of the first."""
    from specrun import events
    from specrun.errors import UsageError
    from specrun.oci.reference import Reference
    from specrun.store.images import ImageStore

    options = COMMAND.parse(arguments)
    COMMAND.require(options, 2, 2)
    source, target = options.arguments
    reference = Reference.parse(target)
    if reference.digest:
        error = UsageError("refusing to create a tag with a digest reference", hint=f"name a tag, as {source}:v1")
        error.exit_status = 1
        raise error
    store = ImageStore(context.root())
    with store.adding():
        image = store.resolve(source)
        store.take(image, reference)
    events.emit(context.root(), "image", "tag", image.id, {"name": reference.familiar})
    return 0
