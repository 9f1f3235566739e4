"""`specrun container prune`: containers that are not running go."""

from __future__ import annotations

from specrun.cli import moments
from specrun.cli.commands.volume import confirmed, has_label, report
from specrun.cli.options import Command, Option
from specrun.errors import Conflict, NotFound, SpecrunError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.cli.context import Context
    from specrun.engine.containers import Container, Engine

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
    if not options.force:
        context.out("WARNING! This will remove all stopped containers.\n")
        if not confirmed(context):
            context.out("Total reclaimed space: 0B\n")
            return 0
    names, freed = prune_containers(context.engine(), options.filter)
    context.out(report("Deleted Containers", names, freed))
    return 0


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
