"""Taking an image over from another state folder on the same file system, without copying its bytes.

Blobs and unpacked layers never change, so both folders can have the same files (hard links).
"""

from __future__ import annotations

import os

from specrun.files import locked, remove_tree
from specrun.oci.reference import Reference
from specrun.store.images import ImageStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.paths import Root


def adopt(source: Root, target: Root, name: str) -> None:
    """Let `name` stand for the same image in `target` as in `source`. Raises ImageNotFound."""
    reference = Reference.parse(name)
    theirs, ours = ImageStore(source), ImageStore(target)
    image = theirs.resolve(name)
    theirs.lower_directories(image)  # unpacked once, in the source
    with ours.adding():
        os.makedirs(ours.blobs.folder, mode=0o700, exist_ok=True)
        for digest in theirs.blobs_of(image):
            _link(theirs.blobs.path(digest), ours.blobs.path(digest))
        with locked(target.lock("layers")):
            for diff_id in image.diff_ids:
                _link_tree(source.layers, target.layers, diff_id.removeprefix("sha256:"))
        ours.take(image, reference)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        pass


def _link_tree(source: str, target: str, name: str) -> None:
    """Hard links of a whole layer, which appears under its name when it is complete."""
    import subprocess

    if os.path.exists(f"{target}/{name}"):
        return
    draft = f"{target}/.{name}.{os.urandom(4).hex()}"
    try:
        subprocess.run(["cp", "-al", f"{source}/{name}", draft], check=True, stdin=subprocess.DEVNULL)
        os.rename(draft, f"{target}/{name}")
    except BaseException:
        remove_tree(draft)
        raise
