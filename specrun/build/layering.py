"""From the upper directory of a step to a layer of the store, and the state of a stage between its steps."""

from __future__ import annotations

import os

from specrun.build.exchange import INLINE
from specrun.oci import digest as digests
from specrun.store.blobs import BlobStore
from specrun.store.layers import Draft, Layer, content_size, keep_folder
from specrun.store.packing import Packer
from specrun_runtime import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from specrun.paths import Root


class LayerStore:
    """Where steps put what they made."""

    def __init__(self, root: Root) -> None:
        self.root = root
        self.blobs = BlobStore(root.oci)

    def folder(self, diff_id: str) -> str:
        """The unpacked layer."""
        return f"{self.root.layers}/{digests.hex_of(diff_id)}/fs"

    def has(self, layer: Layer) -> bool:
        """Whether blob and unpacked layer are both there."""
        return content_size(self.root, layer.diff_id) >= 0 and self.blobs.has(layer.digest)

    def commit(self, upper: str, lower: list[str], epoch: int | None) -> Layer:
        """Make a layer of the upper directory `upper`, which is moved into the store. Its blob is not compressed.

        The archive's names are sorted and its times whole seconds, none later than `epoch`; the unpacked layer gets
        the same times, so that it is what the archive unpacks to.
        """
        packer = Packer(upper, epoch=epoch, lower=lower, settle=True)
        with Draft(self.root) as draft:
            os.rmdir(draft.fs)
            os.chmod(upper, 0o755)
            os.rename(upper, draft.fs)
            packer.folder = draft.fs
            return keep_folder(self.root, self.blobs, draft, packer, plain=True)


def document_of(layer: Layer) -> dict[str, Any]:
    """A layer for a record."""
    return {name: getattr(layer, name) for name in Layer.__slots__}


def is_empty(upper: str) -> bool:
    """Whether nothing was changed."""
    return not os.listdir(upper)


def encode(document: dict[str, Any]) -> bytes:
    """The configuration as the store writes it, so that its digest is the id that the image will have."""
    return jsontext.dumps(document, sort_keys=True, compact=True).encode()


_PLAIN = ("history", "config", "author", "created", "platform", "chain")


class StageState:
    """An image that grows: layers, history, configuration."""

    def __init__(self, architecture: str, system: str, variant: str = "") -> None:
        self.layers: list[Layer] = []
        self.history: list[dict[str, Any]] = []
        self.config: dict[str, Any] = {}
        self.author = ""
        self.created = ""
        self.platform = (architecture, system, variant)
        self.chain = "scratch"
        """The key of the last step that made a layer, from which the next step's key is made."""
        self.records: dict[str, Any] = {}
        """Those of its steps, if the image is to be a cache too."""

    def copy(self) -> StageState:
        """What a stage that is based on this one begins with."""
        other = StageState(*self.platform)
        other.layers, other.history = list(self.layers), list(self.history)
        other.config, other.author, other.created, other.chain = self.config, self.author, self.created, self.chain
        return other

    def document_for_recall(self) -> dict[str, Any]:
        """All of it as plain values, from which `recall` makes an equal one."""
        layers = [document_of(layer) for layer in self.layers]
        return {**{name: getattr(self, name) for name in _PLAIN}, "layers": layers}

    @classmethod
    def recall(cls, document: dict[str, Any]) -> StageState:
        """The state that another process has written down."""
        state = cls(*document["platform"])
        for name in _PLAIN:
            setattr(state, name, document[name])
        state.layers = [Layer(**layer) for layer in document["layers"]]
        return state

    @property
    def size(self) -> int:
        """Bytes of all layers' files."""
        return sum(layer.content_size for layer in self.layers)

    def document(self) -> dict[str, Any]:
        """The OCI image configuration."""
        architecture, system, variant = self.platform
        return {
            "architecture": architecture,
            **({"author": self.author} if self.author else {}),
            "config": {key: value for key, value in self.config.items() if value not in (None, "", {}, [])},
            "created": self.created,
            "history": self.history,
            "os": system,
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in self.layers]},
            **({"variant": variant} if variant else {}),
            **({INLINE: self.records} if self.records else {}),
        }

    @property
    def id(self) -> str:
        """The image's id as it is now."""
        return digests.of(encode(self.document()))

    def lower(self, store: LayerStore) -> list[str]:
        """The unpacked layers, topmost first; of equal ones the topmost hides the others, and overlayfs wants one."""
        return list(dict.fromkeys(store.folder(layer.diff_id) for layer in reversed(self.layers)))

    def add(self, created_by: str, created: str, layer: Layer | None) -> None:
        """Note a step in the history."""
        self.created = created
        if layer is not None:
            self.layers.append(layer)
        if created_by:
            entry = {"created": created, "created_by": created_by, "comment": "buildkit.dockerfile.v0"}
            self.history.append(entry if layer is not None else {**entry, "empty_layer": True})


def chunks_of(path: str) -> Iterator[bytes]:
    """A file in pieces."""
    with open(path, "rb") as file:
        while data := file.read(1 << 20):
            yield data
