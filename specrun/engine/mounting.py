"""The mounts of a container: chosen when it is made, and turned into mounts of the runtime when it starts."""

from __future__ import annotations

import os

from specrun.engine import mountspec
from specrun.engine.mountspec import BIND, TMPFS, VOLUME, MountRequest
from specrun.engine.volumes import VolumeStore
from specrun.errors import SpecrunError, UsageError
from specrun.files import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from specrun.engine.record import Record
    from specrun.engine.request import ContainerRequest
    from specrun.paths import Root

_TMPFS = ["noexec", "nosuid", "nodev"]


def choose(
    root: Root,
    request: ContainerRequest,
    record: Record,
    image_volumes: list[str],
    lower: Callable[[], list[str]],
    sources: Callable[[str], Record],
) -> None:
    """Fill `record.mounts`, making the volumes that are asked for and not there.

    Called with the volumes' lock `choosing` held. `lower` gives the layers of the image, topmost first; `sources`
    the record of a container that `--volumes-from` names. Raises UsageError with Docker's words.
    """
    points: dict[str, dict[str, Any]] = {}
    for text in request.volumes_from:
        name, read_only = mountspec.parse_volumes_from(text)
        for mount in sources(name).mounts:
            points[mount["Destination"]] = {**mount, "Mode": "", "RW": mount["RW"] and not read_only, "NoCopy": True}
    taken: set[str] = set()
    for wanted in request.mounts:
        if wanted.kind == VOLUME and not wanted.source and wanted.text:
            continue  # `-v /folder` gives way to everything else that is mounted there
        if wanted.target in taken:
            raise UsageError(f"Duplicate mount point: {wanted.target}")
        taken.add(wanted.target)
        if wanted.kind == TMPFS and wanted.text:
            points.pop(wanted.target, None)  # `--tmpfs` is told by HostConfig.Tmpfs alone, as Docker has it
        else:
            points[wanted.target] = _point(wanted)
    anonymous = [wanted.target for wanted in request.mounts if wanted.kind == VOLUME and not wanted.source]
    for target in [*anonymous, *image_volumes]:
        if target not in points and target not in taken:
            points[target] = _point(MountRequest(VOLUME, "", target))
    store = VolumeStore(root)
    by_target = {wanted.target: wanted for wanted in request.mounts}
    with _Seeds(lower) as seeds:
        for target, point in points.items():
            if point["Type"] == VOLUME and not point["Source"]:
                _attach(store, point, by_target.get(target), record.id, seeds)
    record.mounts = list(points.values())


def image_volumes(config: dict[str, Any]) -> list[str]:
    """The folders that the image wants a volume for. Raises UsageError for one where nothing may be mounted."""
    found = []
    for target in config.get("Volumes") or {}:
        path = mountspec.clean(target if target.startswith("/") else f"/{target}")
        mountspec.check_target(path, f"the image's volume {target!r}: ")
        found.append(path)
    return found


def host_config(request: ContainerRequest) -> dict[str, Any]:
    """What `HostConfig` of `docker inspect` says about the mounts."""
    binds = [wanted.text for wanted in request.mounts if wanted.kind != TMPFS and wanted.text and wanted.source]
    tmpfs = {
        wanted.target: ",".join(wanted.tmpfs_options)
        for wanted in request.mounts
        if wanted.kind == TMPFS and wanted.text
    }
    mounts = [wanted.document() for wanted in request.mounts if not wanted.text]
    return {
        "Binds": binds or None,
        "VolumesFrom": request.volumes_from or None,
        **({"Tmpfs": tmpfs} if tmpfs else {}),
        **({"Mounts": mounts} if mounts else {}),
    }


def runtime_mounts(root: Root, record: Record, *, mapped: bool = False) -> list[dict[str, Any]]:
    """The mounts as config.json has them. A bind whose source is to be made is made.

    Where the container's users are `mapped`, the files of volumes have the owners that they have in the container;
    those of the host keep theirs, and so are nobody's there.
    """
    store = VolumeStore(root)
    found = []
    for point in record.mounts:
        target = point["Destination"]
        if point["Type"] == TMPFS:
            found.append(_tmpfs(target, point.get("Options") or [], point["RW"]))
            continue
        if point["Type"] == VOLUME:
            source, options = (
                store.get(point["Name"]).source,
                ["rbind", "nodev", "rprivate", *(["idmap"] if mapped else [])],
            )
        else:
            source = point["Source"]
            options = ["bind" if point.get("NonRecursive") else "rbind", point["Propagation"] or "rprivate"]
            if point.get("Create"):
                _make_source(source)
        found.append(
            {
                "destination": target,
                "type": "bind",
                "source": source,
                "options": [*options, *([] if point["RW"] else ["ro" if point.get("NonRecursive") else "rro"])],
            }
        )
    for target, words in (record.host_config.get("Tmpfs") or {}).items():
        found.append(_tmpfs(target, words.split(",") if words else [], True))
    return found


def in_order(mounts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The outer mounts before the inner ones."""
    return sorted(mounts, key=lambda mount: str(mount["destination"]).count("/"))


def anonymous_volumes(root: Root, record: Record) -> list[str]:
    """The names of the volumes that nobody has named, of those that the container uses."""
    store = VolumeStore(root)
    names = []
    for point in record.mounts:
        if point["Type"] == VOLUME:
            try:
                if store.get(point["Name"]).anonymous:
                    names.append(point["Name"])
            except SpecrunError:
                continue
    return names


def _point(wanted: MountRequest) -> dict[str, Any]:
    """A mount as `Mounts` of `docker inspect` shows it, with what we need to know besides."""
    point: dict[str, Any] = {"Type": wanted.kind}
    if wanted.kind == VOLUME:
        point["Name"] = wanted.source
    point["Source"] = wanted.source if wanted.kind == BIND else ""
    point["Destination"] = wanted.target
    if wanted.kind == VOLUME:
        point["Driver"] = "local"
    point["Mode"] = wanted.mode or ("z" if wanted.kind == VOLUME and wanted.source else "")
    point["RW"] = not wanted.read_only
    point["Propagation"] = (wanted.propagation or "rprivate") if wanted.kind == BIND else ""
    point["NoCopy"] = wanted.no_copy
    point["NonRecursive"] = wanted.non_recursive
    point["Create"] = wanted.kind == BIND and wanted.create
    if wanted.kind == TMPFS:
        point["Options"] = wanted.tmpfs_options
    return point


def _attach(
    store: VolumeStore, point: dict[str, Any], wanted: MountRequest | None, container: str, seeds: _Seeds
) -> None:
    """Find or make the volume of a mount; an empty one gets what the image has at the mount point."""
    named = bool(point["Name"])

    def fill(folder: str) -> None:
        if not point["NoCopy"]:
            seeds.copy(point["Destination"], folder)

    before = seeds.count
    volume = store.create(
        point["Name"],
        labels=(wanted.labels or None) if wanted else None,
        driver=wanted.driver if wanted else "",
        options=(wanted.driver_options or None) if wanted else None,
        container="" if named else container,
        fill=fill,
    )
    if seeds.count == before and not point["NoCopy"] and not volume.options and not os.listdir(volume.mountpoint):
        seeds.refill(volume.folder, point["Destination"], used=volume.name in store.users())
    point["Name"], point["Source"] = volume.name, volume.source


def _tmpfs(target: str, words: list[str], writable: bool) -> dict[str, Any]:
    options = [*_TMPFS, *words, *([] if writable else ["ro"])]
    return {"destination": target, "type": "tmpfs", "source": "tmpfs", "options": options}


def _make_source(path: str) -> None:
    try:
        umask = os.umask(0o022)
        try:
            os.makedirs(path, 0o755, exist_ok=True)
        finally:
            os.umask(umask)
    except FileExistsError:
        pass  # a file, a socket, a device: bound as it is
    except OSError as error:
        raise SpecrunError(f"error while creating mount source path '{path}': {error.strerror}") from error


class _Seeds:
    """What the image has where volumes are mounted: its layers as one file system, attached nowhere."""

    def __init__(self, lower: Callable[[], list[str]]) -> None:
        self._lower = lower
        self._root = -1
        self.count = 0
        """How many volumes were filled."""

    def __enter__(self) -> _Seeds:
        return self

    def __exit__(self, *_: object) -> None:
        if self._root >= 0:
            os.close(self._root)

    def copy(self, path: str, folder: str) -> None:
        """Copy what is at `path` of the image, if it is a folder, into the empty `folder`."""
        from specrun_runtime.paths import open_in_root
        from specrun_runtime.steps import copy_tree

        self.count += 1
        if self._root < 0:
            self._root = self._mount()
        flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        try:
            source = open_in_root(self._root, path, flags)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            target = os.open(folder, flags | os.O_NOFOLLOW)
            try:
                copy_tree(source, target)
            finally:
                os.close(target)
        finally:
            os.close(source)

    def refill(self, volume: str, path: str, *, used: bool) -> None:
        """Fill a volume that is there and empty: beside it first, so that a crash leaves it empty or full.

        One that is `used` keeps its folder, which a running container may have mounted.
        """
        draft = f"{os.path.dirname(volume)}/.fill.{os.urandom(6).hex()}"
        os.mkdir(draft, 0o755)
        try:
            self.copy(path, draft)
            if used:
                for name in os.listdir(draft):
                    os.rename(f"{draft}/{name}", f"{volume}/_data/{name}")
            else:
                os.rename(draft, f"{volume}/_data")
        except OSError as error:
            if error.errno not in (17, 20, 21, 39):  # filled meanwhile by another
                raise
        finally:
            remove_tree(draft)

    def _mount(self) -> int:
        from specrun_runtime import mounts

        return mounts.new_view(self._lower()).release()
