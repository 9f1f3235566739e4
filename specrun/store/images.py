"""Images: what `index.json` of the image layout lists, with the manifests and configurations behind it.

An image has an entry for each reference that stands for it, or one without a name: a dangling image, as a build
leaves it when its tag moves on. Three locks, always taken in this order: `uses` (held shared while a container
is made of an image), `images` (the index), and `store` (held shared while blobs and layers are stored that no
image names yet; nothing is freed meanwhile).
"""

from __future__ import annotations

import os

from specrun.errors import Damaged, NotFound, SpecrunError
from specrun.files import locked, write_atomic
from specrun.oci import digest as digests
from specrun.oci import platform
from specrun.oci.reference import InvalidReference, Reference
from specrun.store import committed
from specrun.store.blobs import BlobStore
from specrun_runtime import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from contextlib import AbstractContextManager
    from typing import Any

    from specrun.paths import Root
    from specrun.store.layers import Layer

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"

REF_NAME = "org.opencontainers.image.ref.name"
CONFIG_DIGEST = "io.specrun.config"
"""Annotation of ours in index.json: the digest of the configuration, which is Docker's image id."""
UNPACKED_SIZE = "io.specrun.size"
ASSEMBLED = "io.specrun.assembled"
"""Annotation of ours: the fingerprint of the request that an assembled image answers."""
PARENT = "io.specrun.parent"
"""Annotation of ours: the id of the image that this one was made from on this machine."""
HELD = "io.specrun.held"
"""Annotation of ours: removed by force while containers that do not run need its layers; nobody else sees it."""

MAX_LAYERS = 127
"""What overlayfs mounts, and Docker's own limit."""


class ImageNotFound(NotFound):
    """No image has that name or id."""

    code = "no-such-image"


class AmbiguousId(SpecrunError):
    """The beginning of an id that several images have."""

    code = "ambiguous-id"


class Image:
    """One image, with every reference that stands for it."""

    __slots__ = ("assembled", "config", "created", "diff_ids", "id", "manifest_digest", "parent", "references", "size")

    def __init__(self, config_digest: str, manifest_digest: str, config: dict[str, Any], size: int) -> None:
        self.id = config_digest
        self.manifest_digest = manifest_digest
        self.config = config
        self.size = size
        """Bytes of all layers, unpacked."""
        self.references: list[str] = []
        self.assembled = ""
        self.parent = ""
        """The id of the image that it was made from here; "" for one that came as a whole."""
        self.diff_ids: list[str] = list(config.get("rootfs", {}).get("diff_ids", []))
        self.created: str = config.get("created") or "1970-01-01T00:00:00Z"

    @property
    def chain_ids(self) -> list[str]:
        """A name for each layer with all that is below it (image specification, config.md, Layer ChainID)."""
        chain: list[str] = []
        for diff_id in self.diff_ids:
            chain.append(digests.of(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
        return chain


class ImageStore:
    """The images of one root."""

    def __init__(self, root: Root) -> None:
        self.root = root
        self.blobs = BlobStore(root.oci)

    def resolve(self, text: str) -> Image:
        """The image that `text` means: a reference, an id or the unambiguous beginning of one.

        Raises ImageNotFound, AmbiguousId and InvalidReference.
        """
        entries = self._entries()
        wanted = self._match_id(entries, text) or self._match_reference(entries, text)
        if wanted is None:
            raise ImageNotFound(
                f"No such image: {text}",
                hint="`specrun image assemble busybox` makes one from this host's packages, and so does an Image spec",
            )
        return self._image(wanted, entries)

    def is_id(self, text: str) -> bool:
        """Whether `text` means an image by its id, or by the beginning of it."""
        return self._match_id(self._entries(), text) is not None

    def all(self) -> list[Image]:
        """All images, the newest first."""
        entries = _visible(self._entries())
        by_id = {_annotation(entry, CONFIG_DIGEST): entry for entry in entries}
        images = [self._image(entry, entries) for entry in by_id.values()]
        return sorted(images, key=lambda image: image.created, reverse=True)

    def missing_layers(self, image_id: str) -> list[str]:
        """The layers of an image that have no unpacked folder, by diff id; none of an image that is not there."""
        try:
            image = self.resolve(image_id)
        except SpecrunError:
            return []
        folder = self.root.layers
        return [one for one in image.diff_ids if not committed.exists(f"{folder}/{digests.hex_of(one)}")]

    def lower_directories(self, image: Image) -> list[str]:
        """The unpacked layers, the topmost first; what is missing is unpacked now."""
        paths = []
        for index, diff_id in enumerate(image.diff_ids):
            path = f"{self.root.layers}/{digests.hex_of(diff_id)}"
            if committed.content_size(path) < 0:
                self._unpack(image, index)
            paths.append(f"{path}/fs")
        return list(dict.fromkeys(paths[::-1]))  # of equal layers the topmost hides the others; overlayfs wants one

    def layers(self, image: Image) -> list[Layer]:
        """The image's layers, the lowest first; the content size of one that is not unpacked is given as 0."""
        from specrun.store.layers import Layer, content_size

        described = self.manifest(image)["layers"]
        if len(described) != len(image.diff_ids):
            raise Damaged(f"image {image.id} has {len(described)} layers and {len(image.diff_ids)} diff ids")
        return [
            Layer(one["digest"], one["size"], one["mediaType"], diff_id, max(0, content_size(self.root, diff_id)))
            for one, diff_id in zip(described, image.diff_ids, strict=True)
        ]

    def manifest(self, image: Image) -> dict[str, Any]:
        """The image's manifest (image specification, manifest.md)."""
        return self._manifest(image.manifest_digest)

    def add(
        self, layers: Sequence[Layer], config: dict[str, Any], references: Iterable[Reference] = (), *, size: int = -1,
        assembled: str = "", parent: str = "", raw_config: str = "",
    ) -> Image:  # fmt: skip
        """Store a new image of stored `layers` (the lowest first) and let `references` stand for it.

        `size` is the bytes of all layers, unpacked (default: the sum of what they say). Call it while `adding()` is
        held, from before the first layer was stored. Adding the same image again adds the references. With
        `raw_config`, the digest of a stored blob, that is the configuration, byte by byte as it came.
        """
        if len(layers) > MAX_LAYERS:
            raise SpecrunError(f"an image of {len(layers)} layers: no more than {MAX_LAYERS} can be mounted")
        config_digest, config_size = raw_config, self.blobs.size(raw_config) if raw_config else 0
        if not raw_config:
            config_digest, config_size = self.blobs.put(_encode(config))
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": config_digest, "size": config_size},
            "layers": [{"mediaType": one.media_type, "digest": one.digest, "size": one.size} for one in layers],
        }
        manifest_digest, manifest_size = self.blobs.put(_encode(manifest))
        total = sum(one.content_size for one in layers) if size < 0 else size
        notes = {CONFIG_DIGEST: config_digest, UNPACKED_SIZE: str(total), ASSEMBLED: assembled, PARENT: parent}
        return self.enter(manifest_digest, manifest_size, notes, references)

    def derive(
        self, parent: Image | None, layers: Sequence[Layer], *, config: dict[str, Any], history: list[dict[str, Any]],
        created: str, author: str = "", comment: str = "", references: Iterable[Reference] = (),
    ) -> Image:  # fmt: skip
        """Store the image that `parent` becomes with `layers` on top, and `config` in the place of its own.

        `config` is the whole `config` object; `history` are the new entries (image specification, config.md), of
        which as many as there are `layers` have no `empty_layer`. `created` is an RFC 3339 time in UTC. Without
        a parent it is an image from scratch. Call it while `adding()` is held.
        """
        below = self.layers(parent) if parent else []
        document: dict[str, Any] = {"architecture": architecture(), "os": "linux"}
        if parent:
            document.update(parent.config)
            for left in ("container", "container_config", "docker_version", "id", "parent", "comment"):
                document.pop(left, None)
        document.update(
            created=created,
            config=config,
            rootfs={"type": "layers", "diff_ids": [one.diff_id for one in [*below, *layers]]},
            history=[*document.get("history", []), *history],
        )
        document.update({key: value for key, value in (("author", author), ("comment", comment)) if value})
        size = (parent.size if parent else 0) + sum(one.content_size for one in layers)
        return self.add([*below, *layers], document, references, size=size, parent=parent.id if parent else "")

    def enter(
        self, digest: str, size: int, notes: dict[str, str], references: Iterable[Reference], *,
        media_type: str = MANIFEST,
    ) -> Image:  # fmt: skip
        """List a stored manifest under `references`, or without a name. `notes` are annotations of ours.

        A reference that stood for another image leaves that one; what loses its last name so is dangling.
        """
        kept = {key: value for key, value in notes.items() if value}
        entry = {"mediaType": media_type, "digest": digest, "size": size, "annotations": kept}
        with locked(self.root.lock("images")):
            entries = self._entries()
            names = [reference.canonical for reference in references]
            for name in names or [""]:
                entries = _named(entries, entry, name)
            self._store(entries)
        return self._image(entry, entries)

    def take(self, image: Image, reference: Reference) -> None:
        """Let `reference` stand for an image whose blobs have been stored already."""
        notes = {
            CONFIG_DIGEST: image.id, UNPACKED_SIZE: str(image.size), ASSEMBLED: image.assembled, PARENT: image.parent
        }  # fmt: skip
        size = len(self.blobs.read(image.manifest_digest, 4 << 20))
        self.enter(image.manifest_digest, size, notes, [reference])

    def blobs_of(self, image: Image) -> list[str]:
        """The digests of all that the image consists of."""
        manifest = self._manifest(image.manifest_digest)
        return [image.manifest_digest, image.id, *(layer["digest"] for layer in manifest["layers"])]

    def untag(self, reference: Reference, *, dangling: bool = False) -> bool:
        """Take the reference away; whether it stood for an image.

        An image that loses its last reference goes, and what only it needed is freed (see `collect`), unless it
        may be left `dangling`. No container may use the image: the caller has looked.
        """
        with locked(self.root.lock("images")):
            entries = self._entries()
            name = reference.canonical
            gone = next((entry for entry in entries if _annotation(entry, REF_NAME) == name), None)
            if gone is None:
                return False
            left = [entry for entry in entries if entry is not gone]
            if dangling and not _has(left, _annotation(gone, CONFIG_DIGEST)):
                left.append(_unnamed(gone))
            self._store(left)
        self.collect()
        return True

    def remove(self, identity: str, *, hold: bool = False) -> bool:
        """Take the image with all its references away; whether it was there. `hold` keeps it for its containers.

        What only it needed is not freed yet: call `collect`.
        """
        with locked(self.root.lock("images")):
            entries = self._entries()
            gone = [entry for entry in entries if _annotation(entry, CONFIG_DIGEST) == identity]
            left = [entry for entry in entries if _annotation(entry, CONFIG_DIGEST) != identity]
            if gone and hold:
                entry = _unnamed(gone[0])
                entry["annotations"][HELD] = "true"
                left.append(entry)
            if gone:
                self._store(left)
            return bool(gone)

    def held(self) -> list[str]:
        """The ids of images that are kept for containers only."""
        return [_annotation(entry, CONFIG_DIGEST) for entry in self._entries() if _annotation(entry, HELD)]

    def adding(self) -> AbstractContextManager[int]:
        """Held while blobs are stored that no image names yet."""
        return locked(self.root.lock("store"), shared=True)

    def using(self, *, exclusive: bool = False) -> AbstractContextManager[int]:
        """Held while a container is made of an image; `exclusive` while one looks that no container needs it."""
        return locked(self.root.lock("uses"), shared=not exclusive)

    def collect(self) -> int:
        """Free the blobs and layers that no image needs; gives the bytes of the blobs.

        While somebody adds an image (`adding`) nothing is freed, and the next `collect` does it: -1.
        """
        with locked(self.root.lock("images")):
            try:
                with locked(self.root.lock("store"), wait=False):
                    return self._collect(self._entries())
            except BlockingIOError:
                return -1

    def verify(self) -> list[str]:
        """What is wrong with the store, a sentence each; [] when every blob is what its name says.

        Every image must have its manifest, its configuration and its layers' blobs, of the stated sizes.
        """
        problems = self.blobs.verify()
        for entry in self._entries():
            name = _annotation(entry, REF_NAME) or _annotation(entry, CONFIG_DIGEST) or entry["digest"]
            try:
                image = self._image(entry, [])
                described = self._manifest(entry["digest"])
            except Damaged as error:
                problems.append(f"{name}: {error.message}")
                continue
            if len(described["layers"]) != len(image.diff_ids):
                problems.append(f"{name}: {len(described['layers'])} layers, but {len(image.diff_ids)} diff ids")
            for one in [described["config"], *described["layers"]]:
                found = self.blobs.size(one["digest"])
                if found != one["size"]:
                    what = "is missing" if found < 0 else f"has {found} bytes, not {one['size']}"
                    problems.append(f"{name}: blob {one['digest']} {what}")
        return problems

    def fault(self, image: Image) -> str:
        """What is missing of the image, or of another size than it must be; "" when all is there. Reads no blob."""
        try:
            manifest = self.manifest(image)
        except Damaged as error:
            return error.message
        for one in [manifest["config"], *manifest["layers"]]:
            if self.blobs.size(one["digest"]) != one["size"]:
                return f"blob {one['digest'][:19]} of it is missing or cut short"
        return ""

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

    def _collect(self, entries: list[dict[str, Any]]) -> int:
        from specrun.store.layers import remove_layer, sweep

        blobs: set[str] = set()
        layers: set[str] = set()
        for entry in entries:
            manifest = self._manifest(entry["digest"])
            blobs.update((entry["digest"], manifest["config"]["digest"]))
            blobs.update(layer["digest"] for layer in manifest["layers"])
            layers.update(self._image(entry, []).diff_ids)
        for name in os.listdir(self.root.oci):
            if name.endswith(".draft"):  # of a killed command: the index is written under the lock that we hold
                os.unlink(f"{self.root.oci}/{name}")
        freed = self.blobs.keep_only(blobs)
        sweep(self.root)
        for name in os.listdir(self.root.layers):
            if f"sha256:{name}" not in layers and not name.startswith("."):
                remove_layer(self.root, name)
        return freed

    def _image(self, entry: dict[str, Any], entries: list[dict[str, Any]]) -> Image:
        config_digest = _annotation(entry, CONFIG_DIGEST) or self._manifest(entry["digest"])["config"]["digest"]
        config = jsontext.loads(self.blobs.read(config_digest))
        size = _annotation(entry, UNPACKED_SIZE)
        image = Image(config_digest, entry["digest"], config, int(size) if size.isdigit() else 0)
        image.parent = _annotation(entry, PARENT)
        image.assembled = _annotation(entry, ASSEMBLED)
        for other in entries:
            if _annotation(other, CONFIG_DIGEST) == config_digest:
                if name := _annotation(other, REF_NAME):
                    image.references.append(name)
                image.assembled = image.assembled or _annotation(other, ASSEMBLED)
        return image

    def _manifest(self, digest: str) -> dict[str, Any]:
        manifest: dict[str, Any] = jsontext.loads(self.blobs.read(digest, 4 << 20))
        return manifest

    def _match_id(self, entries: list[dict[str, Any]], text: str) -> dict[str, Any] | None:
        prefix = text.removeprefix("sha256:")
        if len(prefix) < 4 or not set(prefix) <= set("0123456789abcdef"):
            return None
        if len(prefix) < 64:  # only the engine, which knows whole ids, may use what is held
            entries = _visible(entries)
        matching = {
            _annotation(entry, CONFIG_DIGEST): entry
            for entry in entries
            if _annotation(entry, CONFIG_DIGEST).startswith(f"sha256:{prefix}")
        }
        if len(matching) > 1 and self._match_reference(entries, prefix) is None:
            raise AmbiguousId(f"{len(matching)} images have an id that begins with {text}", hint="give more of it")
        return next(iter(matching.values())) if len(matching) == 1 else None

    def _match_reference(self, entries: list[dict[str, Any]], text: str) -> dict[str, Any] | None:
        try:
            reference = Reference.parse(text).pinned
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

        layer = self.layers(image)[index]
        unpack_layer(self.root, self.blobs, layer.digest, layer.diff_id)


def architecture() -> str:
    """This machine's architecture, by the name that images have for it (Go's)."""
    return platform.host().removeprefix("linux/")


def _annotation(entry: dict[str, Any], key: str) -> str:
    return str(entry.get("annotations", {}).get(key, ""))


def _visible(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [entry for entry in entries if not _annotation(entry, HELD)]


def _has(entries: list[dict[str, Any]], identity: str) -> bool:
    return any(_annotation(entry, CONFIG_DIGEST) == identity for entry in entries)


def _unnamed(entry: dict[str, Any]) -> dict[str, Any]:
    notes = {key: value for key, value in entry.get("annotations", {}).items() if key != REF_NAME}
    return {**entry, "annotations": notes}


def _named(entries: list[dict[str, Any]], entry: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The entries with `name` standing for `entry` and for nothing else; "" only sees that it is there."""
    identity = _annotation(entry, CONFIG_DIGEST)
    if not name and _has(_visible(entries), identity):
        return entries
    kept = []
    loser = None
    for other in entries:
        if name and _annotation(other, REF_NAME) == name:
            loser = other
        elif _annotation(other, REF_NAME) or _annotation(other, CONFIG_DIGEST) != identity:
            kept.append(other)  # an entry of the same image without a name has done its duty
    names = {REF_NAME: name} if name else {}
    kept.append({**entry, "annotations": {**names, **entry["annotations"]}})
    if loser and not _has(kept, _annotation(loser, CONFIG_DIGEST)):
        kept.append(_unnamed(loser))
    return kept


def _encode(document: dict[str, Any]) -> bytes:
    """JSON with one way to write it, so that equal documents have equal digests."""
    return jsontext.dumps(document, compact=True, sort_keys=True).encode()
