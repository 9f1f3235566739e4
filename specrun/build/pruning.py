"""What builds keep for later ones: how much it is, and its removal, beside builds that are at work."""

from __future__ import annotations

import os

from specrun.build.exchange import load
from specrun.build.running import cache_lock, mend
from specrun.engine.volumes import size_of
from specrun.files import discard, locked, remove_tree
from specrun.store.blobs import BlobStore
from specrun.store.images import ImageStore
from specrun.store.layers import content_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.paths import Root


class Kept:
    """A layer that no image has, or the folder of a `RUN --mount=type=cache`."""

    __slots__ = ("created", "id", "kind", "size")

    def __init__(self, identity: str, kind: str, size: int, created: float) -> None:
        self.id = identity
        self.kind = kind
        """As BuildKit calls it: regular or exec.cachemount."""
        self.size = size
        self.created = created


def kept(root: Root) -> list[Kept]:
    """All of it, by id."""
    found = [_kept(folder, "exec.cachemount", size_of(folder)) for folder in _below(f"{root.path}/build/caches")]
    wanted = {diff_id for image in ImageStore(root).all() for diff_id in image.diff_ids}
    for folder in _below(root.layers):
        diff_id = f"sha256:{os.path.basename(folder)}"
        if diff_id not in wanted and (size := content_size(root, diff_id)) >= 0:
            found.append(_kept(folder, "regular", size))
    return sorted(found, key=lambda one: one.id)


def prune(root: Root, *, all: bool = False) -> tuple[list[str], int]:
    """Remove what no build at work uses; gives ids and bytes. With `all`, no later build finds a step of before."""
    mend(root)
    before = kept(root)
    ImageStore(root).collect()
    for one in before:
        if one.kind == "exec.cachemount":
            _remove_mount(root, one.id)
    for folder in ("steps", "last"):
        for path in _below(f"{root.path}/build/{folder}"):
            if all or (folder == "steps" and not _is_useful(root, path)):
                discard(path)
    left = {one.id for one in kept(root)}
    gone = [one for one in before if one.id not in left]
    return [one.id for one in gone], sum(one.size for one in gone)


def _remove_mount(root: Root, name: str) -> None:
    trash = f"{root.trash}/cache.{os.urandom(8).hex()}"
    try:
        with locked(cache_lock(root, name), wait=False):
            os.rename(f"{root.path}/build/caches/{name}", trash)
            os.unlink(cache_lock(root, name))
    except (BlockingIOError, FileNotFoundError):
        return  # a build uses it, or another prune has removed it
    remove_tree(trash)


def _is_useful(root: Root, path: str) -> bool:
    """Whether the record of a step can be used: its layer is there, or it made none."""
    record = load(path)
    return record is not None and (record.layer is None or BlobStore(root.oci).has(record.layer.digest))


def _kept(folder: str, kind: str, size: int) -> Kept:
    return Kept(os.path.basename(folder), kind, size, os.stat(folder).st_mtime)


def _below(path: str) -> list[str]:
    try:
        return [f"{path}/{name}" for name in sorted(os.listdir(path)) if not name.startswith(".")]
    except FileNotFoundError:
        return []
