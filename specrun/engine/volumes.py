"""Volumes: folders that outlive containers. A volume is `volumes/<name>/` with `_data` and `volume.json`.

It appears complete, by a rename, and it goes by a rename into the trash. Who uses it is what the records of the
containers say; the lock `volumes` is held, shared, from choosing a volume until the record that names it is written,
and whole while a volume is removed: so none is removed under a container that is being made.
"""

from __future__ import annotations

import os
import time

from specrun import events
from specrun.errors import Conflict, Damaged, InvalidName, NotFound, SpecrunError, UsageError
from specrun.files import locked, remove_tree, sync_directory, write_atomic
from specrun.paths import is_name
from specrun_runtime import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from typing import Any

    from specrun.paths import Root


class VolumeNotFound(NotFound):
    """No volume has that name."""

    code = "no-such-volume"


class Volume:
    """One volume."""

    __slots__ = ("container", "created", "folder", "given", "labels", "name", "options")

    def __init__(self, folder: str, name: str, document: dict[str, Any]) -> None:
        self.folder = folder
        self.name = name
        self.created: float = document["created"]
        """Seconds since 1970."""
        self.given: tuple[dict[str, str] | None, dict[str, str] | None] = (document["labels"], document["options"])
        """Labels and options; None where nobody has said anything about them, which Docker's JSON shows as null."""
        self.labels: dict[str, str] = document["labels"] or {}
        self.options: dict[str, str] = document["options"] or {}
        self.container: str = document["container"]
        """The container that an anonymous volume was made for; "" for one that somebody named."""

    @property
    def mountpoint(self) -> str:
        """Where its files are on the host."""
        return f"{self.folder}/_data"

    @property
    def source(self) -> str:
        """What a container mounts: `_data`, or the host's folder that the options name."""
        return self.options.get("device") or self.mountpoint

    @property
    def anonymous(self) -> bool:
        """Whether nobody has given it a name."""
        return bool(self.container) or len(self.name) == 64


class VolumeStore:
    """The volumes of one root."""

    def __init__(self, root: Root) -> None:
        self.root = root

    def choosing(self) -> AbstractContextManager[int]:
        """Held from choosing a volume until a record names it."""
        return locked(self.root.lock("volumes"), shared=True)

    def create(
        self,
        name: str = "",
        *,
        labels: dict[str, str] | None = None,
        options: dict[str, str] | None = None,
        driver: str = "local",
        container: str = "",
        fill: Callable[[str], None] | None = None,
    ) -> Volume:
        """The volume `name`, made if there is none; "" makes an anonymous one.

        `fill` is given the folder of a new volume before anybody else sees it. Raises InvalidName and UsageError.
        """
        name = name or os.urandom(32).hex()
        check_name(name)
        _check_driver(name, driver, options or {})
        try:
            return self.get(name)
        except VolumeNotFound:
            pass
        self._make_folder()
        with self.choosing():
            draft = f"{self.root.volumes}/.{name[:64]}.{os.urandom(6).hex()}"
            document = {
                "created": time.time(), "labels": labels, "options": options, "container": container
            }  # fmt: skip
            umask = os.umask(0o022)
            try:
                os.mkdir(draft, 0o701)
                os.mkdir(f"{draft}/_data", 0o755)
                if fill is not None:
                    fill(f"{draft}/_data")
                write_atomic(f"{draft}/volume.json", jsontext.dumps(document).encode())
                os.rename(draft, f"{self.root.volumes}/{name}")
            except BaseException as error:
                remove_tree(draft)
                if isinstance(error, OSError) and error.errno in (17, 39):  # another command has made it meanwhile
                    return self.get(name)
                raise
            finally:
                os.umask(umask)
        sync_directory(self.root.volumes)
        events.emit(self.root, "volume", "create", name, {"driver": "local"})
        return self.get(name)

    def get(self, name: str) -> Volume:
        """The volume of this name. Raises VolumeNotFound, and Damaged when its record can't be read."""
        folder = f"{self.root.volumes}/{name}"
        if not is_volume_name(name):
            raise VolumeNotFound(f"No such volume: {name}")
        try:
            with open(f"{folder}/volume.json", "rb") as file:
                return Volume(folder, name, jsontext.loads(file.read()))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise VolumeNotFound(f"No such volume: {name}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise Damaged(f"the record of volume {name} is damaged", hint=f"look at {folder}") from error

    def all(self) -> list[Volume]:
        """All volumes, by name."""
        found = []
        for name in sorted(_listing(self.root.volumes)):
            if not name.startswith("."):
                try:
                    found.append(self.get(name))
                except VolumeNotFound:
                    continue  # removed meanwhile
        return found

    def users(self) -> dict[str, list[str]]:
        """Volume -> the ids of the containers that name it."""
        from specrun.engine.record import Record

        found: dict[str, list[str]] = {}
        for entry in _listing(self.root.containers):
            try:
                record = Record.load(f"{self.root.containers}/{entry}")
            except (OSError, SpecrunError):
                continue
            for mount in record.mounts:
                if mount["Type"] == "volume":
                    found.setdefault(mount["Name"], []).append(record.id)
        return found

    def remove(self, name: str) -> None:
        """Remove the volume. Raises VolumeNotFound, and Conflict when a container uses it."""
        with locked(self.root.lock("volumes")):
            volume = self.get(name)
            if using := self.users().get(name):
                raise Conflict(f"remove {name}: volume is in use - [{', '.join(using)}]")
            trash = self._hide(volume)
        self._destroy(volume, trash)

    def remove_unused(self, wanted: Callable[[Volume], bool]) -> list[Volume]:
        """Remove the volumes that `wanted` names and no container uses; gives those."""
        with locked(self.root.lock("volumes")):
            users = self.users()
            gone = [volume for volume in self.all() if volume.name not in users and wanted(volume)]
            trash = [self._hide(volume) for volume in gone]
        for volume, path in zip(gone, trash, strict=True):
            self._destroy(volume, path)
        return gone

    def remove_of(self, container: str) -> None:
        """Remove the anonymous volumes that were made for a container which is no more."""
        if any(volume.container == container for volume in self.all()):
            self.remove_unused(lambda volume: volume.container == container)

    def sweep(self) -> None:
        """Remove what commands that were killed have left half made; nobody can be at it while the lock is ours."""
        try:
            with locked(self.root.lock("volumes"), wait=False):
                for entry in _listing(self.root.volumes):
                    if entry.startswith("."):
                        remove_tree(f"{self.root.volumes}/{entry}")
        except BlockingIOError:
            pass  # somebody is making a volume; the next command sweeps

    def _hide(self, volume: Volume) -> str:
        trash = f"{self.root.trash}/{volume.name[:64]}.{os.urandom(4).hex()}"
        os.rename(volume.folder, trash)
        return trash

    def _destroy(self, volume: Volume, trash: str) -> None:
        remove_tree(trash)
        events.emit(self.root, "volume", "destroy", volume.name, {"driver": "local"})

    def _make_folder(self) -> None:
        try:
            os.mkdir(self.root.volumes, 0o700)
        except FileExistsError:
            pass


def check_name(name: str) -> None:
    """Refuse what can't be the name of a volume, with Docker's words."""
    if is_volume_name(name):
        return
    if len(name) == 1:
        raise InvalidName(
            f"create {name}: volume name is too short, names should be at least two alphanumeric characters"
        )
    raise InvalidName(
        f'create {name}: "{name}" includes invalid characters for a local volume name, only '
        '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
    )


def is_volume_name(name: str) -> bool:
    """Whether `name` may name a volume."""
    return is_name(name) and len(name) > 1


def size_of(path: str) -> int:
    """The bytes of all files below `path`, each counted once; folders and links count too, as du(1) has them."""
    seen: set[tuple[int, int]] = set()
    total = 0
    pending = [path]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    info = entry.stat(follow_symlinks=False)
                    if (info.st_dev, info.st_ino) not in seen:
                        seen.add((info.st_dev, info.st_ino))
                        total += info.st_size if not entry.is_dir(follow_symlinks=False) else 0
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
        except OSError:
            continue
    return total


def _check_driver(name: str, driver: str, options: dict[str, str]) -> None:
    if driver not in ("", "local"):
        raise UsageError(
            f'create {name}: error looking up volume plugin {driver}: plugin "{driver}" not found',
            hint="the driver `local` is the only one",
        )
    for key in options:
        if key not in ("type", "device", "o"):
            raise UsageError(f'create {name}: invalid option: "{key}"', hint="expected type, device and o")
    if not options:
        return
    if not options.get("device"):
        raise UsageError(f'create {name}: missing required option: "device"')
    if options.get("type", "none") not in ("none", "bind") or not set(options.get("o", "").split(",")) & {
        "bind", "rbind"
    }:  # fmt: skip
        raise UsageError(
            f"create {name}: the local driver's type={options.get('type', '')} with o={options.get('o', '')} "
            "is not supported",
            hint="type=none with o=bind and device=/a/folder is; for memory, use --tmpfs",
        )
    if not options["device"].startswith("/"):
        raise UsageError(f"create {name}: device {options['device']!r} is not an absolute path")


def _listing(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except FileNotFoundError:
        return []
