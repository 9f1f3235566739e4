"""Images: what `index.json` of the image layout lists, with the manifests and configurations behind it."""

from __future__ import annotations

import os

from specrun.errors import Damaged, NotFound
from specrun.files import locked, write_atomic
from specrun.oci import digest as digests
from specrun.oci.reference import InvalidReference, Reference
from specrun.store.blobs import BlobStore
from specrun_runtime import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager
    from typing import Any

    from specrun.paths import Root

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
INDEX = "application/vnd.oci.image.index.v1+json"

REF_NAME = "org.opencontainers.image.ref.name"
CONFIG_DIGEST = "io.specrun.config"
"""Annotation of ours in index.json: the digest of the configuration, which is Docker's image id."""
UNPACKED_SIZE = "io.specrun.size"
ASSEMBLED = "io.specrun.assembled"
"""Annotation of ours: the fingerprint of the request that an assembled image answers."""


class ImageNotFound(NotFound):
    """No image has that name or id."""

    code = "no-such-image"


class Image:
    """One image, with every reference that stands for it."""

    __slots__ = ("assembled", "config", "created", "diff_ids", "id", "manifest_digest", "references", "size")

    def __init__(self, config_digest: str, manifest_digest: str, config: dict[str, Any], size: int) -> None:
        self.id = config_digest
        self.manifest_digest = manifest_digest
        self.config = config
        self.size = size
        """Bytes of all layers, unpacked."""
        self.references: list[str] = []
        self.assembled = ""
        self.diff_ids: list[str] = list(config.get("rootfs", {}).get("diff_ids", []))
        self.created: str = config.get("created") or "1970-01-01T00:00:00Z"


class ImageStore:
    """The images of one root."""

    def __init__(self, root: Root) -> None:
        self.root = root
        self.blobs = BlobStore(root.oci)

    def resolve(self, text: str) -> Image:
        """The image that `text` means: a reference, an id or the unambiguous beginning of one."""
        entries = self._entries()
        wanted = self._match_id(entries, text) or self._match_reference(entries, text)
        if wanted is None:
            raise ImageNotFound(
                f"No such image: {text}",
                hint="`specrun image assemble busybox` makes one from this host's packages, and so does an Image spec",
            )
        return self._image(wanted, entries)

    def all(self) -> list[Image]:
        """All images, the newest first."""
        entries = self._entries()
        by_id = {_annotation(entry, CONFIG_DIGEST): entry for entry in entries}
        images = [self._image(entry, entries) for entry in by_id.values()]
        return sorted(images, key=lambda image: image.created, reverse=True)

    def lower_directories(self, image: Image) -> list[str]:
        """The unpacked layers, the topmost first; what is missing is unpacked now."""
        paths = []
        for index, diff_id in enumerate(image.diff_ids):
            path = f"{self.root.layers}/{digests.hex_of(diff_id)}"
            if not os.path.exists(f"{path}/committed"):
                self._unpack(image, index)
            paths.append(f"{path}/fs")
        return paths[::-1]

    def add(
        self, layers: list[tuple[str, int, str]], config: dict[str, Any], references: list[Reference], *, size: int,
        assembled: str = "",
    ) -> Image:  # fmt: skip
        """Store a new image and let `references` stand for it.

        `layers` are (digest, size, media type) of blobs that are stored already, the lowest first.
        """
        config_digest, config_size = self.blobs.put(_encode(config))
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": config_digest, "size": config_size},
            "layers": [{"mediaType": kind, "digest": digest, "size": length} for digest, length, kind in layers],
        }
        manifest_digest, manifest_size = self.blobs.put(_encode(manifest))
        entry = {
            "mediaType": MANIFEST,
            "digest": manifest_digest,
            "size": manifest_size,
            "annotations": {
                CONFIG_DIGEST: config_digest,
                UNPACKED_SIZE: str(size),
                **({ASSEMBLED: assembled} if assembled else {}),
            },
        }
        with locked(self.root.lock("images")):
            entries = self._entries()
            for reference in references:
                entries = _named(entries, entry, reference.canonical)
            self._store(entries)
        return self._image(entry, entries)

    def take(self, image: Image, reference: Reference) -> None:
        """Let `reference` stand for an image whose blobs have been stored already."""
        entry = {
            "mediaType": MANIFEST,
            "digest": image.manifest_digest,
            "size": len(self.blobs.read(image.manifest_digest, 4 << 20)),
            "annotations": {
                CONFIG_DIGEST: image.id,
                UNPACKED_SIZE: str(image.size),
                **({ASSEMBLED: image.assembled} if image.assembled else {}),
            },
        }
        with locked(self.root.lock("images")):
            self._store(_named(self._entries(), entry, reference.canonical))

    def blobs_of(self, image: Image) -> list[str]:
        """The digests of all that the image consists of."""
        manifest = self._manifest(image.manifest_digest)
        return [image.manifest_digest, image.id, *(layer["digest"] for layer in manifest["layers"])]

    def untag(self, reference: Reference) -> bool:
        """Take the reference away and free what no image needs; whether it stood for an image.

        No container may use the image: the caller has looked. While somebody adds an image (lock `store`),
        nothing is freed; the next untag does it.
        """
        with locked(self.root.lock("images")):
            entries = self._entries()
            left = [entry for entry in entries if _annotation(entry, REF_NAME) != reference.canonical]
            if len(left) == len(entries):
                return False
            self._store(left)
            try:
                with locked(self.root.lock("store"), wait=False):
                    self._collect(left)
            except BlockingIOError:
                pass
            return True

    def adding(self) -> AbstractContextManager[int]:
        """Held while blobs are stored that no image names yet."""
        return locked(self.root.lock("store"), shared=True)

    def verify(self) -> list[str]:
        """What is wrong with the store, a sentence each; [] when every blob is what its name says."""
        problems = self.blobs.verify()
        for entry in self._entries():
            try:
                self._image(entry, [])
                self._manifest(entry["digest"])
            except Damaged as error:
                problems.append(error.message)
        return problems

    def _entries(self) -> list[dict[str, Any]]:
        try:
            with open(f"{self.root.oci}/index.json", "rb") as file:
                entries: list[dict[str, Any]] = jsontext.loads(file.read())["manifests"]
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError) as error:
            raise Damaged(f"{self.root.oci}/index.json is damaged", hint="restore it, or remove the folder") from error
        return entries

    def _store(self, entries: Iterable[dict[str, Any]]) -> None:
        layout = f"{self.root.oci}/oci-layout"
        if not os.path.exists(layout):
            write_atomic(layout, b'{"imageLayoutVersion":"1.0.0"}')
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": list(entries)}
        write_atomic(f"{self.root.oci}/index.json", jsontext.dumps(index).encode())

    def _collect(self, entries: list[dict[str, Any]]) -> None:
        """Remove the blobs and layers that no image needs; called with the lock held."""
        from specrun.files import remove_tree

        blobs: set[str] = set()
        layers: set[str] = set()
        for entry in entries:
            manifest = self._manifest(entry["digest"])
            blobs.update((entry["digest"], manifest["config"]["digest"]))
            blobs.update(layer["digest"] for layer in manifest["layers"])
            layers.update(self._image(entry, []).diff_ids)
        for name in os.listdir(self.blobs.folder):
            if not name.startswith(".") and f"sha256:{name}" not in blobs:
                os.unlink(f"{self.blobs.folder}/{name}")
        for name in os.listdir(self.root.layers):
            if f"sha256:{name}" not in layers and not name.startswith("."):
                hidden = f"{self.root.layers}/.{name}.{os.urandom(4).hex()}"
                os.rename(f"{self.root.layers}/{name}", hidden)
                remove_tree(hidden)

    def _image(self, entry: dict[str, Any], entries: list[dict[str, Any]]) -> Image:
        config_digest = _annotation(entry, CONFIG_DIGEST) or self._manifest(entry["digest"])["config"]["digest"]
        config = jsontext.loads(self.blobs.read(config_digest))
        size = _annotation(entry, UNPACKED_SIZE)
        image = Image(config_digest, entry["digest"], config, int(size) if size.isdigit() else 0)
        for other in entries:
            if _annotation(other, CONFIG_DIGEST) == config_digest:
                image.references.append(_annotation(other, REF_NAME))
                image.assembled = image.assembled or _annotation(other, ASSEMBLED)
        return image

    def _manifest(self, digest: str) -> dict[str, Any]:
        manifest: dict[str, Any] = jsontext.loads(self.blobs.read(digest, 4 << 20))
        return manifest

    def _match_id(self, entries: list[dict[str, Any]], text: str) -> dict[str, Any] | None:
        prefix = text.removeprefix("sha256:")
        if len(prefix) < 4 or not set(prefix) <= set("0123456789abcdef"):
            return None
        matching = {
            _annotation(entry, CONFIG_DIGEST): entry
            for entry in entries
            if _annotation(entry, CONFIG_DIGEST).startswith(f"sha256:{prefix}")
        }
        return next(iter(matching.values())) if len(matching) == 1 else None

    def _match_reference(self, entries: list[dict[str, Any]], text: str) -> dict[str, Any] | None:
        try:
            reference = Reference.parse(text)
        except InvalidReference:
            if len(text) == 64 or text.startswith("sha256:"):
                return None
            raise
        for entry in entries:
            named = _annotation(entry, REF_NAME)
            if named == reference.canonical:
                return entry
            if reference.digest == entry["digest"] and named.startswith(f"{reference.name}:"):
                return entry
        return None

    def _unpack(self, image: Image, index: int) -> None:
        from specrun.store.layers import unpack_layer

        layers = self._manifest(image.manifest_digest)["layers"]
        if len(layers) != len(image.diff_ids):
            raise Damaged(f"image {image.id} has {len(layers)} layers and {len(image.diff_ids)} diff ids")
        with locked(self.root.lock("layers")):
            unpack_layer(self.root, self.blobs, layers[index]["digest"], image.diff_ids[index])


def _annotation(entry: dict[str, Any], key: str) -> str:
    return str(entry.get("annotations", {}).get(key, ""))


def _named(entries: list[dict[str, Any]], entry: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The entries with `name` standing for `entry`, and for nothing else."""
    kept = [other for other in entries if _annotation(other, REF_NAME) != name]
    return [*kept, {**entry, "annotations": {REF_NAME: name, **entry["annotations"]}}]


def _encode(document: dict[str, Any]) -> bytes:
    """JSON with one way to write it, so that equal documents have equal digests."""
    return jsontext.dumps(document, compact=True, sort_keys=True).encode()
