"""`specrun images`: the images of this root."""

from __future__ import annotations

from specrun.cli import output
from specrun.cli.options import Command, Option
from specrun.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from specrun.cli.context import Context
    from specrun.store.images import Image

COMMAND = Command(
    "images",
    "[OPTIONS] [REPOSITORY[:TAG]]",
    "List images.",
    [
        Option("-a --all", "flag", "Show all images"),
        Option("--digests", "flag", "Show digests"),
        Option("-f --filter", "list", "Filter by reference=, label= or dangling=", "filter"),
        Option("--format", "value", "table, json or a Go template"),
        Option("--no-trunc", "flag", "Don't truncate the ids"),
        Option("-q --quiet", "flag", "Only show ids"),
    ],
    examples=["images", "images --format '{{.Repository}}:{{.Tag}} {{.Size}}'"],
)


def run(arguments: list[str], context: Context) -> int:
    """List the images, a row for each reference."""
    from specrun.store.images import ImageStore

    options = COMMAND.parse(arguments)
    COMMAND.require(options, 0, 1)
    rows = [row for image in ImageStore(context.root()).all() for row in _rows(image, options.no_trunc)]
    if options.arguments:
        rows = [row for row in rows if _matches(row, options.arguments[0])]
    for text in options.filter:
        rows = [row for row in rows if _passes(row, text)]
    if options.quiet:
        context.out("".join(f"{identity}\n" for identity in dict.fromkeys(row["ID"] for row in rows)))
        return 0
    fields = [("REPOSITORY", "Repository"), ("TAG", "Tag"), ("DIGEST", "Digest"), ("IMAGE ID", "ID")]
    fields += [("CREATED", "CreatedSince"), ("SIZE", "Size")]
    if not options.digests and not options.format.startswith("{{"):
        fields = [field for field in fields if field[1] != "Digest"]
    for row in rows:
        row.pop("_labels")
    context.out(output.listing(rows, fields, options.format))
    return 0


def _rows(image: Image, whole: bool) -> list[dict[str, Any]]:
    from specrun.oci.reference import Reference

    created = output.parse_time(image.created)
    rows = []
    for text in image.references or [""]:
        reference = Reference.parse(text) if text else None
        rows.append(
            {
                "Repository": reference.familiar_name if reference else "<none>",
                "Tag": (reference.tag if reference else "") or "<none>",
                "Digest": image.manifest_digest,
                "ID": image.id if whole else image.id[7:19],
                "CreatedSince": output.ago(created),
                "CreatedAt": output.local_time(created),
                "Size": output.size(image.size),
                "_labels": image.config.get("config", {}).get("Labels") or {},
            }
        )
    return rows


def _matches(row: dict[str, Any], wanted: str) -> bool:
    name, _, tag = wanted.partition(":") if "/" not in wanted.rpartition(":")[2] else (wanted, "", "")
    from fnmatch import fnmatchcase

    return fnmatchcase(row["Repository"], name) and (not tag or fnmatchcase(row["Tag"], tag))


def _passes(row: dict[str, Any], text: str) -> bool:
    key, _, value = text.partition("=")
    if key == "reference":
        return _matches(row, value)
    if key == "dangling":
        return bool(row["Repository"] == "<none>") == (value in ("true", "1"))
    if key == "label":
        name, equals, wanted = value.partition("=")
        labels: dict[str, str] = row["_labels"]
        return name in labels and (not equals or labels[name] == wanted)
    raise UsageError(f"Invalid filter '{key}'", hint="expected reference=, label= or dangling=")
