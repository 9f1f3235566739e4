"""Pulling: a reference becomes an image of the store.

Blobs are fetched several at a time and unpacked while they come. What has come is kept, so that a cut, or a kill,
costs little; nothing gets a name in the store before it is proven to be what its digest says.
"""

from __future__ import annotations

import hashlib
import os

from specrun.errors import SpecrunError
from specrun.oci.reference import Reference
from specrun.registry.client import Client, RegistryError
from specrun.registry.download import Blob, Download, Restarted
from specrun.registry.hosts import mirrors
from specrun.registry.lanes import Lanes
from specrun.registry.leftovers import forget_old
from specrun.registry.protocol import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    MAX_CONFIG,
    MAX_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    InvalidDocument,
    Manifest,
    parse_json,
    quiet,
)
from specrun.store.images import CONFIG_DIGEST, MAX_LAYERS, UNPACKED_SIZE, ImageNotFound, ImageStore, architecture
from specrun.store.layers import DiskFull, content_size, unpack_stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from specrun.paths import Root
    from specrun.store.images import Image

    News = Callable[[str, str, int, int], None]
    """Told of a layer's id, what happens to it, and how many bytes of how many are done (0, 0: all or none)."""

ACCEPTED = ", ".join((OCI_MANIFEST, DOCKER_MANIFEST, OCI_INDEX, DOCKER_LIST))
PARALLEL = 3


class Pulled:
    """What came of it."""

    __slots__ = ("digest", "image", "new")

    def __init__(self, image: Image, digest: str, new: bool) -> None:
        self.image = image
        self.digest = digest
        """Of what the reference stands for at the registry: an index, perhaps."""
        self.new = new
        """Whether anything is otherwise than before."""


class Source:
    """A repository at one endpoint: the registry itself, or a mirror."""

    __slots__ = ("client", "path", "scope")

    def __init__(self, client: Client, path: str) -> None:
        self.client = client
        self.path = client.endpoint.prefix + path
        self.scope = f"repository:{self.path}:pull"


def sources(reference: Reference, *, verify: bool = True) -> list[Source]:
    """Whom to ask for an image, the first one first: mirrors, then the registry. Raises SettingsError."""
    clients = [Client(one.domain, endpoint=one) for one in mirrors(reference.domain)]
    for client in clients:
        client.attempts = 2  # somebody else has it too
    clients.append(Client(reference.domain, verify=verify))
    return [Source(client, reference.path) for client in clients]


def pull(root: Root, reference: Reference, *, verify: bool = True, platform: str = "", news: News = quiet) -> Pulled:
    """Have the image that `reference` stands for at its registry, or at a mirror.

    Raises RegistryError, InvalidDocument for what no image is, and DiskFull.
    """
    store, reference = ImageStore(root), reference.pinned
    places = sources(reference, verify=verify)
    digest, manifest = find_manifest(places, reference, reference.digest or reference.tag)
    named = digest
    if manifest.is_index:
        chosen = choose(manifest, platform)
        digest, manifest = find_manifest(places, reference, chosen.digest, chosen)
        if manifest.is_index:
            raise InvalidDocument(f"{reference.familiar}: the index names another index for this platform")
    if manifest.config is None or len(manifest.layers) > MAX_LAYERS:
        raise InvalidDocument(f"{reference.canonical} is not an image that can be run: {len(manifest.layers)} layers")
    try:
        before = store.resolve(reference.canonical).manifest_digest
    except ImageNotFound:
        before = ""
    with store.adding():
        fetch = _Fetch(root, store, places, reference, news)
        config = fetch.config(manifest.config)
        diff_ids = _diff_ids(config, manifest)
        _check_platform(config, platform, reference)
        fetch.layers(manifest.layers, diff_ids)
        put, _ = store.blobs.put(manifest.raw)
        if put != digest:
            raise RegistryError(f"{reference.canonical}: the manifest is not the one that was asked for")
        total = sum(max(0, content_size(root, diff_id)) for diff_id in diff_ids)
        notes = {CONFIG_DIGEST: manifest.config.digest, UNPACKED_SIZE: str(total)}
        image = store.enter(digest, len(manifest.raw), notes, [reference], media_type=manifest.media_type)
    return Pulled(image, named, before != digest)


def digest_of(reference: Reference, *, verify: bool = True) -> str:
    """The digest that a reference stands for at its registry now; "" where it has none. Raises RegistryError."""
    source = Source(Client(reference.domain, verify=verify), reference.path)
    try:
        digest, _ = _manifest(source, reference, reference.digest or reference.tag)
    except RegistryError as error:
        if error.status == 404:
            return ""
        raise
    return digest


def find_manifest(
    places: list[Source], reference: Reference, wanted: str, described: Descriptor | None = None
) -> tuple[str, Manifest]:
    """Digest and manifest of the first source that has it. Raises RegistryError of the last one."""
    for source in places[:-1]:
        try:
            return _manifest(source, reference, wanted, described)
        except (RegistryError, InvalidDocument):
            continue  # the registry itself may know better
    return _manifest(places[-1], reference, wanted, described)


def _manifest(
    source: Source, reference: Reference, wanted: str, described: Descriptor | None = None
) -> tuple[str, Manifest]:
    """Digest and manifest; the digest is of the bytes that came, whatever a header says."""
    client = source.client
    path = f"/v2/{source.path}/manifests/{wanted}"
    try:
        raw, answer = client.document(path, scope=source.scope, most=MAX_MANIFEST, headers={"Accept": ACCEPTED})
    except RegistryError as error:
        if error.status == 404:
            raise RegistryError(
                f"manifest for {reference.familiar} not found: manifest unknown", status=404,
                hint="is the name right?",
            ) from error  # fmt: skip
        raise
    if len(raw) > MAX_MANIFEST:
        raise InvalidDocument(f"the manifest of {reference.familiar} is larger than {MAX_MANIFEST} bytes")
    algorithm = wanted.partition(":")[0] if ":" in wanted else "sha256"
    digest = f"{algorithm}:{hashlib.new(algorithm, raw).hexdigest()}"
    if ":" in wanted and digest != wanted:
        raise RegistryError(f"{client.host} sent a manifest that is not {wanted}")
    if described and described.size != len(raw):
        raise RegistryError(f"{client.host}: the manifest {wanted} has {len(raw)} bytes, not {described.size}")
    return digest, Manifest(raw, answer.headers.get("Content-Type", ""))


def choose(index: Manifest, platform: str = "") -> Descriptor:
    """What an index has for a platform, OS/ARCHITECTURE[/VARIANT], by default this machine's. Raises RegistryError."""
    wanted = platform or f"linux/{architecture()}"
    system, machine, variant = (*wanted.split("/"), "", "")[:3]
    there, found = [], None
    for child in index.children:
        about = child.document.get("platform")
        about = about if isinstance(about, dict) else {}
        name = "/".join(str(about[key]) for key in ("os", "architecture", "variant") if about.get(key))
        there.append(name or "unnamed")
        if (about.get("os"), about.get("architecture")) != (system, machine):
            continue
        if variant and about.get("variant", variant) != variant:
            continue
        found = found or child
    if found:
        return found
    listed = ", ".join(there[:20]) or "nothing"
    raise RegistryError(f"no matching manifest for {wanted} in the manifest list entries: {listed}")


def _check_platform(config: bytes, platform: str, reference: Reference) -> None:
    """An image without an index has one platform, which may not be the one that was asked for."""
    if not platform:
        return
    document = parse_json(config)
    found = f"{document.get('os', '')}/{document.get('architecture', '')}"
    if found != "/".join(platform.split("/")[:2]):
        raise RegistryError(
            f"image with reference {reference.familiar} was found but does not match the specified platform: "
            f"wanted {platform}, actual: {found[:60]}"
        )


def _diff_ids(config: bytes, manifest: Manifest) -> list[str]:
    document = parse_json(config)
    rootfs = document.get("rootfs")
    found = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(found, list) or len(found) != len(manifest.layers) or not all(map(_is_text, found)):
        raise InvalidDocument("the configuration's diff_ids do not fit the manifest's layers")
    return found


def _is_text(value: object) -> bool:
    return isinstance(value, str)


class _Fetch:
    """The blobs of one image, into the store."""

    def __init__(self, root: Root, store: ImageStore, places: list[Source], reference: Reference, news: News) -> None:
        forget_old(f"{root.path}/pulls")
        self.root = root
        self.store = store
        self.places = places
        self.reference = reference
        self.news = news

    def config(self, wanted: Descriptor) -> bytes:
        """The configuration."""
        if wanted.size > MAX_CONFIG:
            raise InvalidDocument(f"the configuration is larger than {MAX_CONFIG} bytes")
        self._download(wanted, quiet).run()
        return self.store.blobs.read(wanted.digest, MAX_CONFIG)

    def layers(self, wanted: list[Descriptor], diff_ids: list[str]) -> None:
        """Fetch all of them, some at a time, and unpack each, the lowest first, while it comes.

        A blob that stands there twice is fetched once.
        """
        self._look_at_the_disk(wanted)
        downloads: dict[str, Download] = {}
        for layer in wanted:
            if layer.digest not in downloads:
                downloads[layer.digest] = self._download(layer, self.news)
                if not downloads[layer.digest].is_there():
                    self.news(downloads[layer.digest].short, "Pulling fs layer", 0, 0)
        with Lanes([one.run for one in downloads.values()], PARALLEL) as lanes:
            try:
                for layer, diff_id in zip(wanted, diff_ids, strict=True):
                    self._unpack(downloads[layer.digest], diff_id)
                lanes.wait()
            except BaseException:
                for download in downloads.values():
                    download.cancel()
                raise

    def _unpack(self, download: Download, diff_id: str) -> None:
        """While it comes, or afterwards, when what came first was void."""
        there = download.is_there()
        if content_size(self.root, diff_id) < 0:
            try:
                plain = diff_id == download.blob.digest  # then it need not be hashed twice
                unpack_stream(self.root, download.chunks(), diff_id, proof=download.wait_for_proof if plain else None)
            except (SpecrunError, Restarted) as error:
                if not download.doubtful and not isinstance(error, Restarted):
                    download.blame(error)
                    raise
                download.wait()  # it may have begun anew, or elsewhere: only now it is proven
                unpack_stream(self.root, self.store.blobs.chunks(download.blob.digest), diff_id)
        download.wait()
        self.news(download.short, "Already exists" if there else "Pull complete", 0, 0)

    def _download(self, wanted: Descriptor, news: News) -> Download:
        blob = Blob(wanted.digest, wanted.size, wanted.urls if wanted.foreign else [])
        return Download(self.root, self.store.blobs, self.places, blob, self.reference.familiar, news)

    def _look_at_the_disk(self, wanted: list[Descriptor]) -> None:
        """What can't fit is not begun with."""
        missing = {one.digest: one.size for one in wanted if self.store.blobs.size(one.digest) != one.size}
        disk = os.statvfs(self.root.path)
        needed, free = sum(missing.values()), disk.f_bavail * disk.f_frsize
        if needed > free:
            raise DiskFull(
                f"{self.reference.familiar} has {needed >> 20} MiB of layers, the disk {free >> 20} MiB free"
            )
