"""Pushing: the blobs that the registry lacks, then the manifest, whose digest is the image's own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urljoin, urlsplit

from specrun.errors import Damaged
from specrun.oci.reference import Reference
from specrun.registry.client import Client, RegistryError
from specrun.registry.protocol import Descriptor, Manifest
from specrun.store.images import ImageStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from specrun.paths import Root

PARALLEL = 3
_CHUNK = 1 << 20


def push(
    root: Root,
    reference: Reference,
    *,
    image: str = "",
    verify: bool = True,
    news: Callable[[str, str], None] = lambda *_: None,
) -> tuple[str, int]:
    """Push `image` (by default, what `reference` stands for) to the registry; gives digest and size of its manifest."""
    store, client = ImageStore(root), Client(reference.domain, verify=verify)
    scope = f"repository:{reference.path}:pull,push"
    with store.using():
        found = store.resolve(image or reference.canonical)
        raw = store.blobs.read(found.manifest_digest, 4 << 20)
        manifest = Manifest(raw, "")
        others = [Reference.parse(name) for name in found.references if name]
        sources = [one.path for one in others if one.domain == reference.domain and one.path != reference.path]
        sender = _Sender(store, client, reference, scope, sources)
        layers = list({layer.digest: layer for layer in manifest.layers if not layer.foreign}.values())
        names = dict(zip([layer.digest for layer in manifest.layers], found.diff_ids, strict=True))

        def one(layer: Descriptor) -> None:
            short = names[layer.digest].partition(":")[2][:12]
            news(short, "Preparing")
            news(short, sender.send(layer))

        with ThreadPoolExecutor(PARALLEL) as pool:
            for done in [pool.submit(one, layer) for layer in reversed(layers)]:
                done.result()
        if manifest.config is None:
            raise Damaged(f"image {found.id} has no configuration")
        sender.send(manifest.config)
        client.request(
            "PUT", f"/v2/{reference.path}/manifests/{reference.tag or found.manifest_digest}", scope=scope,
            headers={"Content-Type": manifest.media_type}, body=lambda: raw, expected=(201, 202),
        )  # fmt: skip
    return found.manifest_digest, len(raw)


class _Sender:
    def __init__(self, store: ImageStore, client: Client, reference: Reference, scope: str, sources: list[str]) -> None:
        self.store = store
        self.client = client
        self.path = reference.path
        self.scope = scope
        self.sources = sources

    def send(self, blob: Descriptor) -> str:
        """Let the registry have the blob; gives Docker's word for how."""
        if self._has(blob):
            return "Layer already exists"
        for source in self.sources:
            start = f"/v2/{self.path}/blobs/uploads/?mount={blob.digest}&from={source}"
            answer = self.client.request("POST", start, scope=self.scope, body=lambda: b"", expected=(201, 202))
            if answer.status == 201:
                return f"Mounted from {source}"
            return self._upload(blob, answer.headers["Location"])
        start = f"/v2/{self.path}/blobs/uploads/"
        answer = self.client.request("POST", start, scope=self.scope, body=lambda: b"", expected=(202,))
        return self._upload(blob, answer.headers.get("Location", ""))

    def _has(self, blob: Descriptor) -> bool:
        path = f"/v2/{self.path}/blobs/{blob.digest}"
        return self.client.request("HEAD", path, scope=self.scope, expected=(200, 404)).status == 200

    def _upload(self, blob: Descriptor, location: str) -> str:
        if not location:
            raise RegistryError(f"{self.client.host} gave no place to upload to")
        target = urljoin(self.client.url("/"), location)
        target += ("&" if urlsplit(target).query else "?") + f"digest={blob.digest}"
        size = self.store.blobs.size(blob.digest)
        if size != blob.size:
            raise Damaged(f"blob {blob.digest} is missing from the store", hint="make or pull the image again")
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}

        def body() -> Iterator[bytes]:
            yield from self.store.blobs.chunks(blob.digest)  # verified while it goes

        self.client.request("PUT", target, scope=self.scope, headers=headers, body=body, expected=(201,))
        return "Pushed"
