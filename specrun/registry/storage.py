"""What a registry keeps, on plain files. Whatever was acknowledged is on the disk, whole, under its own digest.

    cache-of                                            the registry that this is a cache of, if it is one
    swept                                               another process has last changed what there is at its time
    blobs/<algorithm>/<two digits>/<digits>             content, shared by all repositories
    repositories/<name>/_blobs/<algorithm>/<digits>     this repository has the blob
    repositories/<name>/_manifests/<algorithm>/<digits> ... the manifest; the text is its media type
    repositories/<name>/_tags/<tag>                     the text is a digest
    repositories/<name>/_referrers/<subject>/<digest>   a descriptor, for each manifest with that subject
    repositories/<name>/_uploads/<id>                   what has come of an upload so far

No component of a repository's name begins with an underscore, so the folders can't be mistaken for a repository.
Writers hold the lock of the storage shared; garbage collection holds it alone while it removes. Content that has just
been pushed, or asked for by a client that is about to name it, is young (its link's time), and is not garbage.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from contextlib import contextmanager

from specrun.errors import SpecrunError
from specrun.files import discard, locked, sync_directory, write_atomic
from specrun.registry.protocol import INDEXES, MANIFESTS, InvalidDocument, Manifest, ProtocolError, is_repository
from specrun.registry.quota import Quota

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from specrun.registry.protocol import Descriptor

_CHUNK = 1 << 20


class Storage:
    """One folder of images."""

    def __init__(self, folder: str, *, quota: int = 0) -> None:
        """`quota` is the bytes that content and uploads may take; 0 for as many as the disk has."""
        self.folder = os.path.abspath(folder)
        for name in ("blobs", "repositories"):
            os.makedirs(f"{self.folder}/{name}", mode=0o700, exist_ok=True)
        self.quota = Quota(quota, f"{self.folder}/swept", self._measure)

    @property
    def cache_of(self) -> str:
        """The registry that this is a cache of; "" for a registry of its own."""
        try:
            with open(f"{self.folder}/cache-of", encoding="utf-8") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def become_cache(self, upstream: str) -> None:
        """Raises SpecrunError when something else is in the folder."""
        known = self.cache_of
        if known == upstream:
            return
        if known or next(self.repositories(), ""):
            what = f"a cache of {known}" if known else "a registry of its own"
            raise SpecrunError(
                f"{self.folder} is {what}, not a cache of {upstream}", hint="give another folder with --storage"
            )
        write_atomic(f"{self.folder}/cache-of", upstream.encode())

    def _measure(self) -> int:
        paths = [path for _, path in self.blobs()]
        return sum(map(_size, [*paths, *self.stale_uploads(0)]))

    def swept(self) -> None:
        """Tell a server that another process has changed how much there is."""
        write_atomic(f"{self.folder}/swept", b"")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Held while names are added: garbage collection waits."""
        with locked(f"{self.folder}/lock", shared=True):
            yield

    @contextmanager
    def sweeping(self) -> Iterator[None]:
        """Held while garbage is removed: nothing is added."""
        with locked(f"{self.folder}/lock"):
            yield

    # -- paths ------------------------------------------------------------------------------------------------------

    def blob_path(self, digest: str) -> str:
        """Where content is, or would be."""
        algorithm, _, digits = digest.partition(":")
        return f"{self.folder}/blobs/{algorithm}/{digits[:2]}/{digits}"

    def _link(self, name: str, kind: str, digest: str) -> str:
        return f"{self._repository(name)}/_{kind}/{digest.replace(':', '/')}"

    def _repository(self, name: str) -> str:
        return f"{self.folder}/repositories/{name}"

    # -- content ----------------------------------------------------------------------------------------------------

    def has_blob(self, name: str, digest: str, *, keep: bool = False) -> bool:
        """Whether the repository has the blob; `keep` says that somebody is about to need it."""
        link = self._link(name, "blobs", digest)
        try:
            if keep:
                os.utime(link)
            return os.path.exists(link) and os.path.exists(self.blob_path(digest))
        except FileNotFoundError:
            return False
        except OSError:
            return os.path.exists(link)  # a read-only file system

    def blob_size(self, digest: str) -> int:
        """Bytes of content that is there."""
        return os.stat(self.blob_path(digest)).st_size

    def commit(self, name: str, draft: str, digest: str) -> None:
        """Let the verified and synced file `draft` be the blob `digest` of the repository. Durable on return.

        Its bytes have been taken from the quota.
        """
        with self.writing():
            target = self.blob_path(digest)
            before = _size(target)
            self._folder(os.path.dirname(target))
            os.rename(draft, target)  # a damaged blob is mended by this
            sync_directory(os.path.dirname(target))
            self.quota.give(before)
            self._touch(self._link(name, "blobs", digest))

    def mount(self, name: str, digest: str, source: str) -> bool:
        """Let the repository have a blob of another; whether that has it."""
        with self.writing():
            if not self.has_blob(source, digest, keep=True):
                return False
            self._touch(self._link(name, "blobs", digest))
            return True

    def link(self, name: str, digest: str) -> bool:
        """Let the repository have content that is there; whether it is."""
        with self.writing():
            if not os.path.exists(self.blob_path(digest)):
                return False
            self._touch(self._link(name, "blobs", digest))
            return True

    def use(self, digest: str) -> None:
        """Somebody has asked for the content: it goes later than what nobody asks for."""
        try:
            now = time.time_ns()  # the kernel's own stamps are as coarse as its ticks
            os.utime(self.blob_path(digest), ns=(now, now))
        except OSError:
            pass

    def evict(self, need: int) -> None:
        """Remove what nobody has asked for the longest, until `need` bytes may be taken. Raises ProtocolError."""
        with self.sweeping():
            paths = [path for _, path in self.blobs()]
            for path in sorted(paths, key=lambda path: os.stat(path).st_mtime_ns):
                try:
                    self.quota.check(need)
                    return
                except ProtocolError:
                    size = _size(path)
                    discard(path)
                    self.quota.give(size)
            self.quota.check(need)

    def holders(self, digest: str) -> Iterator[str]:
        """The repositories that have a blob."""
        if os.path.exists(self.blob_path(digest)):
            yield from (name for name in self.repositories() if self.has_blob(name, digest))

    def delete_blob(self, name: str, digest: str) -> bool:
        """Take the blob from the repository, and from no other; whether it had it."""
        return self._remove(self._link(name, "blobs", digest))

    # -- manifests and tags -----------------------------------------------------------------------------------------

    def resolve(self, name: str, reference: str) -> str | None:
        """The digest that a tag or digest stands for; None for nothing."""
        if ":" in reference:
            return reference if os.path.exists(self._link(name, "manifests", reference)) else None
        try:
            with open(f"{self._repository(name)}/_tags/{reference}", encoding="ascii") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def manifest(self, name: str, digest: str) -> tuple[str, bytes] | None:
        """Media type and bytes; None when the repository has no such manifest."""
        try:
            with open(self._link(name, "manifests", digest), encoding="ascii") as link:
                media_type = link.read()
            with open(self.blob_path(digest), "rb") as file:
                return media_type, file.read()
        except FileNotFoundError:
            return None

    def put_manifest(self, name: str, digest: str, manifest: Manifest, tags: list[str]) -> None:
        """Store a manifest all of whose parts are there, and let the tags stand for it. Durable on return.

        Raises ProtocolError MANIFEST_BLOB_UNKNOWN, DENIED.
        """
        with self.writing():
            self._check_parts(name, manifest)
            self._keep(name, digest, manifest, tags)

    def keep_manifest(self, name: str, digest: str, manifest: Manifest, tags: list[str]) -> None:
        """The same for a cache, where the parts come when they are asked for. Raises ProtocolError DENIED."""
        with self.writing():
            self._keep(name, digest, manifest, tags)

    def _keep(self, name: str, digest: str, manifest: Manifest, tags: list[str]) -> None:
        target = self.blob_path(digest)
        if not os.path.exists(target):
            self.quota.take(len(manifest.raw))
            self._folder(os.path.dirname(target))
            _write(target, manifest.raw)
        if manifest.subject:
            path = f"{self._referrers(name, manifest.subject.digest)}/{digest.replace(':', '-')}"
            self._folder(os.path.dirname(path))
            _write(path, json.dumps(manifest.descriptor(digest)).encode())
        link = self._link(name, "manifests", digest)
        self._folder(os.path.dirname(link))
        _write(link, manifest.media_type.encode())
        for tag in tags:
            path = f"{self._repository(name)}/_tags/{tag}"
            self._folder(os.path.dirname(path))
            _write(path, digest.encode())

    def has_child(self, name: str, part: Descriptor) -> bool:
        """Whether what an index names is there: a manifest, or a blob, as BuildKit's caches are indexes of blobs."""
        if part.media_type in (*MANIFESTS, *INDEXES) or self.resolve(name, part.digest) is not None:
            return self.resolve(name, part.digest) is not None
        return self.has_blob(name, part.digest)

    def _check_parts(self, name: str, manifest: Manifest) -> None:
        for part in manifest.children:
            if not self.has_child(name, part):
                raise ProtocolError("MANIFEST_BLOB_UNKNOWN", detail={"digest": part.digest})
        for part in [*([manifest.config] if manifest.config else []), *manifest.layers]:
            if part.foreign:
                continue
            if not self.has_blob(name, part.digest):
                raise ProtocolError("MANIFEST_BLOB_UNKNOWN", detail={"digest": part.digest})
            if self.blob_size(part.digest) != part.size:
                raise ProtocolError("MANIFEST_INVALID", f"{part.digest} has another size", detail={"size": part.size})

    def delete_manifest(self, name: str, digest: str) -> bool:
        """Remove a manifest and the tags that stand for it; whether it was there."""
        with self.writing():
            found = self.manifest(name, digest)
            if found is None:
                return self._remove(self._link(name, "manifests", digest))
            for tag in self.tags(name):
                if self.resolve(name, tag) == digest:
                    discard(f"{self._repository(name)}/_tags/{tag}")
            try:
                manifest = Manifest(found[1], found[0])
            except InvalidDocument:
                return self._remove(self._link(name, "manifests", digest))
            return self.forget_manifest(name, digest, manifest)

    def forget_manifest(self, name: str, digest: str, manifest: Manifest) -> bool:
        """Take a manifest that no tag stands for from the repository; the lock is held."""
        if manifest.subject:
            self._remove(f"{self._referrers(name, manifest.subject.digest)}/{digest.replace(':', '-')}")
        return self._remove(self._link(name, "manifests", digest))

    def delete_tag(self, name: str, tag: str) -> bool:
        """Take a tag away; whether it was there."""
        return self._remove(f"{self._repository(name)}/_tags/{tag}")

    def referrers(self, name: str, subject: str) -> list[dict[str, Any]]:
        """Descriptors of the manifests whose subject this is."""
        folder = self._referrers(name, subject)
        found = []
        for entry in _names(folder):
            try:
                with open(f"{folder}/{entry}", "rb") as file:
                    descriptor = json.load(file)
            except FileNotFoundError:
                continue
            if self.resolve(name, entry.replace("-", ":")):
                found.append(descriptor)
        return found

    def _referrers(self, name: str, subject: str) -> str:
        return f"{self._repository(name)}/_referrers/{subject.replace(':', '-')}"

    # -- listings ---------------------------------------------------------------------------------------------------

    def exists(self, name: str) -> bool:
        """Whether anything was ever pushed to the repository."""
        folder = self._repository(name)
        return os.path.isdir(f"{folder}/_manifests") or os.path.isdir(f"{folder}/_blobs")

    def tags(self, name: str) -> list[str]:
        """The tags, sorted by their bytes."""
        return _names(f"{self._repository(name)}/_tags")

    def repositories(self) -> Iterator[str]:
        """The names of all repositories, sorted by their bytes."""
        base = f"{self.folder}/repositories"
        found = []
        for folder, below, _ in os.walk(base):
            name = folder.removeprefix(base).lstrip("/")
            if name and is_repository(name) and ("_manifests" in below or "_blobs" in below):
                found.append(name)
            below[:] = [entry for entry in below if not entry.startswith("_")]
        yield from sorted(found)

    def digests(self, name: str, kind: str) -> list[str]:
        """What the repository has of `kind`: blobs or manifests."""
        base = f"{self._repository(name)}/_{kind}"
        return [f"{algorithm}:{digits}" for algorithm in _names(base) for digits in _names(f"{base}/{algorithm}")]

    def blobs(self) -> Iterator[tuple[str, str]]:
        """Digest and path of all content."""
        base = f"{self.folder}/blobs"
        for algorithm in _names(base):
            for start in _names(f"{base}/{algorithm}"):
                for digits in _names(f"{base}/{algorithm}/{start}"):
                    yield f"{algorithm}:{digits}", f"{base}/{algorithm}/{start}/{digits}"

    def link_age(self, name: str, kind: str, digest: str) -> float:
        """Seconds since the link was made or asked for; 0 when it is gone."""
        return _age(self._link(name, kind, digest))

    def tag_age(self, name: str, tag: str) -> float:
        """Seconds since it was made sure what the tag stands for."""
        return _age(f"{self._repository(name)}/_tags/{tag}")

    def renew_tag(self, name: str, tag: str) -> None:
        """It has just been made sure what the tag stands for."""
        os.utime(f"{self._repository(name)}/_tags/{tag}")

    # -- uploads ----------------------------------------------------------------------------------------------------

    def start_upload(self, name: str) -> str:
        """The id of a new, empty upload."""
        identity = os.urandom(16).hex()
        path = self.upload_path(name, identity)
        self._folder(os.path.dirname(path))
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        return identity

    def upload_path(self, name: str, identity: str) -> str:
        """Where the bytes of an upload are."""
        return f"{self._repository(name)}/_uploads/{identity}"

    def upload_size(self, name: str, identity: str) -> int | None:
        """How much of an upload has come; None for no such upload."""
        try:
            return os.stat(self.upload_path(name, identity)).st_size
        except FileNotFoundError:
            return None

    def stale_uploads(self, age: float) -> Iterator[str]:
        """Paths of uploads that nothing was added to for `age` seconds."""
        limit = time.time() - age
        for folder, below, _ in os.walk(f"{self.folder}/repositories"):
            if "_uploads" in below:
                for identity in _names(f"{folder}/_uploads"):
                    path = f"{folder}/_uploads/{identity}"
                    try:
                        if os.stat(path).st_mtime <= limit:
                            yield path
                    except FileNotFoundError:
                        continue
            below[:] = [entry for entry in below if not entry.startswith("_")]

    def free_space(self) -> int:
        """Bytes that the file system has left."""
        return shutil.disk_usage(self.folder).free

    # -- how it gets to the disk --------------------------------------------------------------------------------------

    def _touch(self, path: str) -> None:
        """A link without text, young."""
        self._folder(os.path.dirname(path))
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        os.utime(path)
        sync_directory(os.path.dirname(path))

    def _folder(self, path: str) -> None:
        """Make a folder, and let its name be durable too."""
        if os.path.isdir(path):
            return
        parent = os.path.dirname(path)
        self._folder(parent)
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            return
        sync_directory(parent)

    def _remove(self, path: str) -> bool:
        try:
            os.unlink(path)
        except FileNotFoundError:
            return False
        sync_directory(os.path.dirname(path))
        return True


def hash_file(path: str, algorithm: str) -> str:
    """The digest of a file."""
    state = hashlib.new(algorithm)
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            state.update(chunk)
    return f"{algorithm}:{state.hexdigest()}"


def _age(path: str) -> float:
    """Seconds since a file was made or touched; 0 when it is gone."""
    try:
        return max(0.0, time.time() - os.stat(path).st_mtime)
    except FileNotFoundError:
        return 0.0


def _size(path: str) -> int:
    """Bytes of a file; 0 when it is gone."""
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def _write(path: str, data: bytes) -> None:
    """Replace a file, durably. The draft's name begins with a dot, so that no tag can be mistaken for it."""
    folder = os.path.dirname(path)
    draft = f"{folder}/.{os.urandom(8).hex()}"
    try:
        with open(draft, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(draft, path)
    except BaseException:
        discard(draft)
        raise
    sync_directory(folder)


def _names(folder: str) -> list[str]:
    """What is in a folder, sorted; drafts left out."""
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
