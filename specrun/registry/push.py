"""Pushing: the blobs that the registry lacks, then the manifest, whose digest is the image's own."""

from __future__ import annotations

from functools import partial

from specrun.errors import Damaged, SpecrunError
from specrun.oci.reference import Reference
from specrun.registry.client import Client, RegistryError
from specrun.registry.lanes import Lanes
from specrun.registry.listing import announce
from specrun.registry.protocol import MAX_MANIFEST, Descriptor, Manifest, quiet
from specrun.registry.upload import Uploads
from specrun.store.images import ImageStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.paths import Root
    from specrun.registry.pull import News
    from specrun.store.images import Image

PARALLEL = 3
MOST_SOURCES = 3
"""Repositories that are asked to lend a blob."""


def push(
    root: Root, reference: Reference, *, image: str = "", verify: bool = True, news: News = quiet
) -> tuple[str, int]:
    """Push `image` (by default, what `reference` stands for) to the registry; gives digest and size of its manifest.

    Raises RegistryError, and Damaged for a store that has not what the image consists of.
    """
    store, client = ImageStore(root), Client(reference.domain, verify=verify)
    scope = f"repository:{reference.path}:pull,push"
    with store.using():
        found = store.resolve(image or reference.canonical)
        raw = store.blobs.read(found.manifest_digest, MAX_MANIFEST)
        manifest = Manifest(raw, "")
        if manifest.config is None:
            raise Damaged(f"image {found.id} has no configuration")
        sender = _Sender(store, Uploads(root, store.blobs, client, reference.path, scope), reference, news)
        names = dict(zip([layer.digest for layer in manifest.layers], found.diff_ids, strict=True))
        layers = {layer.digest: layer for layer in manifest.layers if not layer.foreign}
        for layer in reversed(layers.values()):
            news(_short(names[layer.digest]), "Preparing", 0, 0)
        jobs = [partial(sender.send, layer, _short(names[layer.digest])) for layer in reversed(layers.values())]
        with Lanes([*jobs, partial(sender.send, manifest.config, "")], PARALLEL) as lanes:
            try:
                lanes.wait()
            except BaseException:
                sender.stopped = True
                raise
        _put_manifest(client, reference.path, reference.tag or found.manifest_digest, manifest, found, scope)
    return found.manifest_digest, len(raw)


def _put_manifest(client: Client, path: str, name: str, manifest: Manifest, image: Image, scope: str) -> None:
    answer = client.request(
        "PUT", f"/v2/{path}/manifests/{name}", scope=scope, headers={"Content-Type": manifest.media_type},
        body=lambda: manifest.raw, expected=(201, 202),
    )  # fmt: skip
    told = answer.headers.get("Docker-Content-Digest", image.manifest_digest)
    if told != image.manifest_digest and told.startswith("sha256:"):
        raise RegistryError(f"{client.host} has stored {told[:80]}, and not {image.manifest_digest}")
    if manifest.subject and "OCI-Subject" not in answer.headers:
        announce(client, path, scope, manifest, image.manifest_digest)


def _short(diff_id: str) -> str:
    return diff_id.partition(":")[2][:12]


class _Sender:
    """The blobs of one image."""

    def __init__(self, store: ImageStore, uploads: Uploads, reference: Reference, news: News) -> None:
        self.uploads = uploads
        self.news = news
        self.stopped = False
        self._store = store
        self._reference = reference
        self._lenders: dict[str, list[str]] | None = None

    def send(self, blob: Descriptor, name: str) -> None:
        """Let the registry have the blob; the news is of `name`, and Docker's word for how."""
        if self.stopped:
            return

        def tell(sent: int) -> None:
            if self.stopped:
                raise SpecrunError("another layer could not be pushed")
            if name:
                self.news(name, "Pushing", sent, blob.size)

        if self.uploads.has(blob.digest):
            word = "Layer already exists"
        elif source := next((one for one in self._sources(blob.digest) if self.uploads.mount(blob.digest, one)), ""):
            word = f"Mounted from {source}"
        else:
            self.uploads.send(blob, tell)
            word = "Pushed"
        if name:
            self.news(name, word, 0, 0)

    def _sources(self, digest: str) -> list[str]:
        """Other repositories of the same registry that have the blob, as far as our own store knows."""
        if self._lenders is None:
            self._lenders = self._find_lenders()
        return self._lenders.get(digest, [])[:MOST_SOURCES]

    def _find_lenders(self) -> dict[str, list[str]]:
        lenders: dict[str, list[str]] = {}
        for image in self._store.all():
            names = [Reference.parse(text) for text in image.references]
            paths = sorted({one.path for one in names if one.domain == self._reference.domain} - {self._reference.path})
            if paths:
                for layer in self._store.manifest(image)["layers"]:
                    known = lenders.setdefault(layer["digest"], [])
                    known += [path for path in paths if path not in known]
        return lenders
