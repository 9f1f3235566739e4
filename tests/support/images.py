"""Images of a test's own making: busybox's files with something spoiled."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from specrun.oci.reference import Reference
from specrun.paths import open_root
from specrun.store.images import ImageStore
from specrun.store.layers import store_archive
from specrun.store.packing import Packer
from tests.support.host import Host


def spoiled(
    host: Host,
    name: str,
    links: dict[str, str] | None = None,
    fill: Callable[[Path], None] | None = None,
    **config: object,
) -> None:
    """Let `name` be busybox with the symbolic `links` (path -> text) in it, what `fill` does, and with `config`."""
    layer = next(path for path in Path(host.root, "layers").iterdir() if not path.name.startswith("."))
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "tree")
        shutil.copytree(layer / "fs", tree, symlinks=True)
        for path, text in (links or {}).items():
            (tree / path).symlink_to(text)
        if fill is not None:
            fill(tree)
        store = ImageStore(open_root(str(host.root)))
        with store.adding():
            packer = Packer(str(tree), time=0, owned_by_root=True)
            stored = store_archive(store.blobs, packer)
            stored.content_size = packer.content_size
            document = {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Cmd": ["sh"], **config},
                "rootfs": {"type": "layers", "diff_ids": [stored.diff_id]},
            }
            store.add([stored], document, [Reference.parse(name)])
