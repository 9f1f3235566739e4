"""The files that a container is given by its spec: a copy of each secret and config, of its own.

A copy has the owner and mode that the spec asks for, and can be written again in place, so that a running container
sees new content without being replaced. The folder above is root's alone.

Beside the copies stands, while a container is deleted, which anonymous volumes it had: nothing else names them when it
is gone, and the command may be killed before they are.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from specrun.engine.mountspec import MountRequest
from specrun.engine.volumes import VolumeStore
from specrun.files import discard, remove_tree, write_atomic
from specrun.paths import Root
from specrun.reconcile.changes import Fact
from specrun.reconcile.kinds.files import MAX_BYTES, content_of, make_private
from specrun.reconcile.project import Entry

if TYPE_CHECKING:
    from specrun.reconcile.kinds.base import View
    from specrun.spec.loader import Resource
    from specrun.spec.models import ProcessSpec
    from specrun.spec.models.process import FileMount

_VOLUMES = "volumes"


def _folder(root: Root, project: str, name: str) -> str:
    return f"{root.path}/given/{project}/{name}"


def _wanted(spec: ProcessSpec) -> Iterator[tuple[str, FileMount]]:
    yield from (("secret", mount) for mount in spec.secrets)
    yield from (("config", mount) for mount in spec.configs)


def target_of(kind: str, mount: FileMount) -> str:
    """Where the file is in the container."""
    target = mount.target or mount.source
    if target.startswith("/"):
        return target
    return f"/run/secrets/{target}" if kind == "secret" else f"/{target}"


def mounts(view: View, resource: Resource, spec: ProcessSpec, token: str) -> list[MountRequest]:
    """Write the copies of a new container; gives their mounts."""
    folder = f"{_folder(view.root, view.specs.project, resource.metadata.name)}/{token}"
    found = []
    for kind, mount in _wanted(spec):
        path = f"{folder}/{kind}.{mount.source}.{hashlib.sha256(target_of(kind, mount).encode()).hexdigest()[:8]}"
        make_private(folder)
        _write(path, content_of(view.specs.resources[f"{kind}/{mount.source}"]), mount)
        found.append(MountRequest("bind", path, target_of(kind, mount), read_only=True))
    return found


def rewrite(view: View, resource: Resource, spec: ProcessSpec, token: str) -> None:
    """Write the copies of a running container again, in place."""
    mounts(view, resource, spec, token)


def facts(view: View, entry: Entry) -> dict[str, Fact]:
    """The digests of the copies, as they are now."""
    folder = f"{_folder(view.root, view.record.name, entry.name)}/{entry.token}"
    found = {}
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return {}
    for name in names:
        kind, source = name.split(".", 1)[0], name.split(".", 1)[1].rsplit(".", 1)[0]
        salt = view.record.salt.encode() if kind == "secret" else b""
        with open(f"{folder}/{name}", "rb") as file:
            digest = hashlib.sha256(salt + file.read(MAX_BYTES + 1)).hexdigest()
        found[f"{kind}s.{source}"] = Fact(digest, f"{folder}/{name}")
    return found


def note_volumes(root: Root, project: str, name: str, volumes: list[str]) -> None:
    """Write down the anonymous volumes of a container that is about to be deleted."""
    if volumes:
        folder = _folder(root, project, name)
        make_private(folder)
        write_atomic(f"{folder}/{_VOLUMES}", "\n".join(volumes).encode())


def remove_volumes(root: Root, project: str, name: str) -> None:
    """Remove the volumes that are written down, but for those that somebody uses."""
    folder = _folder(root, project, name)
    try:
        notes = [one for one in os.listdir(folder) if one.startswith(_VOLUMES)]  # a killed write leaves a draft
    except FileNotFoundError:
        return
    if _VOLUMES in notes:
        with open(f"{folder}/{_VOLUMES}", encoding="ascii") as file:
            names = set(file.read().split())
        VolumeStore(root).remove_unused(lambda one: one.anonymous and one.name in names)
    for one in notes:
        discard(f"{folder}/{one}")


def forget(root: Root, project: str, name: str, tokens: list[str]) -> None:
    """Remove the copies of containers that are gone."""
    folder = _folder(root, project, name)
    for token in tokens:
        if token and os.path.isdir(f"{folder}/{token}"):
            remove_tree(f"{folder}/{token}")
    for parent in (folder, os.path.dirname(folder), os.path.dirname(os.path.dirname(folder))):
        try:
            os.rmdir(parent)
        except FileNotFoundError:
            continue  # a command that was killed has come so far
        except OSError:
            return


def _write(path: str, data: bytes, mount: FileMount) -> None:
    """Not by a rename: the container has this very file mounted."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.write(descriptor, data)
        os.fchown(descriptor, mount.uid or 0, mount.gid or 0)
        os.fchmod(descriptor, int(mount.mode or "0444", 8))
    finally:
        os.close(descriptor)
