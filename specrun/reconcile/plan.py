"""What has to be done to get from what is there to what is wanted. Pure: reads its arguments and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from specrun.errors import Conflict, Place, SpecrunError
from specrun.oci.reference import Reference
from specrun.reconcile.diff import Difference, differences
from specrun.reconcile.observe import Observed, ObservedContainer
from specrun.reconcile.project import Project
from specrun.spec.loader import Resource, Specs
from specrun.spec.models import ImageSpec, JobSpec, ProcessSpec
from specrun.spec.problems import Problem, SpecProblems
from specrun.store.assemble import fingerprint


class DependencyCircle(SpecrunError):
    """Objects that each need the other to be there first."""

    code = "circle"


class Action(StrEnum):
    """What is done to an object, by the sign that the plan shows."""

    CREATE = "+"
    UPDATE = "~"
    REPLACE = "±"
    DELETE = "-"
    KEEP = " "

    @property
    def word(self) -> str:
        """In words."""
        return {"+": "create", "~": "update", "±": "replace", "-": "delete", " ": "keep"}[self.value]


@dataclass(frozen=True)
class Change:
    """One object, what is done to it, and why."""

    action: Action
    key: str
    reason: str
    differences: list[Difference] = field(default_factory=list)
    places: dict[str, Place] = field(default_factory=dict)
    """Where the changed fields stand, by their dotted path."""


@dataclass(frozen=True)
class Plan:
    """All objects in the order in which they are handled."""

    project: str
    changes: list[Change]

    @property
    def needed(self) -> list[Change]:
        """What has to be done."""
        return [change for change in self.changes if change.action is not Action.KEEP]

    def count(self, action: Action) -> int:
        """How many objects this is done to."""
        return sum(change.action is action for change in self.changes)


def plan(desired: Specs, observed: Observed, record: Project) -> Plan:
    """What `apply` will do.

    Raises SpecProblems for an image that neither the store nor a spec has, Conflict for a name that somebody
    else's container has, and DependencyCircle.
    """
    order = ordered(desired)
    makers = _makers(desired)
    problems: list[Problem] = []
    changes: dict[str, Change] = {}
    for resource in order:
        if isinstance(resource.spec, ImageSpec):
            changes[resource.key] = _plan_image(resource, resource.spec, observed)
        elif isinstance(resource.spec, ProcessSpec):
            maker = makers.get(Reference.parse(resource.spec.image).canonical)
            _check_image(resource, resource.spec, maker, observed, problems)
            made = changes.get(maker.key) if maker else None
            changes[resource.key] = _plan_process(resource, resource.spec, made, observed, record)
    if problems:
        raise SpecProblems(problems)
    left = [
        Change(Action.KEEP, key, "no longer in these specs; `specrun delete` with the old ones removes it")
        for key in record.entries
        if key not in desired.resources
    ]
    return Plan(desired.project, [*changes.values(), *left])


def ordered(specs: Specs) -> list[Resource]:
    """Every object after what it needs; otherwise as written. Raises SpecrunError for a circle."""
    makers = _makers(specs)
    done: dict[str, Resource] = {}
    path: list[str] = []

    def visit(resource: Resource) -> None:
        if resource.key in done:
            return
        if resource.key in path:
            circle = " -> ".join([*path[path.index(resource.key) :], resource.key])
            raise DependencyCircle(
                f"these specs depend on each other: {circle}", place=resource.place("spec", key=True)
            )
        path.append(resource.key)
        for key in needs(resource, makers):
            visit(specs.resources[key])
        path.pop()
        done[resource.key] = resource

    for resource in specs.resources.values():
        visit(resource)
    return list(done.values())


def needs(resource: Resource, makers: dict[str, Resource]) -> list[str]:
    """The keys of what must be there before this one."""
    if not isinstance(resource.spec, ProcessSpec):
        return []
    maker = makers.get(Reference.parse(resource.spec.image).canonical)
    return [*([maker.key] if maker else []), *(dependency.key for dependency in resource.spec.dependsOn)]


def image_config(spec: ImageSpec) -> dict[str, Any]:
    """`config` of the OCI image configuration, of what the spec says."""
    config = spec.config
    fields = {
        "Cmd": config.cmd,
        "Entrypoint": config.entrypoint,
        "Env": [f"{key}={value}" for key, value in config.env.items()],
        "WorkingDir": config.workingDir,
        "User": config.user,
        "Labels": config.labels,
    }
    return {key: value for key, value in fields.items() if value}


def _makers(specs: Specs) -> dict[str, Resource]:
    return {
        Reference.parse(tag).canonical: resource
        for resource in specs.resources.values()
        if isinstance(resource.spec, ImageSpec)
        for tag in resource.spec.tags
    }


def _plan_image(resource: Resource, spec: ImageSpec, observed: Observed) -> Change:
    mark = fingerprint(spec.packages.include, spec.packages.suite, image_config(spec))
    found = {tag: observed.images.get(Reference.parse(tag).canonical) for tag in spec.tags}
    missing = [tag for tag, image in found.items() if image is None]
    packages = f"{len(spec.packages.include)} package{'s' if len(spec.packages.include) != 1 else ''}"
    if len(missing) == len(found):
        return Change(Action.CREATE, resource.key, f"from {packages}, tags {', '.join(spec.tags)}")
    others = [tag for tag, image in found.items() if image and image.assembled != mark]
    if others:
        return Change(Action.REPLACE, resource.key, f"{', '.join(others)} is an image of another recipe")
    if missing:
        return Change(Action.UPDATE, resource.key, f"tags missing: {', '.join(missing)}")
    return Change(Action.KEEP, resource.key, "")


def _check_image(
    resource: Resource, spec: ProcessSpec, maker: Resource | None, observed: Observed, problems: list[Problem]
) -> None:
    if maker is None and Reference.parse(spec.image).canonical not in observed.images:
        place = resource.place("spec", "image")
        message = f"there is no image {spec.image}, and no Image spec makes it"
        note = "assemble it with `specrun image assemble`, or add an Image spec"
        problems.append(Problem(place, message, "no-such-image", resource.key, "spec.image", note))


def _plan_process(
    resource: Resource, spec: ProcessSpec, image: Change | None, observed: Observed, record: Project
) -> Change:
    found = observed.containers.get(resource.metadata.name)
    entry = record.entries.get(resource.key)
    if found is None:
        return Change(Action.CREATE, resource.key, "")
    if entry is None or found.token != entry.token:
        raise Conflict(
            f"{resource.key} cannot be made: container {found.id[:12]} has the name {resource.metadata.name} "
            "and is not of this project",
            hint=f"choose another name, or remove it with `specrun rm -f {resource.metadata.name}`",
            place=resource.place("metadata", "name"),
        )
    changed = differences(entry.values, resource.values)
    if changed:
        places = {one.dotted: resource.place(*_in_document(one)) for one in changed}
        return Change(Action.REPLACE, resource.key, "its spec has changed", changed, places)
    if image and image.action in (Action.CREATE, Action.REPLACE):
        return Change(Action.REPLACE, resource.key, f"its image {spec.image} is made anew")
    current = observed.images.get(Reference.parse(spec.image).canonical)
    if current and current.id != found.image_id:
        return Change(Action.REPLACE, resource.key, f"{spec.image} is another image now")
    return _plan_run(resource, isinstance(spec, JobSpec), found)


def _in_document(difference: Difference) -> tuple[str | int, ...]:
    """`labels` stands in the metadata, everything else in the spec."""
    return ("metadata" if difference.field[0] == "labels" else "spec", *difference.field)


def _plan_run(resource: Resource, is_job: bool, found: ObservedContainer) -> Change:
    """The spec is the same; is it also doing what it should?"""
    if found.status == "running":
        if is_job:
            return Change(Action.UPDATE, resource.key, "is still running; its end is waited for")
        return Change(Action.KEEP, resource.key, "")
    if is_job:
        if found.status == "exited" and found.exit_code == 0:
            return Change(Action.KEEP, resource.key, "")
        what = f"its last run failed with exit status {found.exit_code}" if found.status == "exited" else "it never ran"
        return Change(Action.REPLACE, resource.key, what)
    what = f"it has exited with status {found.exit_code}" if found.status == "exited" else "it was never started"
    return Change(Action.UPDATE, resource.key, f"start it again: {what}")
