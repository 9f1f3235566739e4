"""`specrun history`: the steps that made an image."""

from __future__ import annotations

from specrun.cli import output
from specrun.cli.options import Command, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from specrun.cli.context import Context
    from specrun.store.images import Image, ImageStore

COMMAND = Command(
    "history",
    "[OPTIONS] IMAGE",
    "Show the history of an image.",
    [
        Option("--format", "value", "table, json or a Go template"),
        Option("-H --human", "flag", "Print sizes and dates in human readable format (default true)"),
        Option("--no-trunc", "flag", "Don't truncate output"),
        Option("-q --quiet", "flag", "Only show image ids"),
    ],
    examples=["history hello:v7", "history --format '{{.CreatedBy}}' hello:v7"],
)
_WIDTH = 45


def run(arguments: list[str], context: Context) -> int:
    """List the steps, the newest first."""
    from specrun.store.images import ImageStore

    human = not any(word in ("--human=false", "-H=false", "--human=0") for word in arguments)
    options = COMMAND.parse(arguments)
    COMMAND.require(options, 1, 1)
    store = ImageStore(context.root())
    image = store.resolve(options.arguments[0])
    rows = _rows(store, image, whole=options.no_trunc, human=human)
    if options.quiet:
        context.out("".join(f"{row['ID']}\n" for row in rows))
        return 0
    fields = [("IMAGE", "ID"), ("CREATED", "CreatedSince"), ("CREATED BY", "CreatedBy"), ("SIZE", "Size")]
    if not human:
        fields[1] = ("CREATED AT", "CreatedAt")
    context.out(output.listing(rows, [*fields, ("COMMENT", "Comment")], options.format))
    return 0


def _rows(store: ImageStore, image: Image, *, whole: bool, human: bool) -> list[dict[str, Any]]:
    """A row for each entry of the history; the layers' sizes and the ids of images that are here beside them."""
    store.lower_directories(image)  # what is not unpacked has no size yet
    sizes = [layer.content_size for layer in store.layers(image)]
    ids = _ids(store, image)
    rows = []
    entries = image.config.get("history") or [{"empty_layer": False} for _ in sizes]
    taken = 0
    for number, entry in enumerate(entries):
        size = 0
        if not entry.get("empty_layer") and taken < len(sizes):
            size = sizes[taken]
            taken += 1
        created = output.parse_time(entry.get("created") or "")
        by = (entry.get("created_by") or "").replace("\t", " ")
        identity = image.id if number == len(entries) - 1 else ids.get(number + 1, "<missing>")
        rows.append(
            {
                "ID": identity if whole or identity == "<missing>" else identity[7:19],
                "CreatedSince": (output.ago(created) if created else "N/A") if human else _moment(created),
                "CreatedAt": _moment(created),
                "CreatedBy": by if whole or len(by) <= _WIDTH else by[: _WIDTH - 1] + "…",
                "Size": output.size(size) if human else str(size),
                "Comment": entry.get("comment") or "",
            }
        )
    return rows[::-1]


def _moment(created: float) -> str:
    import time

    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(created))


def _ids(store: ImageStore, image: Image) -> dict[int, str]:
    """The ids of the images that this one was made from, by the number of entries of their history."""
    found: dict[int, str] = {}
    known = {other.id: other for other in store.all()}
    parent = known.get(image.parent)
    while parent and parent.id not in found.values():
        found[len(parent.config.get("history") or [])] = parent.id
        parent = known.get(parent.parent)
    return found
