"""What a kind has to know: to observe its objects, to see what differs, and to do one operation.

The life of an operation: `observe` reads the kernel and the store and writes nothing; `diff` reads its arguments and
nothing else; the intent is put into the journal; `apply` (or `remove`) has the effect. Every effect may find its work
half done by a command that was killed, and ends in the same state.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, Self, cast

from specrun.oci.reference import canonical
from specrun.reconcile.changes import Action, Change, Found, FoundImage, Observed
from specrun.reconcile.diff import Difference, Operation, differences
from specrun.reconcile.project import Entry, Project, token_of

if TYPE_CHECKING:
    from specrun.engine.container import Container
    from specrun.engine.containers import Engine
    from specrun.paths import Root
    from specrun.reconcile.facts import Kernel
    from specrun.reconcile.graph import Graph
    from specrun.spec.loader import Resource, Specs
    from specrun.spec.yamltext import Path


class Kind(Protocol):
    """One kind on the local runtime."""

    def unsupported(self, resource: Resource) -> list[Path]:
        """The fields of this spec, as paths below `spec`, that can't be done yet."""

    def observe(self, view: View, name: str, resource: Resource | None, entry: Entry | None) -> Found | None:
        """What is there of the object, read from kernel and store; None for nothing. Writes nothing.

        `resource` is None for what only the record knows, `entry` for what is not ours yet.
        """

    def inputs(self, view: View, resource: Resource) -> dict[str, str]:
        """Digests of what the spec names outside itself: files, secrets, configs."""

    def diff(self, desk: Desk, resource: Resource, found: Found | None, entry: Entry | None) -> Change:
        """What is to be done, and why. Pure: reads its arguments and nothing else."""

    def apply(self, task: Task) -> None:
        """Create, update or replace. Raises SpecrunError, with nothing half made."""

    def remove(self, view: View, entry: Entry) -> str:
        """Remove the object if it is there and ours; gives a remark when something stays, "-" when none was there."""


@dataclass
class View:
    """The host, as kinds look at it while observing and applying."""

    root: Root
    specs: Specs
    record: Project

    @classmethod
    def of_record(cls, root: Root, record: Project) -> Self:
        """For those who only observe what the record knows: there are no specs."""
        return cls(root, cast("Specs", None), record)

    @cached_property
    def engine(self) -> Engine:
        """The containers of the root."""
        from specrun.engine.containers import Engine

        return Engine(self.root)

    @cached_property
    def containers(self) -> dict[str, Container]:
        """All containers by name, as they were when first asked for."""
        return {container.name: container for container in self.engine.list(all=True)}

    def by_token(self, token: str) -> Container | None:
        """The container that carries a token, whatever its name."""
        return next((one for one in self.containers.values() if token and token_of(one) == token), None)

    @cached_property
    def images(self) -> dict[str, FoundImage]:
        """All images by canonical reference, as they were when first asked for."""
        found = {}
        for image in self.engine.images.all():
            facts = FoundImage(image.id, image.assembled, self.engine.images.fault(image))
            found.update(dict.fromkeys(image.references, facts))
        return found

    @cached_property
    def kernel(self) -> Kernel:
        """What the kernel says of containers."""
        from specrun.reconcile.facts import Kernel

        return Kernel()

    @cached_property
    def seen(self) -> dict[str, Any]:
        """What kinds have found out once for all of their objects."""
        return {}

    @cached_property
    def digests(self) -> dict[str, str]:
        """Contents that have been digested already, by what they are of."""
        return {}


@dataclass(frozen=True)
class Desk:
    """What a plan may read."""

    specs: Specs
    graph: Graph
    observed: Observed
    record: Project
    changes: dict[str, Change] = field(default_factory=dict)
    """What has been decided already; an object comes after all that it needs."""

    def image(self, reference: str) -> FoundImage | None:
        """What a reference stands for now."""
        return self.observed.images.get(canonical(reference))

    def image_change(self, reference: str) -> Change | None:
        """What is done to the object that makes an image."""
        return self.changes.get(self.graph.maker(reference))


@dataclass(frozen=True)
class Output:
    """Where the outputs of jobs go as they come (descriptors, None for the log only), and the news of each change."""

    stdout: int | None
    stderr: int | None
    news: Callable[[str], None]


@dataclass(frozen=True)
class Task:
    """One operation on one object."""

    change: Change
    resource: Resource
    entry: Entry
    """With the token that the new object is to carry."""
    view: View
    output: Output


def spec_differences(resource: Resource, entry: Entry | None) -> list[Difference]:
    """What the spec says otherwise than the one that was applied last."""
    return differences(entry.values, resource.values) if entry else []


def fact_differences(wanted: dict[str, Any], found: Found) -> list[Difference]:
    """What is otherwise than wanted, of the fields that were looked at."""
    return [
        Difference(Operation.CHANGE, (name,), fact.value, wanted[name], fact.source)
        for name, fact in found.facts.items()
        if name in wanted and fact.value != wanted[name]
    ]


def input_differences(inputs: dict[str, str], entry: Entry | None) -> list[Difference]:
    """Which contents are not those of the last apply."""
    if entry is None:
        return []
    return [
        Difference(Operation.CHANGE, (name,), entry.inputs.get(name), inputs.get(name), "content")
        for name in sorted({*inputs, *entry.inputs})
        if inputs.get(name) != entry.inputs.get(name)
    ]


def placed(
    action: Action, resource: Resource, reason: str, found: list[Difference], *, drifted: bool = False
) -> Change:
    """A change whose differences know where their fields stand in the spec."""
    places = {one.dotted: resource.place(*_in_document(one)) for one in found}
    return Change(action, resource.key, reason, found, places, drifted)


def gone(resource: Resource, entry: Entry | None, wanted: str, source: str, reason: str = "") -> Change:
    """To be made: for the first time, or because somebody has removed it."""
    if entry is None or not entry.made:
        return Change(Action.CREATE, resource.key, reason)
    lost = [Difference(Operation.CHANGE, ("state",), None, wanted, source)]
    return Change(Action.CREATE, resource.key, "it is gone", lost, drifted=True)


def _in_document(difference: Difference) -> Path:
    """`labels` stands in the metadata, everything else in the spec. Dotted paths of facts are taken apart."""
    path: list[str | int] = []
    for part in difference.field:
        path += part.split(".") if isinstance(part, str) and difference.source else [part]
    return ("metadata" if path[:1] == ["labels"] else "spec", *path)


def fields_set(values: dict[str, Any], prefix: Path = ()) -> list[Path]:
    """The paths of all leaves of a spec's values."""
    found: list[Path] = []
    for key, value in values.items():
        if isinstance(value, dict) and value:
            found += fields_set(value, (*prefix, key))
        else:
            found.append((*prefix, key))
    return found


def new_token() -> str:
    """Something that nobody can guess."""
    return os.urandom(16).hex()
