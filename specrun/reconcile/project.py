"""What `apply` has made for a project: the record by which specrun knows its own objects again.

An object is ours because the record holds the token that its container carries, not because of a label alone:
labels come with images, and images come from strangers.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from specrun.errors import Conflict, Damaged
from specrun.files import discard, write_atomic
from specrun.paths import Root

TOKEN = "io.specrun.token"
"""The label that carries an object's token."""


@dataclass
class Entry:
    """One object of the project: the spec that it was made by, and the token of its container."""

    kind: str
    name: str
    values: dict[str, Any]
    token: str


@dataclass
class Project:
    """The record of one project."""

    name: str
    entries: dict[str, Entry] = field(default_factory=dict)

    def save(self, root: Root) -> None:
        """Write the record; the intent is recorded before the effect."""
        document = {"name": self.name, "entries": {key: asdict(entry) for key, entry in self.entries.items()}}
        write_atomic(_path(root, self.name), json.dumps(document, indent=1).encode())

    def remove(self, root: Root) -> None:
        """Forget the project."""
        discard(_path(root, self.name))


def load(root: Root | None, name: str) -> Project:
    """The record of the project; an empty one where there is none yet."""
    if root is None:
        return Project(name)
    try:
        with open(_path(root, name), "rb") as file:
            document = json.load(file)
        return Project(name, {key: Entry(**entry) for key, entry in document["entries"].items()})
    except FileNotFoundError:
        return Project(name)
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(f"the record of project {name} is damaged: {_path(root, name)}") from error


@contextmanager
def exclusive(root: Root, name: str) -> Iterator[None]:
    """One command at a time changes a project. Raises Conflict that names the holder."""
    import fcntl

    path = root.lock(f"project-{name}")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip() or "another command"
            raise Conflict(
                f"project {name} is being changed by {holder}", hint="try again when it has ended"
            ) from error
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"pid {os.getpid()} of user {os.geteuid()} since {since}".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _path(root: Root, name: str) -> str:
    return f"{root.projects}/{name}.json"
