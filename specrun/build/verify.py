"""`build --verify`: two builds without the cache, and the first difference between what they made."""

from __future__ import annotations

import os

from specrun.build.executor import Build
from specrun.build.progress import Quiet
from specrun.errors import SpecrunError
from specrun.oci import digest as digests
from specrun.store import tar
from specrun.store.images import ImageStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from specrun.build.request import BuildRequest
    from specrun.paths import Root
    from specrun.store.images import Image


class NotReproducible(SpecrunError):
    """Two builds made different images."""

    code = "not-reproducible"


def verify(root: Root, request: BuildRequest, out: Callable[[str], None]) -> int:
    """Build twice and compare; gives 0. Raises NotReproducible with the first difference.

    Times are those of SOURCE_DATE_EPOCH, which is the Unix epoch when it is not set: without one nothing that a
    command writes is the same twice.
    """
    request.no_cache = True
    request.arguments.setdefault("SOURCE_DATE_EPOCH", os.environ.get("SOURCE_DATE_EPOCH", "0"))
    tags, request.tags = request.tags, ["specrun.verify/first:latest"]
    store = ImageStore(root)
    try:
        first_id = Build(root, request, Quiet(_show)).run().id
        first = store.resolve("specrun.verify/first:latest")
        request.tags = [*tags, "specrun.verify/second:latest"]
        second_id = Build(root, request, Quiet(_show)).run().id
        second = store.resolve("specrun.verify/second:latest")
        if first_id != second_id:
            raise NotReproducible(
                f"two builds differ: {_difference(store, first, second)}",
                hint="a time, a random number or an answer of the network is in the image",
            )
    finally:
        from specrun.oci.reference import Reference

        for name in ("first", "second"):
            store.untag(Reference.parse(f"specrun.verify/{name}:latest"))
    out(f"Verified: both builds gave {first_id}\n")
    return 0


def _show(data: bytes) -> None:
    os.write(2, data)


def _difference(store: ImageStore, first: Image, second: Image) -> str:
    histories = [[step for step in image.config["history"] if not step.get("empty_layer")] for image in (first, second)]
    for index, (one, other) in enumerate(zip(first.diff_ids, second.diff_ids, strict=False)):
        if one != other:
            step = histories[0][index]["created_by"] if index < len(histories[0]) else f"layer {index}"
            return f"the layer of {step!r}: {_first_file(store, one, other)}"
    return f"the configurations {first.id} and {second.id}"


def _first_file(store: ImageStore, one: str, other: str) -> str:
    ours, theirs = dict(_members(store, one)), dict(_members(store, other))
    for name in sorted({*ours, *theirs}):
        if name not in theirs or name not in ours:
            return f"{name} is in one only"
        if ours[name] != theirs[name]:
            what = [label for label, a, b in zip(_LABELS, ours[name], theirs[name], strict=True) if a != b]
            return f"{name} differs in {', '.join(what)}"
    return "the order of the members"


_LABELS = ("kind", "mode", "owner", "size", "time", "link", "content")


def _members(store: ImageStore, digest: str) -> Iterator[tuple[str, tuple[object, ...]]]:
    source = tar.Source(store.blobs.chunks(digest))
    for entry in tar.read(source):
        state, left = digests.bulk(), entry.size
        while left:
            part = source.some(min(left, 1 << 20))
            state.update(part)
            left -= len(part)
        owner = (entry.uid, entry.gid)
        yield entry.name, (entry.kind, entry.mode, owner, entry.size, entry.mtime, entry.link, state.hexdigest())
