"""Caches that go from one store to another: a folder, an artifact that a registry keeps like an image, or an image.

In all of them the records of steps stand beside the layers that they name; in an image, in its configuration, if it was
built so (`type=inline`). What comes from there is taken by a step's key only, and each layer is proven to be what its
digests say; whatever an image's history claims is no record, and no image is looked into that nobody has named.
"""

from __future__ import annotations

import fcntl
import os

from specrun.errors import Damaged, SpecrunError, UsageError
from specrun.files import discard, write_atomic
from specrun.oci import digest as digests
from specrun.oci.reference import Reference
from specrun.store.layers import LAYER_GZIP, LAYER_TAR, LAYER_ZSTD, Layer
from specrun_runtime import jsontext
from specrun_runtime.fds import Fd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from specrun.build.layering import LayerStore

    Steps = dict[str, "Record"]

CONFIG = "application/vnd.specrun.buildcache.v1+json"
"""The media type of an artifact's configuration, which holds the records."""
INLINE = "specrun.buildcache.v1"
"""The key of an image's configuration that holds the records of its steps."""
VERSION = 1
_BUILDKIT, _BUILDKIT_INLINE = "application/vnd.buildkit.cacheconfig.v0", "moby.buildkit.cache.v0"
"""How BuildKit's caches are known."""
_KEYS = {"local": ("dest", "src", "mode"), "registry": ("ref", "mode", "ignore-error"), "inline": ()}
_PARALLEL = 3
_LONGEST_TIME = 40
"""Letters of a time as RFC 3339 has it, and some more."""


class Record:
    """A finished step: when it was made, and its layer or None."""

    __slots__ = ("created", "layer")

    def __init__(self, created: str, layer: Layer | None) -> None:
        self.created = created
        self.layer = layer

    def document(self) -> dict[str, Any]:
        """As it is written down."""
        layer = {name: getattr(self.layer, name) for name in Layer.__slots__} if self.layer else None
        return {"created": self.created, "layer": layer}

    @classmethod
    def parse(cls, document: Any) -> Record | None:
        """The record that a document is of; None for one that is of none."""
        try:
            found = document["layer"]
            layer = Layer(**found) if found else None
            created = document["created"]
        except (KeyError, TypeError):
            return None
        if not isinstance(created, str) or len(created) > _LONGEST_TIME or (layer and not _is_sound(layer)):
            return None
        return cls(created, layer)


def _is_sound(layer: Layer) -> bool:
    sizes = (layer.size, layer.content_size)
    return (
        all(isinstance(one, str) and digests.is_digest(one) for one in (layer.digest, layer.diff_id))
        and all(isinstance(size, int) and size >= 0 for size in sizes)
        and layer.media_type in (LAYER_TAR, LAYER_GZIP, LAYER_ZSTD)
    )


class Place:
    """Where a cache is, as `--cache-from` and `--cache-to` name it."""

    __slots__ = ("all_stages", "folder", "inline", "lenient", "reference")

    def __init__(self, text: str, resolve: Callable[[str], str] = str) -> None:
        """`resolve` makes a path absolute. Raises UsageError and InvalidReference."""
        fields = _fields(text, resolve)
        self.folder = resolve(fields["path"]) if fields["type"] == "local" else ""
        self.reference = Reference.parse(fields["ref"]) if fields["type"] == "registry" else None
        self.inline = fields["type"] == "inline"
        """In the image itself."""
        self.all_stages = not self.inline and fields.get("mode", "max") == "max"
        """Whether the steps of all stages are exported; else of those only that the image consists of."""
        self.lenient = fields.get("ignore-error", "false") == "true"
        """Whether a build succeeds although its cache could not be exported."""

    def __str__(self) -> str:
        return self.reference.familiar if self.reference else self.folder or "type=inline"

    def open(self, store: LayerStore) -> Exchange:
        """The cache there. Raises UsageError for one that can only be written."""
        if self.inline:
            raise UsageError("type=inline is for --cache-to", hint="--cache-from IMAGE names an image that has it")
        return RegistryCache(store, self.reference) if self.reference else FolderCache(store, self.folder)


def _fields(text: str, resolve: Callable[[str], str]) -> dict[str, str]:
    """`type=...,key=value`; or a folder, by its path, or a reference as BuildKit takes one."""
    if not text.startswith("type="):
        is_path = text.startswith(("/", ".", "~")) or os.path.isdir(resolve(text))
        return {"type": "local", "path": text} if is_path else {"type": "registry", "ref": text}
    fields = dict(field.partition("=")[::2] for field in text.split(","))
    kind = fields["type"]
    if kind not in _KEYS:
        raise UsageError(f"a cache of type {kind} is not supported", hint="type=local, type=registry or type=inline")
    for key in fields:
        if key != "type" and key not in _KEYS[kind]:
            known_keys = ", ".join(_KEYS[kind]) or f"type={kind} has no keys"
            raise UsageError(f"the key {key} of a cache is not supported: {text}", hint=known_keys)
    if kind == "local":
        fields["path"] = fields.get("dest") or fields.get("src", "")
    if kind != "inline" and not fields.get("path" if kind == "local" else "ref"):
        raise UsageError(f"where is the cache of {text!r}?", hint=f"type={kind},{_KEYS[kind][0]}=...")
    for key, known in (("mode", ("min", "max")), ("ignore-error", ("true", "false"))):
        if fields.get(key, known[0]) not in known:
            raise UsageError(f"{key}={fields[key]} of a cache is not known", hint=" or ".join(known))
    return fields


class Exchange:
    """A cache that others read and write."""

    def __init__(self, store: LayerStore) -> None:
        self.store = store
        self.complaint = ""
        """Why it cannot be used, once."""

    def find(self, key: str) -> Record | None:
        """The record of a step, if there is one."""
        raise NotImplementedError

    def fetch(self, layer: Layer) -> bool:
        """Have the layer's blob in the store; whether it could be had. Raises Damaged."""
        raise NotImplementedError

    def export(self, steps: Steps) -> None:
        """Write the records, and the layers that they name. Raises SpecrunError."""
        raise NotImplementedError


class FolderCache(Exchange):
    """`steps/<key>.json` beside `blobs/<digest>`."""

    def __init__(self, store: LayerStore, folder: str) -> None:
        super().__init__(store)
        self.folder = folder

    def find(self, key: str) -> Record | None:
        """Read `steps/<key>.json`."""
        return load(f"{self.folder}/steps/{key}.json")

    def fetch(self, layer: Layer) -> bool:
        """Copy the blob."""
        blob = f"{self.folder}/blobs/{digests.hex_of(layer.digest)}"
        try:
            with open(blob, "rb") as file:
                digest, _ = self.store.blobs.put_stream(iter(lambda: file.read(1 << 20), b""))
        except FileNotFoundError:
            return False
        if digest != layer.digest:
            raise Damaged(f"the cache {self.folder} is damaged: {blob} is not what its name says")
        return True

    def export(self, steps: Steps) -> None:
        """Add to what is there, when no other export does; one that was killed has left drafts, which go."""
        for name in ("steps", "blobs"):
            os.makedirs(f"{self.folder}/{name}", exist_ok=True)
        with Fd(os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as folder:
            fcntl.flock(folder.number, fcntl.LOCK_EX)
            self._sweep()
            for key, record in steps.items():
                if record.layer:
                    target = f"{self.folder}/blobs/{digests.hex_of(record.layer.digest)}"
                    if not os.path.exists(target):
                        _copy(self.store.blobs.path(record.layer.digest), target)
                write_atomic(f"{self.folder}/steps/{key}.json", jsontext.dumps(record.document()).encode(), mode=0o644)

    def _sweep(self) -> None:
        for folder in ("steps", "blobs"):
            for name in os.listdir(f"{self.folder}/{folder}"):
                if name.endswith(".draft"):
                    discard(f"{self.folder}/{folder}/{name}")


def records_of(steps: Steps) -> dict[str, Any]:
    """As a configuration holds them."""
    return {"version": VERSION, "steps": {key: record.document() for key, record in steps.items()}}


class RegistryCache(Exchange):
    """An OCI manifest whose configuration holds the records; its layers are those of the steps. Or an image with them.

    An image of that name in the store that has records is taken for the one in the registry.
    """

    def __init__(self, store: LayerStore, reference: Reference) -> None:
        super().__init__(store)
        self.reference = reference
        self._steps: dict[str, Any] | None = None

    def find(self, key: str) -> Record | None:
        """Look it up in the configuration, which is fetched once."""
        if self._steps is None:
            self._steps = {}
            try:
                self._steps = self._load()
            except SpecrunError as error:
                self.complaint = error.message
        return Record.parse(self._steps[key]) if key in self._steps else None

    def _load(self) -> dict[str, Any]:
        from specrun.registry.protocol import InvalidDocument
        from specrun.store.images import ImageStore

        name = self.reference.familiar
        try:
            document = ImageStore(self.store.root).resolve(self.reference.canonical).config
        except SpecrunError:
            document = {}
        if INLINE not in document:
            document = self._configuration()
        if _BUILDKIT_INLINE in document and INLINE not in document:
            raise InvalidDocument(f"the cache in {name} is BuildKit's own ({_BUILDKIT_INLINE}), which is not read")
        records = document.get(INLINE) if "rootfs" in document else document
        if not isinstance(records, dict):
            raise InvalidDocument(
                f"{name} is no cache that specrun has written, nor an image with one in it (--cache-to type=inline)"
            )
        steps = records.get("steps")
        if records.get("version") != VERSION or not isinstance(steps, dict):
            raise InvalidDocument(f"{name} is of another version of specrun")
        return steps

    def _configuration(self) -> dict[str, Any]:
        """Of the artifact, or the image, in the registry."""
        from specrun.registry.protocol import MAX_CONFIG, InvalidDocument, parse_json
        from specrun.registry.pull import choose, find_manifest, sources

        reference = self.reference.pinned
        places, name = sources(reference), reference.familiar
        _, manifest = find_manifest(places, reference, reference.digest or reference.tag)
        if _BUILDKIT in [child.media_type for child in (manifest.config, *manifest.children) if child]:
            raise InvalidDocument(f"{name} is a cache in BuildKit's own format ({_BUILDKIT}), which is not read")
        if manifest.is_index:
            chosen = choose(manifest)
            _, manifest = find_manifest(places, reference, chosen.digest, chosen)
        if manifest.config is None:
            raise InvalidDocument(f"{name} is no cache that specrun has written")
        if manifest.config.size > MAX_CONFIG:
            raise InvalidDocument(f"the records of {name} are larger than {MAX_CONFIG} bytes")
        digest = manifest.config.digest
        there = self.store.blobs.has(digest)
        self._download(digest, manifest.config.size)
        document = parse_json(self.store.blobs.read(digest, MAX_CONFIG))
        if not there:
            os.unlink(self.store.blobs.path(digest))  # no image names it
        return document

    def fetch(self, layer: Layer) -> bool:
        """Download the blob."""
        try:
            self._download(layer.digest, layer.size)
        except Damaged:
            raise
        except SpecrunError as error:
            self.complaint = error.message
            return False
        return True

    def _download(self, digest: str, size: int) -> None:
        from specrun.registry.download import Blob, Download
        from specrun.registry.protocol import quiet
        from specrun.registry.pull import sources

        name = self.reference.familiar
        Download(self.store.root, self.store.blobs, sources(self.reference), Blob(digest, size), name, quiet).run()

    def export(self, steps: Steps) -> None:
        """Push the layers that the repository lacks, then the records, then the manifest, which takes the tag over."""
        from concurrent.futures import ThreadPoolExecutor

        from specrun.registry.client import Client
        from specrun.registry.protocol import OCI_MANIFEST, Descriptor
        from specrun.registry.upload import Uploads

        path, blobs = self.reference.path, self.store.blobs
        scope = f"repository:{path}:pull,push"
        client = Client(self.reference.domain)
        uploads = Uploads(self.store.root, blobs, client, path, scope)

        def send(media_type: str, digest: str, size: int) -> dict[str, Any]:
            document = {"mediaType": media_type, "digest": digest, "size": size}
            if not uploads.has(digest):
                uploads.send(Descriptor.parse(document, "a layer"), lambda _: None)
            return document

        layers = {record.layer.digest: record.layer for record in steps.values() if record.layer}
        with ThreadPoolExecutor(_PARALLEL) as pool:
            sent = list(pool.map(lambda one: send(one.media_type, one.digest, one.size), layers.values()))
        digest, size = blobs.put(jsontext.dumps(records_of(steps), sort_keys=True).encode())
        try:
            config = send(CONFIG, digest, size)
        finally:
            os.unlink(blobs.path(digest))  # no image names it
        manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": sent}
        client.request(
            "PUT", f"/v2/{path}/manifests/{self.reference.tag}", scope=scope, headers={"Content-Type": OCI_MANIFEST},
            body=lambda: jsontext.dumps(manifest).encode(), expected=(201, 202),
        )  # fmt: skip


def load(path: str) -> Record | None:
    """A record's file; None for one that is not there or cannot be read, which is a step that was not made."""
    try:
        with open(path, "rb") as file:
            return Record.parse(jsontext.loads(file.read()))
    except (OSError, ValueError):
        return None


def _copy(source: str, target: str) -> None:
    draft = f"{target}.{os.urandom(4).hex()}.draft"
    with open(source, "rb") as reader, open(draft, "xb") as writer:
        while data := reader.read(1 << 20):
            writer.write(data)
        writer.flush()
        os.fsync(writer.fileno())
    os.rename(draft, target)
