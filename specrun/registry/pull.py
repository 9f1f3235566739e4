"""Pulling: a reference becomes an image of the store; what has come is kept, so that a cut costs little."""

from __future__ import annotations

import fcntl
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

import urllib3

from specrun.errors import SpecrunError
from specrun.oci.reference import Reference
from specrun.registry.client import ATTEMPTS, Client, RegistryError
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
)
from specrun.store.images import CONFIG_DIGEST, MAX_LAYERS, UNPACKED_SIZE, ImageNotFound, ImageStore, architecture
from specrun.store.layers import content_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from specrun.paths import Root
    from specrun.store.images import Image

ACCEPTED = ", ".join((OCI_MANIFEST, DOCKER_MANIFEST, OCI_INDEX, DOCKER_LIST))
PARALLEL = 3
_CHUNK = 1 << 18


class Pulled:
    """What came of it."""

    __slots__ = ("digest", "image", "new")

    def __init__(self, image: Image, digest: str, new: bool) -> None:
        self.image = image
        self.digest = digest
        """Of what the reference stands for at the registry: an index, perhaps."""
        self.new = new
        """Whether anything is otherwise than before."""


def pull(
    root: Root,
    reference: Reference,
    *,
    verify: bool = True,
    platform: str = "",
    news: Callable[[str, str], None] = lambda *_: None,
) -> Pulled:
    """Have the image that `reference` stands for at its registry. `news` is told of each layer.

    Raises RegistryError, and InvalidDocument for what no image is.
    """
    store, client = ImageStore(root), Client(reference.domain, verify=verify)
    scope = f"repository:{reference.path}:pull"
    wanted = reference.digest or reference.tag
    digest, manifest = _manifest(client, reference, wanted, scope)
    named = digest
    if manifest.is_index:
        chosen = _choose(manifest, platform or f"linux/{architecture()}")
        digest, manifest = _manifest(client, reference, chosen.digest, scope, chosen)
    if manifest.config is None or len(manifest.layers) > MAX_LAYERS:
        raise InvalidDocument(f"{reference.canonical} is not an image that can be run: {len(manifest.layers)} layers")
    try:
        before = store.resolve(reference.canonical).manifest_digest
    except ImageNotFound:
        before = ""
    fetch = _Fetch(root, store, client, reference, scope)
    with store.adding():
        config = fetch.config(manifest.config)
        diff_ids = _diff_ids(config, manifest)
        fetch.layers(manifest.layers, news)
        put, _ = store.blobs.put(manifest.raw)
        if put != digest:
            raise RegistryError(f"{reference.canonical}: the manifest is not the one that was asked for")
        notes = {CONFIG_DIGEST: manifest.config.digest, UNPACKED_SIZE: "0"}
        image = store.enter(digest, len(manifest.raw), notes, [reference], media_type=manifest.media_type)
        store.lower_directories(image)  # unpacked and proven to be what the configuration says
        total = sum(max(0, content_size(root, diff_id)) for diff_id in diff_ids)
        notes[UNPACKED_SIZE] = str(total)
        image = store.enter(digest, len(manifest.raw), notes, [reference], media_type=manifest.media_type)
    return Pulled(image, named, before != digest)


def digest_of(reference: Reference, *, verify: bool = True) -> str:
    """The digest that a reference stands for at its registry now; "" where it has none. Raises RegistryError."""
    client = Client(reference.domain, verify=verify)
    scope = f"repository:{reference.path}:pull"
    try:
        digest, _ = _manifest(client, reference, reference.digest or reference.tag, scope)
    except RegistryError as error:
        if error.status == 404:
            return ""
        raise
    return digest


def _manifest(
    client: Client, reference: Reference, wanted: str, scope: str, described: Descriptor | None = None
) -> tuple[str, Manifest]:
    """Digest and manifest; the digest is of the bytes that came, whatever a header says."""
    path = f"/v2/{reference.path}/manifests/{wanted}"
    try:
        answer = client.request("GET", path, scope=scope, headers={"Accept": ACCEPTED}, stream=True)
    except RegistryError as error:
        if error.status == 404:
            raise RegistryError(
                f"manifest for {reference.familiar} not found: manifest unknown", status=404,
                hint="is the name right?",
            ) from error  # fmt: skip
        raise
    with answer:
        raw = answer.read(MAX_MANIFEST + 1, decode_content=False)
    if len(raw) > MAX_MANIFEST:
        raise InvalidDocument(f"the manifest of {reference.familiar} is larger than {MAX_MANIFEST} bytes")
    algorithm = wanted.partition(":")[0] if ":" in wanted else "sha256"
    digest = f"{algorithm}:{hashlib.new(algorithm, raw).hexdigest()}"
    if ":" in wanted and digest != wanted:
        raise RegistryError(f"{client.host} sent a manifest that is not {wanted}")
    if described and described.size != len(raw):
        raise RegistryError(f"{client.host}: the manifest {wanted} has {len(raw)} bytes, not {described.size}")
    return digest, Manifest(raw, answer.headers.get("Content-Type", ""))


def _choose(index: Manifest, platform: str) -> Descriptor:
    system, _, machine = platform.partition("/")
    there = []
    for child in index.children:
        about = child.document.get("platform") or {}
        name = "/".join(str(about[key]) for key in ("os", "architecture", "variant") if about.get(key))
        there.append(name)
        if (about.get("os"), about.get("architecture")) == (system, machine.partition("/")[0]):
            return child
    raise RegistryError(f"no matching manifest for {platform} in the manifest list entries: {', '.join(there[:20])}")


def _diff_ids(config: bytes, manifest: Manifest) -> list[str]:
    document = parse_json(config)
    found = (document.get("rootfs") or {}).get("diff_ids")
    if not isinstance(found, list) or len(found) != len(manifest.layers) or not all(map(_is_text, found)):
        raise InvalidDocument("the configuration's diff_ids do not fit the manifest's layers")
    return found


def _is_text(value: object) -> bool:
    return isinstance(value, str)


class _Fetch:
    """Blobs of one repository, into the store."""

    def __init__(self, root: Root, store: ImageStore, client: Client, reference: Reference, scope: str) -> None:
        self.store = store
        self.client = client
        self.reference = reference
        self.scope = scope
        self.folder = f"{root.path}/pulls"
        os.makedirs(self.folder, mode=0o700, exist_ok=True)

    def config(self, wanted: Descriptor) -> bytes:
        """The configuration."""
        if wanted.size > MAX_CONFIG:
            raise InvalidDocument(f"the configuration is larger than {MAX_CONFIG} bytes")
        self.blob(wanted)
        return self.store.blobs.read(wanted.digest, MAX_CONFIG)

    def layers(self, wanted: list[Descriptor], news: Callable[[str, str], None]) -> None:
        """All of them, some at a time; a blob that stands there twice is fetched once."""
        unique = {one.digest: one for one in wanted}

        def one(descriptor: Descriptor) -> None:
            short = descriptor.digest.partition(":")[2][:12]
            if self.store.blobs.size(descriptor.digest) == descriptor.size:
                news(short, "Already exists")
                return
            news(short, "Pulling fs layer")
            self.blob(descriptor)
            news(short, "Pull complete")

        with ThreadPoolExecutor(PARALLEL) as pool:
            for done in [pool.submit(one, descriptor) for descriptor in unique.values()]:
                done.result()

    def blob(self, wanted: Descriptor) -> None:
        """One blob: what an earlier attempt has left is gone on with. Raises RegistryError."""
        if wanted.digest.partition(":")[0] != "sha256":
            raise RegistryError(f"{wanted.digest[:20]}: only sha256 can be stored")
        partial = f"{self.folder}/{wanted.digest.partition(':')[2]}"
        with open(partial, "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # another command may be at it; then it is there when we are
            if self.store.blobs.size(wanted.digest) == wanted.size:
                _discard(partial)
                return
            state = _hash_so_far(partial, wanted.size)
            for attempt in range(ATTEMPTS):
                try:
                    self._transfer(wanted, file, state)
                    break
                except (urllib3.exceptions.HTTPError, OSError) as error:
                    if attempt + 1 == ATTEMPTS or getattr(error, "errno", 0) == 28:
                        what = f"{wanted.digest[:19]} of {self.reference.familiar}"
                        raise SpecrunError(f"{what} broke off: {error}") from error
            if state.size != wanted.size or state.digest != wanted.digest:
                _discard(partial)
                raise RegistryError(f"{self.client.host} sent a blob that is not {wanted.digest}")
            file.flush()
            os.fsync(file.fileno())
            self.store.blobs.settle(partial, wanted.digest)

    def _transfer(self, wanted: Descriptor, file: BinaryIO, state: _SoFar) -> None:
        """Fetch what is missing."""
        have = state.size
        if have == wanted.size:
            return
        headers = {"Range": f"bytes={have}-"} if have else {}
        path = f"/v2/{self.reference.path}/blobs/{wanted.digest}"
        answer = self.client.request("GET", path, scope=self.scope, headers=headers, expected=(200, 206), stream=True)
        with answer:
            if have and answer.status == 200:  # it knows no ranges: begin anew
                file.truncate(0)
                state.reset()
            elif have and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                raise RegistryError(f"{self.client.host} sent another range than was asked for")
            while data := answer.read(_CHUNK, decode_content=False):
                if state.size + len(data) > wanted.size:
                    what = f"the {wanted.size} bytes of {wanted.digest}"
                    raise RegistryError(f"{self.client.host} sends more than {what}")
                file.write(data)
                state.add(data)
        file.flush()
        if state.size < wanted.size:
            raise urllib3.exceptions.ProtocolError(f"ended after {state.size} of {wanted.size} bytes")


class _SoFar:
    """Digest and size of what has come."""

    __slots__ = ("_hash", "size")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._hash = hashlib.sha256()
        self.size = 0

    def add(self, data: bytes) -> None:
        self._hash.update(data)
        self.size += len(data)

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


def _hash_so_far(path: str, most: int) -> _SoFar:
    """What an earlier attempt has left; more than there can be is thrown away."""
    state = _SoFar()
    with open(path, "r+b") as file:
        while data := file.read(1 << 20):
            state.add(data)
        if state.size > most:
            file.truncate(0)
            state.reset()
    return state


def _discard(path: str) -> None:
    from specrun.files import discard

    discard(path)
