"""`specrun images`: the images of this root."""

from __future__ import annotations

from specrun.cli import moments, output
from specrun.cli.options import Command, Option
from specrun.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from specrun.cli.context import Context
    from specrun.store.images import Image, ImageStore

COMMAND = Command(
    "images",
    "[OPTIONS] [REPOSITORY[:TAG]]",
    "List images.",
    [
        Option("-a --all", "flag", "Show all images"),
        Option("--digests", "flag", "Show digests"),
        Option("-f --filter", "list", "Filter by before= dangling= label= reference= since= until=", "filter"),
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
    store = ImageStore(context.root())
    images = store.all()
    parents = {image.parent for image in images}
    wanted = Filter(store, options.filter)
    rows = []
    for image in images:
        middle = not image.references and image.id in parents
        if (middle and not options.all) or not wanted.passes(image):
            continue
        rows += rows_of(image, wanted.names_of(image), whole=options.no_trunc)
    if options.arguments:
        rows = [row for row in rows if matches(row["Repository"], row["Tag"], options.arguments[0])]
    if options.quiet:
        context.out("".join(f"{identity}\n" for identity in dict.fromkeys(row["ID"] for row in rows)))
        return 0
    fields = [("REPOSITORY", "Repository"), ("TAG", "Tag"), ("DIGEST", "Digest"), ("IMAGE ID", "ID")]
    fields += [("CREATED", "CreatedSince"), ("SIZE", "Size")]
    if not options.digests and "Digest" not in options.format:
        fields = [field for field in fields if field[1] != "Digest"]
    context.out(output.listing(rows, fields, options.format))
    return 0


def rows_of(image: Image, names: list[str], *, whole: bool = False) -> list[dict[str, Any]]:
    """What the listing shows of an image, a row for each of `names`; `whole` ids are not shortened."""
    from specrun.oci.reference import Reference

    created = output.parse_time(image.created)
    rows = []
    for text in names or [""]:
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
                "VirtualSize": output.size(image.size),
                "UniqueSize": "N/A",
                "SharedSize": "N/A",
                "Containers": "N/A",
            }
        )
    return rows


def matches(repository: str, tag: str, wanted: str) -> bool:
    """Whether a reference is of the pattern `wanted`, a repository with or without a tag."""
    from fnmatch import fnmatchcase

    name, _, label = wanted.partition(":") if "/" not in wanted.rpartition(":")[2] else (wanted, "", "")
    name = name.removeprefix("docker.io/").removeprefix("library/")
    return fnmatchcase(repository, name) and (not label or fnmatchcase(tag, label))


class Filter:
    """The `--filter`s of a listing: all keys must agree, and of a key's values one (of labels all)."""

    KEYS = ("before", "dangling", "label", "label!", "reference", "since", "until")

    def __init__(self, store: ImageStore, texts: list[str], keys: tuple[str, ...] = KEYS) -> None:
        self._values: dict[str, list[str]] = {}
        for text in texts:
            key, equals, value = text.partition("=")
            key = key.lower()
            if key not in keys or not equals:
                expected = ", ".join(f"{one}=" for one in keys)
                raise UsageError(f"Invalid filter '{key}'", hint=f"expected {expected}")
            self._values.setdefault(key, []).append(value)
        self._bounds: list[tuple[str, float]] = []
        for key in ("before", "since"):
            for value in self._values.get(key, []):
                self._bounds.append((key, output.parse_time(store.resolve(value).created)))
        for value in self._values.get("until", []):
            self._bounds.append(("before", moments.parse(value, "filter until")))

    def passes(self, image: Image) -> bool:
        """Whether the image is listed."""
        from specrun.cli.commands.pruning import has_label

        labels = image.config.get("config", {}).get("Labels") or {}
        created = output.parse_time(image.created)
        for key, moment in self._bounds:
            if (created >= moment) if key == "before" else (created <= moment):
                return False
        for value in self._values.get("dangling", []):
            if value.lower() not in ("true", "1", "false", "0"):
                raise UsageError(f"Invalid filter 'dangling={value}'", hint="expected true or false")
            if (not image.references) is not (value.lower() in ("true", "1")):
                return False
        if not all(has_label(labels, value) for value in self._values.get("label", [])):
            return False
        if any(has_label(labels, value) for value in self._values.get("label!", [])):
            return False
        return "reference" not in self._values or bool(self.names_of(image))

    def names_of(self, image: Image) -> list[str]:
        """The references of the image that `reference=` lets through."""
        from specrun.oci.reference import Reference

        patterns = self._values.get("reference")
        if patterns is None:
            return image.references
        found = [Reference.parse(text) for text in image.references]
        return [
            one.canonical for one in found if any(matches(one.familiar_name, one.tag, pattern) for pattern in patterns)
        ]
