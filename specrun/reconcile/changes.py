"""The words of a plan: actions, changes, and what was observed. Plain values, made by one part and read by another."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from specrun.errors import Place
from specrun.reconcile.diff import Difference


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

    @property
    def past(self) -> str:
        """When it has been done."""
        return {"+": "created", "~": "updated", "±": "replaced", "-": "deleted", " ": "kept"}[self.value]


@dataclass(frozen=True)
class Change:
    """One object, what is done to it, and why."""

    action: Action
    key: str
    reason: str
    differences: list[Difference] = field(default_factory=list)
    places: dict[str, Place] = field(default_factory=dict)
    """Where the changed fields stand, by their dotted path."""
    drifted: bool = False
    """The specs are as they were: somebody else has changed what is there."""


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


class Fact(NamedTuple):
    """What a field is found to be, and where that was read."""

    value: Any
    source: str


@dataclass(frozen=True)
class Found:
    """What is there of one object; `token` says whose it is."""

    id: str = ""
    state: str = "present"
    token: str = ""
    facts: dict[str, Fact] = field(default_factory=dict)
    """By the dotted path of the spec's field that it is to be like."""
    detail: dict[str, Any] = field(default_factory=dict)
    """What else its kind needs to know: image_id, exit_code, health …"""


@dataclass(frozen=True)
class FoundImage:
    """What a reference stands for."""

    id: str
    assembled: str = ""
    """The fingerprint of the request that it was assembled by; "" for another image."""
    fault: str = ""
    """What of it is missing or damaged."""


@dataclass(frozen=True)
class Observed:
    """All that a plan needs to know: images by canonical reference, objects by `kind/name`."""

    images: dict[str, FoundImage] = field(default_factory=dict)
    objects: dict[str, Found] = field(default_factory=dict)
    inputs: dict[str, dict[str, str]] = field(default_factory=dict)
    """Object -> what its spec names outside itself (`configs.app`, `envFiles[0]`) -> digest of the content."""


@dataclass(frozen=True)
class Choice:
    """What of the specs is to be looked at, and whether what they no longer have is to go."""

    targets: tuple[str, ...] = ()
    prune: bool = False
