"""The record of a container that does not change while it lives: `container.json`, and the name that points to it."""

from __future__ import annotations

import os

from specrun.errors import Conflict, Damaged
from specrun.files import write_atomic
from specrun_runtime import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from specrun.paths import Root

_FIELDS = (
    "id",
    "name",
    "image",
    "image_id",
    "created",
    "path",
    "args",
    "config",
    "host_config",
    "auto_remove",
    "mounts",
    "transient",
)

_LATER: dict[str, Any] = {"mounts": [], "transient": False}
"""Fields that records of earlier versions lack, and what they mean there."""


class Record:
    """What was asked for, with everything that the image and the defaults filled in."""

    __slots__ = _FIELDS

    id: str
    name: str
    image: str
    image_id: str
    created: float
    path: str
    args: list[str]
    config: dict[str, Any]
    host_config: dict[str, Any]
    auto_remove: bool
    mounts: list[dict[str, Any]]
    """As `Mounts` of `docker inspect`, and some keys more (specrun.engine.mounting)."""
    transient: bool
    """Whether whoever made it removes it after its end, as a build does; after a crash nobody needs it."""

    def __init__(self, **values: Any) -> None:
        for field in _FIELDS:
            setattr(self, field, values[field] if field in values else _LATER[field])

    @property
    def durable(self) -> bool:
        """Whether what is written of it has to outlast a power failure, which it does not survive itself."""
        return not (self.auto_remove or self.transient)

    def save(self, directory: str, *, durable: bool) -> None:
        """Write `container.json` into the container's folder."""
        document = {field: getattr(self, field) for field in _FIELDS}
        write_atomic(f"{directory}/container.json", jsontext.dumps(document).encode(), durable=durable)

    @classmethod
    def load(cls, directory: str) -> Record:
        """Read it back. Raises FileNotFoundError, and Damaged for anything but such a record."""
        with open(f"{directory}/container.json", "rb") as file:
            data = file.read()
        try:
            return cls(**jsontext.loads(data))
        except (ValueError, KeyError, TypeError) as error:
            raise Damaged(
                f"the record {directory}/container.json is damaged", hint="remove the container with rm -f"
            ) from error


def event_attributes(record: Record) -> dict[str, str]:
    """What every event about the container carries: its labels, image and name."""
    return {**(record.config.get("Labels") or {}), "image": record.image, "name": record.name}


def claim_name(root: Root, name: str, identity: str) -> None:
    """Make `name` stand for the container; raises Conflict, with Docker's words, when it stands for another."""
    link = f"{root.names}/{name}"
    for _ in range(3):
        try:
            os.symlink(identity, link)
            return
        except FileExistsError:
            holder = holder_of(root, name)
            if holder and is_there(root, holder):
                break
            # What a crashed command left: a name of nothing.
            release_name(root, name, holder)
    raise Conflict(
        f'Conflict. The container name "/{name}" is already in use by container "{holder}". '
        "You have to remove (or rename) that container to be able to reuse that name."
    )


def holder_of(root: Root, name: str) -> str:
    """The id of the container called `name`; "" when there is none."""
    try:
        return os.readlink(f"{root.names}/{name}")
    except OSError:
        return ""


def release_name(root: Root, name: str, identity: str) -> None:
    """Free the name, if it still stands for this container."""
    if holder_of(root, name) == identity:
        try:
            os.unlink(f"{root.names}/{name}")
        except FileNotFoundError:
            pass


def is_there(root: Root, identity: str) -> bool:
    """Whether the container has a folder; the hidden one is looked for first, as it becomes the other."""
    return any(os.path.exists(f"{root.containers}/{prefix}{identity}") for prefix in (".", ""))
