"""Images as one file: written so that Docker, podman and OCI tools read it, read in Docker's form and in OCI's.

What is written is both forms at once, as newer Dockers write it: an OCI image layout whose blobs a manifest.json
of Docker's names too. What is read comes from strangers: every file is stored under the digest of what was read,
nothing is taken for what it says to be.
"""

from __future__ import annotations

import os

from specrun.errors import Damaged
from specrun.files import discard
from specrun.oci import digest as digests
from specrun.oci import documents
from specrun.oci.reference import InvalidReference, Reference
from specrun.store import tar
from specrun.store.compression import ZSTD, decompress, kind_of
from specrun.store.images import (
    CONFIG_DIGEST,
    INDEX,
    MANIFEST,
    REF_NAME,
    UNPACKED_SIZE,
    Image,
    ImageStore,
    architecture,
)
from specrun.store.layers import LAYER_GZIP, LAYER_TAR, LAYER_ZSTD, Layer, unpack_layer
from specrun.store.tar import BadArchive, Entry, Source
from specrun_runtime import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

_FULL_NAME = "io.containerd.image.name"
_CHUNK = 1 << 20
_MAX_FILES = 10_000
_MAX_DOCUMENT = 8 << 20
"""Bytes of a manifest or configuration."""
_MAX_DEPTH = 8
"""Indexes of indexes."""


def save(store: ImageStore, wanted: list[tuple[Image, list[Reference]]]) -> Iterator[bytes]:
    """The archive of images, each with the references that it shall have where it is loaded."""
    entries, listing = [], []
    blobs: dict[str, None] = {}
    for image, references in wanted:
        manifest = store.manifest(image)
        size = store.blobs.size(image.manifest_digest)
        kind = manifest.get("mediaType") or MANIFEST
        described = {"mediaType": kind, "digest": image.manifest_digest, "size": size}
        for reference in references:
            notes = {REF_NAME: reference.canonical, _FULL_NAME: reference.canonical}
            entries.append({**described, "annotations": notes})
        if not references:
            entries.append(described)
        layers = [layer["digest"] for layer in manifest["layers"]]
        blobs.update(dict.fromkeys([image.manifest_digest, image.id, *layers]))
        listing.append(
            {
                "Config": _blob_path(image.id),
                "RepoTags": [reference.familiar for reference in references if reference.tag] or None,
                "Layers": [_blob_path(digest) for digest in layers],
            }
        )
    yield _folder("blobs/") + _folder("blobs/sha256/")
    for digest in sorted(blobs):
        yield _header(_blob_path(digest), store.blobs.size(digest))
        yield from store.blobs.chunks(digest)
        yield bytes(-store.blobs.size(digest) % tar.BLOCK)
    yield _file("index.json", jsontext.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode())
    yield _file("manifest.json", jsontext.dumps(listing).encode())
    yield _file("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    yield bytes(2 * tar.BLOCK)


def _blob_path(digest: str) -> str:
    return f"blobs/sha256/{digests.hex_of(digest)}"


def _folder(name: str) -> bytes:
    entry = Entry(name, tar.FOLDER)
    entry.mode = 0o755
    return tar.header(entry)


def _header(name: str, size: int) -> bytes:
    entry = Entry(name, tar.REGULAR)
    entry.size = size
    return tar.header(entry)


def _file(name: str, data: bytes) -> bytes:
    return _header(name, len(data)) + data + bytes(-len(data) % tar.BLOCK)


def load(
    store: ImageStore, chunks: Iterable[bytes], news: Callable[[str], None], *, named: bool = True
) -> list[tuple[Image, list[Reference]]]:
    """Store the images of an archive, plain or compressed, and unpack their layers; `news` hears what goes on.

    Gives the images with the references that now stand for them, or that would if `named`. All images are complete
    and proven before the first reference changes. Raises BadArchive, and Damaged for what is not as its digest says.
    """
    with store.adding():
        files = _Files(store, Source(decompress(chunks)))
        try:
            found = _from_layout(files) if files.has("index.json") else _from_docker(files)
            if not found:
                raise BadArchive("there is no image in the archive")
            for one in found:
                one.unpack(store, news)
            return [one.enter(store, named=named) for one in found]
        finally:
            files.close()


class _Files:
    """The regular files of an archive, by their path: each is a draft among the blobs until it is taken."""

    def __init__(self, store: ImageStore, source: Source) -> None:
        self._store = store
        self._drafts: dict[str, tuple[str, str, int]] = {}
        self._links: dict[str, str] = {}
        os.makedirs(store.blobs.folder, mode=0o700, exist_ok=True)
        try:
            for entry in tar.read(source):
                self._read(entry, source)
        except BaseException:
            self.close()
            raise

    def _read(self, entry: Entry, source: Source) -> None:
        path = _plain(entry.name)
        if len(self._drafts) + len(self._links) >= _MAX_FILES:
            raise BadArchive(f"the archive has more than {_MAX_FILES} files")
        if entry.kind in (tar.LINK, tar.SYMLINK):
            base = "" if entry.kind == tar.LINK or entry.link.startswith("/") else os.path.dirname(path)
            self._links[path] = _plain(os.path.normpath(os.path.join(base, entry.link)))
        elif entry.kind == tar.REGULAR:
            if entry.segments is not None:
                raise BadArchive(f"{entry.name!r} is a sparse file")
            draft, digest = self._store.blobs.draft(_content(source, entry))
            if path in self._drafts:
                discard(self._drafts[path][0])
            self._drafts[path] = (draft, digest, entry.size)

    def has(self, path: str) -> bool:
        return self._resolve(path) in self._drafts

    def _resolve(self, path: str) -> str:
        """The file that a path means; Docker's own archives link layers to each other."""
        path = _plain(path)
        for _ in range(len(self._links) + 1):
            if path not in self._links:
                break
            path = self._links[path]
        return path

    def _draft(self, path: str) -> tuple[str, str, int]:
        try:
            return self._drafts[self._resolve(path)]
        except KeyError:
            raise BadArchive(f"the archive has no file {path!r}") from None

    def text(self, path: str) -> bytes:
        draft, _, size = self._draft(path)
        if size > _MAX_DOCUMENT:
            raise BadArchive(f"{path!r} has {size} bytes, more than {_MAX_DOCUMENT}")
        with open(draft, "rb") as file:
            return file.read()

    def beginning(self, path: str) -> bytes:
        with open(self._draft(path)[0], "rb") as file:
            return file.read(4)

    def digest(self, path: str) -> str:
        return self._draft(path)[1]

    def size(self, path: str) -> int:
        return self._draft(path)[2]

    def keep(self, path: str) -> tuple[str, int]:
        """Make the file a blob of the store; gives digest and size."""
        path = self._resolve(path)
        draft, digest, size = self._draft(path)
        blob = self._store.blobs.path(digest)
        if draft != blob:
            self._store.blobs.settle(draft, digest)
            self._drafts[path] = (blob, digest, size)
        return digest, size

    def close(self) -> None:
        """Remove what was not taken."""
        for draft, digest, _ in self._drafts.values():
            if draft != self._store.blobs.path(digest):
                discard(draft)


def _plain(path: str) -> str:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise BadArchive(f"{path!r} leads out of the archive")
    return "/".join(parts)


def _content(source: Source, entry: Entry) -> Iterator[bytes]:
    left = entry.size
    while left:
        part = source.some(min(left, _CHUNK))
        if not part:
            raise BadArchive(f"the archive ends in the middle of {entry.name!r}")
        left -= len(part)
        yield part


class _Loaded:
    """An image whose blobs are stored: its raw manifest, None where Docker's form has none."""

    def __init__(self, config: dict[str, Any], layers: list[Layer], names: list[str]) -> None:
        self.config = config
        self.layers = layers
        self.names = names
        self.manifest = ("", 0)
        self.config_digest = ""

    def unpack(self, store: ImageStore, news: Callable[[str], None]) -> None:
        """Unpack and so prove the layers."""
        for layer in self.layers:
            news(f"{layer.diff_id[7:19]}: Loading layer")
            layer.content_size = unpack_layer(store.root, store.blobs, layer.digest, layer.diff_id)

    def enter(self, store: ImageStore, *, named: bool) -> tuple[Image, list[Reference]]:
        """List it in the index."""
        references = [Reference.parse(name) for name in self.names]
        given = references if named else []
        if not self.manifest[0]:
            return store.add(self.layers, self.config, given, raw_config=self.config_digest), references
        notes = {
            CONFIG_DIGEST: self.config_digest,
            UNPACKED_SIZE: str(sum(layer.content_size for layer in self.layers)),
        }
        return store.enter(*self.manifest, notes, given), references


def _from_docker(files: _Files) -> list[_Loaded]:
    """Docker's form: manifest.json names the configuration and the layers by their paths."""
    if not files.has("manifest.json"):
        raise BadArchive(
            "neither index.json nor manifest.json is in the archive", hint="is it one of `save`? `import` takes others"
        )
    found = []
    for one in documents.docker_listing(files.text("manifest.json")):
        config = documents.image_config(files.text(one["Config"]), one["Config"])
        diff_ids = config["rootfs"]["diff_ids"]
        if len(diff_ids) != len(one["Layers"]):
            raise Damaged(
                f"{one['Config']}: {len(diff_ids)} diff ids, and {len(one['Layers'])} layers in manifest.json"
            )
        layers = []
        for path, diff_id in zip(one["Layers"], diff_ids, strict=True):
            kind = {"": LAYER_TAR, ZSTD: LAYER_ZSTD}.get(kind_of(files.beginning(path)), LAYER_GZIP)
            layers.append(Layer(*files.keep(path), kind, diff_id, 0))
        loaded = _Loaded(config, layers, [_reference(name) for name in one.get("RepoTags") or []])
        loaded.config_digest, _ = files.keep(one["Config"])
        found.append(loaded)
    return found


def _from_layout(files: _Files) -> list[_Loaded]:
    """OCI's form: index.json leads to manifests by digest. Docker's listing gives the names where it is there too."""
    if files.has("oci-layout"):
        documents.layout(files.text("oci-layout"))
    names: dict[str, list[str]] = {}
    if files.has("manifest.json"):
        for one in documents.docker_listing(files.text("manifest.json")):
            if files.has(one["Config"]):
                names[files.digest(one["Config"])] = [_reference(name) for name in one.get("RepoTags") or []]
    found: dict[str, _Loaded] = {}
    for described in documents.index(files.text("index.json"), "index.json")["manifests"]:
        for one in _manifests(files, described, 0):
            loaded = _from_manifest(files, one)
            notes = described.get("annotations") or {}
            name = notes.get(_FULL_NAME) or notes.get(REF_NAME) or ""
            known = found.setdefault(loaded.manifest[0], loaded)
            known.names = list(dict.fromkeys([*known.names, *names.get(loaded.config_digest, []), *_full(name)]))
    return list(found.values())


def _manifests(files: _Files, described: dict[str, Any], depth: int) -> list[dict[str, Any]]:
    """The manifest for this machine that a descriptor leads to; none where an index has only others."""
    if depth > _MAX_DEPTH:
        raise BadArchive(f"indexes of indexes, more than {_MAX_DEPTH} deep")
    platform = described.get("platform") or {}
    if platform and (platform.get("os"), platform.get("architecture")) != ("linux", architecture()):
        return []
    if not documents.is_index(described["mediaType"]):
        return [described]
    inner = documents.index(_blob(files, described), described["digest"])["manifests"]
    fitting = [found for one in inner for found in _manifests(files, one, depth + 1)]
    return fitting[:1]


def _from_manifest(files: _Files, described: dict[str, Any]) -> _Loaded:
    manifest = documents.manifest(_blob(files, described), described["digest"])
    config = documents.image_config(_blob(files, manifest["config"]), manifest["config"]["digest"])
    diff_ids = config["rootfs"]["diff_ids"]
    if len(diff_ids) != len(manifest["layers"]):
        raise Damaged(f"{described['digest']}: {len(diff_ids)} diff ids, and {len(manifest['layers'])} layers")
    layers = []
    for one, diff_id in zip(manifest["layers"], diff_ids, strict=True):
        _blob_check(files, one)
        layers.append(Layer(*files.keep(_blob_path(one["digest"])), one["mediaType"], diff_id, 0))
    loaded = _Loaded(config, layers, [])
    loaded.config_digest, _ = files.keep(_blob_path(manifest["config"]["digest"]))
    loaded.manifest = files.keep(_blob_path(described["digest"]))
    return loaded


def _blob(files: _Files, described: dict[str, Any]) -> bytes:
    _blob_check(files, described)
    return files.text(_blob_path(described["digest"]))


def _blob_check(files: _Files, described: dict[str, Any]) -> None:
    """A blob is what its descriptor says, in digest and size."""
    path = _blob_path(described["digest"])
    found = files.digest(path)
    if found != described["digest"]:
        raise Damaged(f"{path} is damaged: its digest is {found}")
    if files.size(path) != described["size"]:
        raise Damaged(f"{path} has {files.size(path)} bytes, and its descriptor says {described['size']}")


def _reference(text: str) -> str:
    return Reference.parse(text).canonical


def _full(name: str) -> list[str]:
    """The name of an annotation where it is a whole one; a bare tag, as some tools write, names no repository."""
    if "/" not in name and ":" not in name:
        return []
    try:
        return [Reference.parse(name).canonical]
    except InvalidReference:
        return []
