"""What `apply` has made for a project: the record by which specrun knows its own objects again.

An object is ours because the record holds the token that its container carries, not because of a label alone:
labels come with images, and images come from strangers.

The record is a snapshot and a journal of what has happened since. Every intent is on the disk before its effect, so
that a command that is killed in between leaves nothing that the next one does not know for its own.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from specrun.errors import Conflict, Damaged
from specrun.files import discard, write_atomic
from specrun.paths import Root

if TYPE_CHECKING:
    from specrun.engine.container import Container

TOKEN = "io.specrun.token"
"""The label that carries an object's token."""


def token_of(container: Container) -> str:
    """What it carries; "" for one that no project has made."""
    return str((container.config.get("Labels") or {}).get(TOKEN, ""))


@dataclass
class Entry:
    """One object of the project."""

    kind: str
    name: str
    values: dict[str, Any]
    """The spec that it was made by."""
    token: str
    """What its container carries."""
    earlier: list[str] = field(default_factory=list)
    """Tokens of containers that it replaces, as long as they may still be there."""
    inputs: dict[str, str] = field(default_factory=dict)
    """Digests of what its spec names: files, secrets, configs."""
    made: bool = False
    """Whether it was there once; before that, its absence is nobody's doing."""

    @property
    def key(self) -> str:
        """`kind/name`."""
        return f"{self.kind.lower()}/{self.name}"


@dataclass
class Project:
    """The record of one project."""

    name: str
    entries: dict[str, Entry] = field(default_factory=dict)
    salt: str = ""
    """What digests of secrets begin with, so that they tell nothing."""
    revision: int = 0
    """The number of the newest revision."""

    def save(self, root: Root) -> None:
        """Write the snapshot; the journal begins anew."""
        write_atomic(_path(root, self.name), json.dumps(asdict(self)).encode())
        discard(_journal(root, self.name))

    def remove(self, root: Root) -> None:
        """Forget the project."""
        discard(settled_path(root, self.name))
        discard(_journal(root, self.name))
        discard(_path(root, self.name))


class Journal:
    """The end of a project's record, that grows while it is applied."""

    def __init__(self, root: Root, project: Project) -> None:
        self._project = project
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.open(_journal(root, project.name), flags, 0o600)

    def intend(self, entries: list[Entry]) -> None:
        """These objects are about to be made, each with the token of its entry."""
        self._write(entries)

    def done(self, entry: Entry) -> None:
        """The object is as its entry says. Loss of this line costs nothing but another look."""
        self._write([entry], durable=False)

    def forget(self, key: str) -> None:
        """The object is gone."""
        self._append([{"gone": key}], durable=True)
        self._project.entries.pop(key, None)

    def close(self) -> None:
        """Nothing more is written."""
        os.close(self._file)

    def _write(self, entries: list[Entry], *, durable: bool = True) -> None:
        if entries:
            self._append([{"entry": asdict(entry)} for entry in entries], durable)
            self._project.entries.update({entry.key: entry for entry in entries})

    def _append(self, lines: list[dict[str, Any]], durable: bool) -> None:
        os.write(self._file, "".join(json.dumps(line) + "\n" for line in lines).encode())
        if durable:
            os.fdatasync(self._file)


def load(root: Root | None, name: str) -> Project:
    """The record of the project; an empty one where there is none yet."""
    fresh = Project(name, salt=os.urandom(16).hex())
    if root is None:
        return fresh
    try:
        with open(_path(root, name), "rb") as file:
            document = json.load(file)
        document["entries"] = {key: Entry(**entry) for key, entry in document["entries"].items()}
        found = Project(**document)
    except FileNotFoundError:
        found = fresh
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(f"the record of project {name} is damaged: {_path(root, name)}") from error
    _replay(root, found)
    return found


def _replay(root: Root, project: Project) -> None:
    """Add what the journal says. A last line that a crash cut off never happened."""
    try:
        with open(_journal(root, project.name), "rb") as file:
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return
    for number, line in enumerate(lines[:-1], 1):
        try:
            fact = json.loads(line)
            if "gone" in fact:
                project.entries.pop(fact["gone"], None)
            else:
                entry = Entry(**fact["entry"])
                project.entries[entry.key] = entry
        except (ValueError, KeyError, TypeError) as error:
            where = f"{_journal(root, project.name)}, line {number}"
            raise Damaged(f"the journal of project {project.name} is damaged: {where}") from error


@contextmanager
def exclusive(root: Root, name: str) -> Iterator[None]:
    """One command at a time changes a project. Raises Conflict that names the holder."""
    import fcntl

    path = root.lock(f"project-{name}")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        deadline = time.monotonic() + 5
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip() or "another command"
                if time.monotonic() > deadline or not _has_died(holder):
                    raise Conflict(
                        f"project {name} is being changed by {holder}", hint="try again when it has ended"
                    ) from error
                time.sleep(0.01)  # its workers die with it, and hold the lock until they have
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"pid {os.getpid()}, user {_user()}, since {since}".encode(), 0)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def locked(root: Root, name: str) -> Iterator[None]:
    """The project is ours to change, and what crashed commands left is cleared. Raises Conflict."""
    from specrun.engine.containers import Engine

    with exclusive(root, name):
        _sweep(root, name)
        Engine(root).mend()
        _mend_builds(root)
        yield


def _mend_builds(root: Root) -> None:
    """Remove what builds that were killed have left: what they made may be there, and then no other build follows."""
    try:
        left = os.listdir(f"{root.path}/build/work")
    except FileNotFoundError:
        return
    if left:
        from specrun.build.running import mend

        mend(root)


def _sweep(root: Root, name: str) -> None:
    """Remove what killed commands have begun to write of the record; who writes it has the lock that we hold."""
    try:
        names = os.listdir(root.projects)
    except FileNotFoundError:
        return
    for one in names:
        stem = one.removesuffix(".draft").rpartition(".")[0]
        if one.endswith(".draft") and stem in (f"{name}.json", f"{name}.settled"):
            discard(f"{root.projects}/{one}")


def _has_died(holder: str) -> bool:
    """Whether the command that wrote this of itself has ended."""
    pid = holder.removeprefix("pid ").partition(",")[0]
    try:
        with open(f"/proc/{int(pid)}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True
    except ValueError:
        return False


def _user() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def names(root: Root | None) -> list[str]:
    """All projects of the root."""
    if root is None or not os.path.isdir(root.projects):
        return []
    found = {name.rsplit(".", 1)[0] for name in os.listdir(root.projects) if name.endswith((".json", ".journal"))}
    return sorted(found)


def raw(root: Root, name: str) -> list[bytes]:
    """The record as it is on the disk: snapshot and journal."""
    found = []
    for path in (_path(root, name), _journal(root, name)):
        try:
            with open(path, "rb") as file:
                found.append(file.read())
        except FileNotFoundError:
            found.append(b"")
    return found


def settled_path(root: Root, name: str) -> str:
    """Where it is kept what an empty plan was made of."""
    return f"{root.projects}/{name}.settled"


def _path(root: Root, name: str) -> str:
    return f"{root.projects}/{name}.json"


def _journal(root: Root, name: str) -> str:
    return f"{root.projects}/{name}.journal"
