"""A pull-through cache: it has what another registry has, as soon as somebody has asked for it.

What a tag stands for is asked of the upstream again when it is older than the time to live; content never changes.
While the upstream is away, what is here is served as it is. A blob is fetched once for all who want it, and sent to
them while it comes; its last byte only when it has proven to be what its digest says, so that nobody takes a lie for
whole, and nothing that is not proven is ever kept.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn
from urllib.parse import urlencode

from specrun.files import discard
from specrun.registry.protocol import MAX_PAGE, OCI_INDEX, ProtocolError, parse_count
from specrun.registry.server import Registry, Reply, blob_headers, document
from specrun.registry.transport import TransportError
from specrun.registry.upstream import Away
from specrun_runtime.fds import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from io import FileIO
    from typing import Any

    from specrun.registry.gate import Gate
    from specrun.registry.server import Asked, Policy
    from specrun.registry.storage import Storage
    from specrun.registry.traffic import Traffic
    from specrun.registry.transport import Answer
    from specrun.registry.upstream import Upstream

TTL = 60.0
"""Seconds for which what a tag stands for is not asked again."""
PARALLEL = 8
"""Questions, and blobs, that are asked of the upstream at once."""
_ATTEMPTS = 5
_PIECE = 1 << 18
_ABANDONED = 3600.0
_STALE = {"Warning": '110 - "the upstream is away"'}


class Cache(Registry):
    """The routes over one storage, and over the upstream behind it."""

    def __init__(self, storage: Storage, gate: Gate, policy: Policy, upstream: Upstream, ttl: float = TTL) -> None:
        super().__init__(storage, gate, policy)
        self.upstream = upstream
        self.traffic: Traffic = upstream.traffic
        self.ttl = ttl
        self._threads = ThreadPoolExecutor(PARALLEL)
        self._blob_threads = asyncio.Semaphore(PARALLEL)
        self._asking: dict[tuple[str, ...], asyncio.Future[object]] = {}
        """What is being asked of the upstream, so that it is asked once."""
        self._transfers: dict[str, Transfer] = {}
        """Blobs that are on their way, by digest."""
        for path in list(storage.stale_uploads(_ABANDONED)):
            discard(path)

    def check_writable(self, *, delete: bool = False) -> NoReturn:
        """Nothing is written to a cache."""
        raise ProtocolError("UNSUPPORTED", f"this registry is a cache: push to {self.upstream.name}")

    async def get_manifest(self, asked: Asked, name: str, reference: str) -> Reply:
        """As the upstream has it now, or as it had it when it was last asked."""
        stale = await self._renew(name, reference)
        reply = await super().get_manifest(asked, name, reference)
        if stale:
            self._mark_stale(reply)
        return reply

    def _mark_stale(self, reply: Reply) -> None:
        reply.headers.update(_STALE)
        self.traffic.answer_stale()

    async def _renew(self, name: str, reference: str) -> bool:
        """Have what the upstream has; whether it can't be asked, and what is here may be old."""
        digest = self.storage.resolve(name, reference)
        here = digest if digest and self.storage.manifest(name, digest) else ""
        if here and (":" in reference or self.storage.tag_age(name, reference) < self.ttl):
            self.traffic.ask("manifest", here=True)
            return False
        try:
            key = ("manifest", name, reference)
            fetched = await self._ask(key, lambda: self._fetch_manifest(name, reference, here))
        except Away as error:
            self.traffic.ask("manifest", here=bool(here))
            if here:
                return True
            raise self._unreachable(error) from error
        self.traffic.ask("manifest", here=not fetched)
        return False

    def _fetch_manifest(self, name: str, reference: str, here: str) -> bool:
        """Whether it had to be fetched, or there is none."""
        if here and self.upstream.digest(name, reference) == here:
            self.storage.renew_tag(name, reference)
            return False
        found = self.upstream.manifest(name, reference)
        if found is None:
            if ":" not in reference:
                self.storage.delete_tag(name, reference)
            return True
        digest, manifest = found
        tags = [] if ":" in reference else [reference]
        try:
            self.storage.keep_manifest(name, digest, manifest, tags)
        except ProtocolError:
            self.storage.evict(len(manifest.raw))
            self.storage.keep_manifest(name, digest, manifest, tags)
        return True

    async def get_blob(self, asked: Asked, name: str, digest: str) -> Reply:
        """From here, or from the upstream and so to be here."""
        if self.storage.has_blob(name, digest):
            return await self._kept_blob(asked, name, digest)
        transfer = self._transfers.get(digest)
        known = transfer is not None or os.path.exists(self.storage.blob_path(digest))
        if asked.method == "HEAD" or (known and not (transfer and name in transfer.names)):
            size = await self._size(name, digest)
            if asked.method == "HEAD":
                return Reply(200, {**blob_headers(digest), "Content-Length": str(size)}, stream=_nothing())
            # The upstream lets this repository have it, and it is here already, or soon will be.
            if transfer is None and self.storage.link(name, digest):
                return await self._kept_blob(asked, name, digest)
        coming = transfer is not None and not transfer.failure
        self.traffic.ask("blob", here=coming)
        if transfer is None or not coming:
            transfer = self._transfers[digest] = Transfer(self.storage, self.upstream, digest)
            transfer.task = asyncio.ensure_future(self._transfer(transfer))
        transfer.names.add(name)
        try:
            size = await transfer.begun()
            if "Range" in asked.headers:
                await transfer.ended()
                return await super().get_blob(asked, name, digest)
        except Away as error:
            raise self._unreachable(error) from error
        return Reply(200, {**blob_headers(digest), "Content-Length": str(size)}, stream=transfer.parts())

    async def _kept_blob(self, asked: Asked, name: str, digest: str) -> Reply:
        self.storage.use(digest)
        if asked.method == "GET":
            self.traffic.ask("blob", here=True)
        return await super().get_blob(asked, name, digest)

    async def _size(self, name: str, digest: str) -> int:
        try:
            size: int | None = await self._ask(("blob", name, digest), lambda: self.upstream.size(name, digest))
        except Away as error:
            raise self._unreachable(error) from error
        if size is None:
            raise ProtocolError("BLOB_UNKNOWN", detail={"digest": digest})
        return size

    async def _transfer(self, transfer: Transfer) -> None:
        async with self._blob_threads:
            # A thread that the end of the server does not wait for.
            threading.Thread(target=transfer.run, daemon=True).start()
            await transfer.over.wait()
        if self._transfers.get(transfer.digest) is transfer:
            del self._transfers[transfer.digest]

    async def get_tags(self, asked: Asked, name: str) -> Reply:
        """All that the upstream has, or those that are here while it is away."""
        count, last = parse_count(asked.first("n"), MAX_PAGE), asked.first("last") or ""
        try:
            key = ("tags", name, str(count), last)
            found = await self._ask(key, lambda: self.upstream.tags(name, count, last)) if count else ([], False)
        except Away:
            reply = await super().get_tags(asked, name)
            self._mark_stale(reply)
            return reply
        if found is None:
            raise ProtocolError("NAME_UNKNOWN", detail={"name": name})
        tags, more = found
        query = urlencode({"n": count, "last": tags[-1]}) if tags else ""
        headers = {"Link": f'</v2/{name}/tags/list?{query}>; rel="next"'} if more and tags else {}
        return document({"name": name, "tags": tags}, headers)

    async def get_referrers(self, asked: Asked, name: str, digest: str) -> Reply:
        """All that the upstream has, or those that are here while it is away."""
        kind = asked.first("artifactType") or ""
        try:
            key = ("referrers", name, digest, kind)
            found = await self._ask(key, lambda: self.upstream.referrers(name, digest, kind))
        except Away:
            reply = await super().get_referrers(asked, name, digest)
            self._mark_stale(reply)
            return reply
        if found is None:
            raise ProtocolError("UNSUPPORTED", f"{self.upstream.name} lists no referrers", status=404)
        headers = {"OCI-Filters-Applied": found[1]} if found[1] else {}
        return Reply(200, {"Content-Type": OCI_INDEX, **headers}, found[0])

    async def _ask(self, key: tuple[str, ...], question: Callable[[], Any]) -> Any:
        """Put a question in a thread; who puts it while it is being asked waits for the same answer."""
        asking = self._asking.get(key)
        if asking is None:
            asking = asyncio.get_running_loop().run_in_executor(self._threads, question)
            self._asking[key] = asking
            asking.add_done_callback(lambda done: self._asking.pop(key) and done.cancelled() or done.exception())
        return await asyncio.shield(asking)

    def _unreachable(self, error: Away) -> ProtocolError:
        return ProtocolError("UNAVAILABLE", f"this cache does not have it: {error}")


class Transfer:
    """One blob on its way: a thread writes it to a draft, and who wants it reads the draft meanwhile."""

    def __init__(self, storage: Storage, upstream: Upstream, digest: str) -> None:
        self.digest = digest
        self.names: set[str] = set()
        """The repositories that are to have it."""
        self.failure: Exception | None = None
        self.over = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        """Kept, so that it is not collected."""
        self._storage = storage
        self._upstream = upstream
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._path = ""
        self._size: int | None = None
        self._come = 0
        """How many bytes of the draft may be read."""
        self._taken = 0

    # -- in the server's own thread -----------------------------------------------------------------------------------

    async def begun(self) -> int:
        """The size, when the upstream has said it. Raises ProtocolError and Away."""
        while self._size is None and not self.over.is_set():
            await self._news.wait()
        if self._size is None:
            raise self.failure or Away("nothing came")
        return self._size

    async def ended(self) -> None:
        """All of it is kept. Raises ProtocolError and Away."""
        await self.over.wait()
        if self.failure:
            raise self.failure

    async def parts(self) -> AsyncIterator[bytes]:
        """The bytes as they come, the last one when they have been proven. Raises ProtocolError and OSError."""
        size = await self.begun()
        sent = 0
        try:
            file = os.open(self._storage.blob_path(self.digest) if self.over.is_set() else self._path, os.O_RDONLY)
        except FileNotFoundError:
            file = os.open(self._storage.blob_path(self.digest), os.O_RDONLY)  # it has just been finished
        try:
            while sent < size:
                ready = size if self.over.is_set() and not self.failure else min(self._come, size - 1)
                if sent < ready:
                    part = await asyncio.to_thread(os.pread, file, min(_PIECE, ready - sent), sent)
                    sent += len(part)
                    yield part
                elif self.over.is_set():
                    raise ConnectionAbortedError(str(self.failure))
                else:
                    await self._news.wait()
        finally:
            os.close(file)

    def _tell(self, size: int | None, come: int) -> None:
        self._size, self._come = size, come
        self._wake()

    def _end(self, failure: Exception | None) -> None:
        self.failure = failure
        self.over.set()
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    # -- in a thread of its own ---------------------------------------------------------------------------------------

    def run(self) -> None:
        """Fetch, prove and keep it."""
        failure: Exception | None = None
        try:
            self._fetch()
        except (Away, ProtocolError) as error:
            failure = error
        except OSError as error:
            failure = ProtocolError("UNAVAILABLE", f"the cache's storage failed: {error.strerror}")
        try:
            self._loop.call_soon_threadsafe(self._end, failure)
        except RuntimeError:
            pass  # the server has ended

    def _fetch(self) -> None:
        """Raises Away, ProtocolError for what it is not, and OSError of the disk."""
        name = next(iter(self.names))
        found = self._ask(name, 0)  # before anything is made for a name that may be none
        draft = self._storage.upload_path(name, self._storage.start_upload(name))
        self._path = draft
        try:
            with open(draft, "r+b", buffering=0) as file:
                self._receive(name, file, found)
                os.fsync(file.fileno())
            self._storage.commit(name, draft, self.digest)
            self._taken = 0
            for other in self.names - {name}:
                self._storage.link(other, self.digest)
        finally:
            discard(draft)
            self._storage.quota.give(self._taken)

    def _ask(self, name: str, come: int) -> tuple[Answer, int, int]:
        found = self._upstream.blob(name, self.digest, come)
        if found is None:
            raise ProtocolError("BLOB_UNKNOWN", detail={"digest": self.digest})
        return found

    def _receive(self, name: str, file: FileIO, found: tuple[Answer, int, int]) -> None:
        algorithm = self.digest.partition(":")[0]
        state, come = hashlib.new(algorithm), 0
        for attempt in range(_ATTEMPTS):
            answer, begin, size = found if attempt == 0 else self._ask(name, come)
            if self._size not in (None, size):
                raise self._lied()
            self._take(size)
            if begin == 0:
                state, come = hashlib.new(algorithm), 0
            file.seek(come)
            self._loop.call_soon_threadsafe(self._tell, size, come)
            try:
                with answer:
                    while come < size and (part := answer.read(_PIECE)):
                        self._upstream.traffic.receive(len(part))
                        write_all(file.fileno(), part)
                        state.update(part)
                        come += len(part)
                        self._loop.call_soon_threadsafe(self._tell, size, come)
            except TransportError as error:
                if attempt + 1 == _ATTEMPTS:
                    raise Away(f"{self._upstream.name} broke off: {error}") from error
            if come >= size:
                break
        if come != size or f"{algorithm}:{state.hexdigest()}" != self.digest:
            raise self._lied()

    def _take(self, size: int) -> None:
        """Room below the quota, once."""
        if self._taken:
            return
        try:
            self._storage.quota.take(size)
        except ProtocolError:
            self._storage.evict(size)
            self._storage.quota.take(size)
        self._taken = size

    def _lied(self) -> ProtocolError:
        return ProtocolError("UNAVAILABLE", f"{self._upstream.name} sent a blob that is not {self.digest}", status=502)


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""
