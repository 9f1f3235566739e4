"""Blobs by their digest, in the folder that the OCI image layout gives them."""

from __future__ import annotations

import os

from specrun.errors import Damaged
from specrun.files import discard, sync_directory
from specrun.oci import digest as digests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_CHUNK = 1 << 20
_AHEAD = 8 << 20


class BlobStore:
    """`blobs/sha256/` of one image layout. Reads verify; writes appear whole or not at all, and are idempotent."""

    __slots__ = ("folder",)

    def __init__(self, layout: str) -> None:
        self.folder = f"{layout}/blobs/sha256"

    def path(self, digest: str) -> str:
        """Where the blob is, or would be."""
        return f"{self.folder}/{digests.hex_of(digest)}"

    def has(self, digest: str) -> bool:
        """Whether the blob is there."""
        return os.path.exists(self.path(digest))

    def size(self, digest: str) -> int:
        """The bytes of the blob; -1 when it is not there."""
        try:
            return os.stat(self.path(digest)).st_size
        except FileNotFoundError:
            return -1

    def keep_only(self, kept: set[str]) -> int:
        """Remove all other blobs, and drafts of commands that were killed; gives the bytes freed.

        Nobody may be adding blobs: the caller holds the lock.
        """
        freed = 0
        for name in os.listdir(self.folder) if os.path.isdir(self.folder) else []:
            if f"sha256:{name}" not in kept:
                path = f"{self.folder}/{name}"
                freed += os.stat(path).st_size
                os.unlink(path)
        return freed

    def read(self, digest: str, limit: int = 8 << 20) -> bytes:
        """A small blob, verified. Raises Damaged when it is missing, too large or not what its name says."""
        try:
            with open(self.path(digest), "rb") as file:
                data = file.read(limit + 1)
        except FileNotFoundError as error:
            raise Damaged(f"blob {digest} is missing from the store", hint="make or pull the image again") from error
        if len(data) > limit:
            raise Damaged(f"blob {digest} is larger than {limit} bytes")
        return digests.check(data, digest, f"blob {digest}")

    def put(self, data: bytes) -> tuple[str, int]:
        """Store `data`; gives digest and size."""
        return self.put_stream((data,))

    def put_stream(self, parts: Iterable[bytes]) -> tuple[str, int]:
        """Store the parts as one blob; gives digest and size. Succeeding means that it is stored."""
        size = 0

        def counted() -> Iterator[bytes]:
            nonlocal size
            for part in parts:
                size += len(part)
                yield part

        draft, digest = self.draft(counted())
        self.settle(draft, digest)
        return digest, size

    def draft(self, parts: Iterable[bytes]) -> tuple[str, str]:
        """Write the parts to the disk, in a file that is no blob yet; gives its path, and the digest it would have."""
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        draft = f"{self.folder}/.{os.urandom(8).hex()}.draft"
        state = digests.bulk()
        size = begun = 0
        try:
            with open(draft, "xb") as file:
                for part in parts:
                    state.update(part)
                    file.write(part)
                    size += len(part)
                    if size - begun >= _AHEAD:  # the disk works while we hash what comes next
                        from specrun_runtime import libc

                        file.flush()
                        libc.begin_writing(file.fileno(), begun, size - begun)
                        begun = size
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            discard(draft)
            raise
        return draft, f"sha256:{state.hexdigest()}"

    def settle(self, draft: str, digest: str) -> None:
        """Let a draft be the blob that it is."""
        try:
            os.rename(draft, self.path(digest))
        except BaseException:
            discard(draft)
            raise
        sync_directory(self.folder)

    def chunks(self, digest: str) -> Iterable[bytes]:
        """The blob in pieces; raises Damaged at its end if it was not what its name says."""
        state = digests.bulk()
        try:
            with open(self.path(digest), "rb") as file:
                while chunk := file.read(_CHUNK):
                    state.update(chunk)
                    yield chunk
        except FileNotFoundError as error:
            raise Damaged(f"blob {digest} is missing from the store", hint="make or pull the image again") from error
        if state.hexdigest() != digests.hex_of(digest):
            raise Damaged(f"blob {digest} is damaged", hint="make or pull the image again")

    def verify(self) -> list[str]:
        """What is wrong with the blobs, a sentence each."""
        problems = []
        for name in sorted(os.listdir(self.folder)) if os.path.isdir(self.folder) else []:
            if name.startswith("."):
                continue
            try:
                for _ in self.chunks(f"sha256:{name}"):
                    pass
            except Damaged as error:
                problems.append(error.message)
        return problems
