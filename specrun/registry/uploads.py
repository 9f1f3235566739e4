"""Blobs on their way into our server: written and digested as they come, kept when the connection is cut."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import time

from specrun.files import discard
from specrun.registry.protocol import ProtocolError, is_digest
from specrun.registry.storage import hash_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Any

    from specrun.registry.storage import Storage

SETTLING = 5.0
"""Seconds that a question how far an upload is may wait for what is on its way."""
_BATCH = 1 << 20
"""Bytes that are handed to a thread at once."""


class Upload:
    """One session, while a request works on it."""

    def __init__(self, storage: Storage, name: str, identity: str) -> None:
        """Raises ProtocolError BLOB_UPLOAD_UNKNOWN."""
        self.lock = -1
        """A descriptor, for as long as the request works on it: no other process writes to it meanwhile."""
        self.storage = storage
        self.name = name
        self.identity = identity
        self.path = storage.upload_path(name, identity)
        size = storage.upload_size(name, identity)
        if size is None:
            raise ProtocolError("BLOB_UPLOAD_UNKNOWN")
        self.size = size
        self._state: Any = hashlib.sha256() if size == 0 else None
        """The digest so far; None when it must be read again from the file, after a restart."""

    async def append(self, parts: AsyncIterator[bytes], length: int | None) -> None:
        """Add what comes, as far as it comes. `length` is how much that will be; None for nobody knows.

        Raises what `parts` raises, and ProtocolError over the quota.
        """
        try:
            self.storage.quota.check(length or 0)
            await self._append(parts)
        except ProtocolError:
            await asyncio.to_thread(self.discard)
            raise

    async def _append(self, parts: AsyncIterator[bytes]) -> None:
        descriptor = await asyncio.to_thread(os.open, self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        batch: list[bytes] = []
        held = 0
        writing: asyncio.Future[None] | None = None
        try:
            async for part in parts:
                batch.append(part)
                held += len(part)
                if held >= _BATCH:
                    if writing:
                        await writing
                    writing = asyncio.ensure_future(asyncio.to_thread(self._write, descriptor, batch))
                    batch, held = [], 0
        finally:
            try:
                if writing:
                    await writing
                if batch:
                    await asyncio.to_thread(self._write, descriptor, batch)
            finally:
                os.close(descriptor)

    def _write(self, descriptor: int, batch: list[bytes]) -> None:
        data = b"".join(batch)
        self.storage.quota.take(len(data))
        view = memoryview(data)
        try:
            while view:
                written = os.write(descriptor, view)
                if self._state is not None:
                    self._state.update(view[:written])
                self.size += written
                view = view[written:]
        finally:
            self.storage.quota.give(len(view))

    def discard(self) -> None:
        """Forget what has come."""
        if os.path.exists(self.path):
            discard(self.path)
            self.storage.quota.give(self.size)

    async def finish(self, digest: str) -> None:
        """Verify, sync and commit; the session is over, whatever comes of it. Raises ProtocolError."""
        if not is_digest(digest):
            raise ProtocolError("DIGEST_INVALID", detail={"digest": digest[:140]})
        await asyncio.to_thread(self._finish, digest)

    def _finish(self, digest: str) -> None:
        algorithm = digest.partition(":")[0]
        if self._state is not None and algorithm == "sha256":
            found = f"sha256:{self._state.hexdigest()}"
        else:
            found = hash_file(self.path, algorithm)
        if found != digest:
            self.discard()
            raise ProtocolError("DIGEST_INVALID", detail={"digest": digest, "found": found})
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self.storage.commit(self.name, self.path, digest)


class Sessions:
    """The uploads of a server: one request at a time for each."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.known: dict[str, Upload] = {}
        """Their digests so far; what is not here is read again from the disk."""
        self.busy: set[str] = set()

    def open(self, name: str, identity: str) -> Upload:
        """The session, for this request alone; `close` gives it back. Raises ProtocolError."""
        if identity in self.busy:
            raise _busy()
        lock = _hold(self.storage.upload_path(name, identity))
        try:
            fresh = Upload(self.storage, name, identity)
        except BaseException:
            os.close(lock)
            raise
        known = self.known.get(identity)
        if known is not None and known.name == name and known.size == fresh.size:
            fresh = known
        fresh.lock = lock
        self.known[identity] = fresh
        self.busy.add(identity)
        return fresh

    async def rest(self, name: str, identity: str) -> None:
        """Until nobody writes to a session, for SETTLING seconds at most.

        Whoever asks how far it is has lost the line, most often, over which some of it is still coming.
        """
        limit = time.monotonic() + SETTLING
        while time.monotonic() < limit:
            if identity not in self.busy:
                try:
                    os.close(_hold(self.storage.upload_path(name, identity)))
                    return
                except ProtocolError as error:
                    if error.code != "RANGE_INVALID":
                        return
            await asyncio.sleep(0.02)

    def close(self, upload: Upload) -> None:
        """The request is over."""
        os.close(upload.lock)
        self.busy.discard(upload.identity)
        if not os.path.exists(upload.path):
            self.known.pop(upload.identity, None)
        elif len(self.known) > 1000:
            self.known.clear()


def _hold(path: str) -> int:
    """The lock of a session: the server that hands over may still be writing to it. Raises ProtocolError."""
    try:
        lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise ProtocolError("BLOB_UPLOAD_UNKNOWN") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise _busy() from error
    return lock


def _busy() -> ProtocolError:
    return ProtocolError("RANGE_INVALID", "another request is writing to this upload")
