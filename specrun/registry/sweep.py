"""Garbage collection of a registry's storage while it is in use, and the examination of all of it."""

from __future__ import annotations

import os
import time

from specrun.files import discard
from specrun.registry.protocol import InvalidDocument, Manifest
from specrun.registry.storage import hash_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from specrun.registry.storage import Storage

GRACE = 3600.0
"""Seconds that something is kept which no manifest names: a push may be about to."""
UPLOAD_AGE = 24 * 3600.0
"""Seconds after which an upload that nothing was added to is given up."""


class Swept:
    """What garbage collection removed."""

    __slots__ = ("blobs", "bytes", "manifests", "uploads")

    def __init__(self) -> None:
        self.blobs = self.bytes = self.manifests = self.uploads = 0


def collect(
    storage: Storage, *, grace: float = GRACE, upload_age: float = UPLOAD_AGE, untagged: bool = False,
    dry_run: bool = False,
) -> Swept:  # fmt: skip
    """Remove what nothing needs, older than `grace` seconds.

    Writers wait for one repository at a time. With `untagged`, manifests go too that no tag, no index and no
    subject that stays needs.
    """
    swept = Swept()
    for path in list(storage.stale_uploads(upload_age)):
        swept.uploads += 1
        if not dry_run:
            discard(path)
    gone: set[tuple[str, str]] = set()
    for name in list(storage.repositories()):
        with storage.sweeping():
            if untagged:
                manifests = _sweep_manifests(storage, name, grace, dry_run)
                swept.manifests += len(manifests)
                gone |= manifests
            gone |= _sweep_links(storage, name, grace, dry_run, gone)
    with storage.sweeping():
        _sweep_content(storage, swept, grace, dry_run, gone)
        if not dry_run:
            for draft in list(drafts(storage)):
                discard(draft)
            storage.swept()
    return swept


def _sweep_manifests(storage: Storage, name: str, grace: float, dry_run: bool) -> set[tuple[str, str]]:
    """The manifests that were removed, as pairs of repository and digest."""
    every = storage.digests(name, "manifests")
    parsed = {digest: manifest for digest in every if (manifest := _manifest(storage, name, digest))}
    needed = {found for tag in storage.tags(name) if (found := storage.resolve(name, tag))}
    waiting = list(needed)
    while waiting:
        digest = waiting.pop()
        below = [child.digest for child in parsed[digest].children] if digest in parsed else []
        below += [other for other, manifest in parsed.items() if manifest.subject and manifest.subject.digest == digest]
        waiting += [one for one in below if one not in needed]
        needed.update(below)
    removed = set()
    for digest in every:
        if digest not in needed and digest in parsed and storage.link_age(name, "manifests", digest) >= grace:
            removed.add((name, digest))
            if not dry_run:
                storage.forget_manifest(name, digest, parsed[digest])
    return removed


def _sweep_links(
    storage: Storage, name: str, grace: float, dry_run: bool, gone: set[tuple[str, str]]
) -> set[tuple[str, str]]:
    """Blobs of the repository that none of its manifests names. An unreadable manifest keeps everything."""
    needed: set[str] = set()
    removed: set[tuple[str, str]] = set()
    for digest in storage.digests(name, "manifests"):
        if (name, digest) in gone:
            continue
        manifest = _manifest(storage, name, digest)
        if manifest is None:
            return removed
        needed.update(part.digest for part in [*manifest.layers, *manifest.children])
        if manifest.config:
            needed.add(manifest.config.digest)
    for digest in storage.digests(name, "blobs"):
        if digest not in needed and storage.link_age(name, "blobs", digest) >= grace:
            removed.add((name, digest))
            if not dry_run:
                storage.delete_blob(name, digest)
    return removed


def _sweep_content(storage: Storage, swept: Swept, grace: float, dry_run: bool, gone: set[tuple[str, str]]) -> None:
    """Content that no repository has, `gone` being taken from them already, or in thought."""
    needed = {
        digest
        for name in storage.repositories()
        for kind in ("blobs", "manifests")
        for digest in storage.digests(name, kind)
        if not dry_run or (name, digest) not in gone
    }
    for digest, path in list(storage.blobs()):
        if digest in needed:
            continue
        status = os.stat(path)
        if time.time() - status.st_mtime >= grace:
            swept.blobs += 1
            swept.bytes += status.st_size
            if not dry_run:
                discard(path)


def drafts(storage: Storage) -> Iterator[str]:
    """What writers that were killed have left. The lock of the storage must be held alone, or nobody writing."""
    for folder, below, files in os.walk(storage.folder):
        yield from (f"{folder}/{name}" for name in files if name.startswith("."))
        if folder.endswith("/_uploads"):
            below.clear()


def examine(storage: Storage) -> Iterator[str]:
    """What is wrong, a sentence each: content that is not what its name says, and names that lead to nothing."""
    for digest, path in storage.blobs():
        if hash_file(path, digest.partition(":")[0]) != digest:
            yield f"blob {digest} is damaged"
    for name in storage.repositories():
        for digest in storage.digests(name, "blobs"):
            if not os.path.exists(storage.blob_path(digest)) and not storage.cache_of:
                yield f"{name}: blob {digest} is missing"
        for digest in storage.digests(name, "manifests"):
            yield from _examine_manifest(storage, name, digest)
        for tag in storage.tags(name):
            target = storage.resolve(name, tag)
            if target is None or (storage.resolve(name, target) is None and not storage.cache_of):
                yield f"{name}:{tag} stands for {target or 'nothing'}, which is missing"


def _examine_manifest(storage: Storage, name: str, digest: str) -> Iterator[str]:
    found = storage.manifest(name, digest)
    if found is None:
        if not storage.cache_of:
            yield f"{name}: manifest {digest} is missing"
        return
    try:
        manifest = Manifest(found[1], found[0])
    except InvalidDocument as error:
        yield f"{name}: manifest {digest} can't be read: {error.message}"
        return
    if storage.cache_of:
        return  # it has what somebody has asked for
    for part in [*manifest.layers, *([manifest.config] if manifest.config else [])]:
        if not part.foreign and not storage.has_blob(name, part.digest):
            yield f"{name}: manifest {digest} needs blob {part.digest}, which is missing"
    for child in manifest.children:
        if not storage.has_child(name, child):
            yield f"{name}: index {digest} needs manifest {child.digest}, which is missing"


def _manifest(storage: Storage, name: str, digest: str) -> Manifest | None:
    found = storage.manifest(name, digest)
    try:
        return Manifest(found[1], found[0]) if found else None
    except InvalidDocument:
        return None
