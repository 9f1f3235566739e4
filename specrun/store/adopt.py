"""Taking an image over from another state folder on the same file system, without copying its bytes.

Blobs and unpacked layers never change, so both folders can have the same files (hard links).
"""

from __future__ import annotations

import errno
import os

from specrun.oci.reference import Reference
from specrun.store.images import ImageStore
from specrun.store.layers import Draft

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
        for diff_id in image.diff_ids:
            _link_tree(source.layers, target, diff_id.removeprefix("sha256:"))
        ours.take(image, reference)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        pass


def _link_tree(source: str, target: Root, name: str) -> None:
    """Hard links of a whole layer, which appears under its name when it is complete."""
    import subprocess

    if os.path.exists(f"{target.layers}/{name}"):
        return
    with Draft(target, name) as draft:
        command = ["cp", "-al", f"{source}/{name}/.", draft.path]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        try:
            os.rename(draft.path, f"{target.layers}/{name}")
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):  # another command was first
                raise
