"""What has to be done to get from what is there to what is wanted. Pure: reads its arguments and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from specrun.reconcile.changes import Action, Change, Observed, Plan
from specrun.reconcile.graph import Graph, graph, image_of
from specrun.reconcile.kinds import check_supported, kind_of
from specrun.reconcile.kinds.base import Desk
from specrun.reconcile.project import Project
from specrun.spec import models
from specrun.spec.problems import Problem, SpecProblems

if TYPE_CHECKING:
    from specrun.spec.loader import Resource, Specs


def plan(
    desired: Specs,
    observed: Observed,
    record: Project,
    *,
    targets: list[str] | None = None,
    prune: bool = False,
    made: Graph | None = None,
) -> Plan:
    """What `apply` will do. `targets` leaves only these objects and what they need.

    Raises SpecProblems for what can't be done, Conflict for a name that somebody else's container has, and
    DependencyCircle.
    """
    check_supported(desired)
    ordered = made or graph(desired)
    desk = Desk(desired, ordered, observed, record)
    problems: list[Problem] = []
    chosen = ordered.below(targets) if targets else None
    for resource in ordered.order:
        if chosen is not None and resource.key not in chosen:
            continue
        if isinstance(resource.spec, models.ProcessSpec):
            _check_image(desk, resource, problems)
        found, entry = observed.objects.get(resource.key), record.entries.get(resource.key)
        desk.changes[resource.key] = kind_of(resource.kind).diff(desk, resource, found, entry)
    if problems:
        raise SpecProblems(problems)
    left = [] if chosen is not None else _left(desired, record, prune)
    return Plan(desired.project, [*desk.changes.values(), *left])


def _left(desired: Specs, record: Project, prune: bool) -> list[Change]:
    """What the record has and the specs have no more, the newest first."""
    gone = [key for key in reversed(record.entries) if key not in desired.resources]
    # Images last: containers may be made of them.
    gone.sort(key=lambda key: key.startswith(("image/", "build/")))
    if prune:
        return [Change(Action.DELETE, key, "no longer in these specs") for key in gone]
    return [Change(Action.KEEP, key, "no longer in these specs; `specrun apply --prune` removes it") for key in gone]


def _check_image(desk: Desk, resource: Resource, problems: list[Problem]) -> None:
    image = image_of(resource)
    if not desk.graph.maker(image) and desk.image(image) is None:
        place = resource.place("spec", "image")
        message = f"there is no image {image}, and no Image or Build spec makes it"
        note = "pull or assemble it, or add an Image spec"
        problems.append(Problem(place, message, "no-such-image", resource.key, "spec.image", note))
