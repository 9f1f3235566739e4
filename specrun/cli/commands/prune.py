"""`specrun container prune` and `image prune`: what is not in use goes."""

from __future__ import annotations

from specrun.cli import moments
from specrun.cli.commands.pruning import has_label, prune
from specrun.cli.options import Command, Option
from specrun.errors import Conflict, NotFound, SpecrunError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.cli.context import Context
    from specrun.engine.container import Container
    from specrun.engine.containers import Engine

CONTAINERS = Command(
    "container prune",
    "[OPTIONS]",
    "Remove all containers that are not running.",
    [
        Option("--filter", "list", "Filter by until=, label= or label!=", "filter"),
        Option("-f --force", "flag", "Don't ask"),
    ],
    examples=["container prune -f", "container prune --filter until=24h"],
)


def containers(arguments: list[str], context: Context) -> int:
    """Remove what does not run."""
    options = CONTAINERS.parse(arguments)
    CONTAINERS.require(options, 0, 0)
    return prune(
        context,
        options.force,
        "stopped containers",
        "Deleted Containers",
        lambda: prune_containers(context.engine(), options.filter),
    )


def prune_containers(engine: Engine, filters: list[str]) -> tuple[list[str], int]:
    """Remove the containers that do not run and all filters let pass; gives their ids and bytes."""
    from specrun.engine.volumes import size_of

    tests = [_filter(text) for text in filters]
    engine.mend()
    names, freed = [], 0
    for container in engine.list(all=True):
        if container.state.status not in ("created", "exited", "dead") or not _passes(container, tests):
            continue
        size = size_of(f"{container.directory}/upper")
        try:
            engine.remove(container)
        except (Conflict, NotFound):
            continue  # started or removed meanwhile
        names.append(container.id)
        freed += size
    return names, freed


IMAGES = Command(
    "image prune",
    "[OPTIONS]",
    "Remove images that have no name.",
    [
        Option("-a --all", "flag", "Remove all images that no container uses, not just those without a name"),
        Option("--filter", "list", "Filter by until=, label= or label!=", "filter"),
        Option("-f --force", "flag", "Don't ask"),
    ],
    examples=["image prune -f", "image prune -af --filter until=24h"],
)


def images(arguments: list[str], context: Context) -> int:
    """Remove what no container uses."""
    options = IMAGES.parse(arguments)
    IMAGES.require(options, 0, 0)
    return prune(
        context,
        options.force,
        "images without at least one container associated to them" if options.all else "dangling images",
        "Deleted Images",
        lambda: prune_images(context.engine(), options.filter, all=options.all),
    )


def prune_images(engine: Engine, filters: list[str], *, all: bool) -> tuple[list[str], int]:
    """Remove the images that are not in use and all filters let pass; gives Docker's lines and the bytes freed."""
    from specrun.cli.commands.images import Filter
    from specrun.engine import removal

    engine.mend()
    wanted = Filter(engine.images, filters, ("until", "label", "label!"))
    removed = removal.prune_images(engine, wanted.passes, all=all)
    return [line[0].lower() + line[1:] for line in removed.lines], removed.freed


def _filter(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if key.endswith("!"):
        key = "label!"
    if key not in ("until", "label", "label!") or not equals:
        error = SpecrunError(f"Invalid filter '{key}'", hint="expected until=, label= or label!=")
        error.code = "usage"
        raise error
    if key == "until":
        moments.parse(value, "filter until")
    return key, value


def _passes(container: Container, tests: list[tuple[str, str]]) -> bool:
    labels = container.config.get("Labels") or {}
    for key, value in tests:
        if key == "until":
            if container.created > moments.parse(value, "filter until"):
                return False
        elif has_label(labels, value) is not (key == "label"):
            return False
    return True
