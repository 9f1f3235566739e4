"""One blob on its way into the store: resumed after cuts and kills, hashed while it comes, readable while it comes."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import threading
import time

from specrun.files import discard
from specrun.registry.client import ATTEMPTS, MOST_STALLS, RegistryError, reason, wait
from specrun.registry.headers import content_range, length
from specrun.registry.transport import Silent, TransportError
from specrun.store.layers import DiskFull

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from specrun.paths import Root
    from specrun.registry.client import Client
    from specrun.registry.pull import News, Source
    from specrun.registry.transport import Answer
    from specrun.store.blobs import BlobStore

_CHUNK = 1 << 18
_STEP = 1 << 20
"""Bytes after which readers are told that there are more."""
_SLOW = 100
"""Bytes a second; a server that sends fewer for as long as it may be silent is as good as that."""


class Restarted(Exception):
    """What was read so far is void: the blob begins anew."""


class Cancelled(Exception):
    """Somebody else has failed."""


class Blob:
    """What is wanted: digest, size (bytes), and for foreign layers the addresses where it may be had."""

    __slots__ = ("digest", "size", "urls")

    def __init__(self, digest: str, size: int, urls: Sequence[str] = ()) -> None:
        self.digest = digest
        self.size = size
        self.urls = list(urls)


class Download:
    """`run` in one thread; `chunks` and `wait` in another."""

    def __init__(self, root: Root, blobs: BlobStore, places: list[Source], blob: Blob, name: str, news: News) -> None:
        if blob.digest.partition(":")[0] != "sha256":
            raise RegistryError(f"{blob.digest[:20]}: only sha256 can be stored")
        self.blob = blob
        self.short = blob.digest.partition(":")[2][:12]
        self._blobs = blobs
        self._places = places
        self._name = name
        self._news = news
        self._path = f"{root.path}/pulls/{blob.digest.partition(':')[2]}"
        self._state = hashlib.sha256(usedforsecurity=False)
        self._have = 0
        self._changed = threading.Condition()
        self._readable = -1
        """Bytes that a reader may have; -1 before it is known."""
        self._begun = 0
        """How many times it began anew."""
        self._proven = self._done = False
        self._failure: BaseException | None = None
        self._answer: Answer | None = None
        self.doubtful = len(places) + len(blob.urls) > 1
        """Whether what comes may turn out to be void: it is of an earlier attempt, or somebody else can be asked."""

    def is_there(self) -> bool:
        """Whether the store has it."""
        return self._blobs.size(self.blob.digest) == self.blob.size

    def cancel(self) -> None:
        """Let `run` and everybody who waits for it end now."""
        self._end(Cancelled())
        if (answer := self._answer) is not None:
            answer.cut()

    def blame(self, error: BaseException) -> None:
        """Its content was found to be bad: no more of it is wanted."""
        self._end(error)

    def run(self) -> None:
        """Have the blob in the store. Raises RegistryError, SpecrunError and Cancelled."""
        try:
            self._fetch()
        except BaseException as error:
            self._end(error)
            raise
        self._end(None)

    def wait(self) -> None:
        """Until `run` has ended; raises what that has raised."""
        with self._changed:
            while not self._done and self._failure is None:
                self._changed.wait()
            if self._failure is not None:
                raise self._failure

    def wait_for_proof(self) -> None:
        """Until it is known to be what it should be; it may not be on the disk yet. Raises what `run` raises."""
        with self._changed:
            while not self._proven and not self._done and self._failure is None:
                self._changed.wait()
            if self._failure is not None:
                raise self._failure

    def chunks(self) -> Iterator[bytes]:
        """The blob while it comes; not yet proven to be what it should be. Raises Restarted."""
        with self._changed:
            while self._readable < 0 and not self._done and self._failure is None:
                self._changed.wait()
            begun = self._begun
        if self._done and self.is_there():
            yield from self._blobs.chunks(self.blob.digest)
            return
        try:
            file = open(self._path, "rb", buffering=0)
        except FileNotFoundError:  # it was settled just now
            self.wait()
            yield from self._blobs.chunks(self.blob.digest)
            return
        with file:
            read = 0
            while read < self.blob.size:
                with self._changed:
                    while self._readable <= read and not self._done and self._failure is None:
                        self._changed.wait()
                    if self._begun != begun:
                        raise Restarted
                    if self._failure is not None:
                        raise self._failure
                    most = self.blob.size if self._done else self._readable
                data = file.read(min(1 << 20, most - read))
                if not data:
                    raise Restarted
                read += len(data)
                yield data

    def _end(self, failure: BaseException | None) -> None:
        with self._changed:
            if self._failure is None and not self._done:
                self._failure, self._done = failure, failure is None
            self._changed.notify_all()

    def _fetch(self) -> None:
        for folder in (os.path.dirname(self._path), self._blobs.folder):
            os.makedirs(folder, mode=0o700, exist_ok=True)
        while not self.is_there() and not self._fetch_into_file():
            pass

    def _fetch_into_file(self) -> bool:
        """False when another command had it first, and has removed it since."""
        with open(self._path, "ab", buffering=0, opener=_private) as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # another command may be at it; then it is there when we are
            if self.is_there():
                discard(self._path)
                return True
            if not _is_same(file, self._path):
                return False
            self._hash_what_is_left()
            self._transfer_all(file)
            with self._changed:
                self._proven = True
                self._changed.notify_all()
            self._news(self.short, "Download complete", 0, 0)
            os.fsync(file.fileno())
            self._blobs.settle(self._path, self.blob.digest)
        return True

    def _hash_what_is_left(self) -> None:
        """Of an earlier attempt; more than there can be is thrown away."""
        with open(self._path, "r+b", buffering=0) as file:
            self.doubtful = self.doubtful or os.fstat(file.fileno()).st_size > 0
            if os.fstat(file.fileno()).st_size > self.blob.size:
                file.truncate(0)
            while data := file.read(1 << 20):
                self._add(data)
        self._tell()

    def _transfer_all(self, file: Any) -> None:
        """From one place after the other what is still missing, until the whole is what it should be."""
        places = [(source, f"/v2/{source.path}/blobs/{self.blob.digest}") for source in self._places]
        # Those of a foreign layer, which registries need not have, are asked without a login, as strangers.
        places += [(self._places[-1], url) for url in self.blob.urls if url.startswith(("https://", "http://"))]
        for number, (source, path) in enumerate(places):
            last = number + 1 == len(places)
            mixed = self._have > 0
            try:
                self._from(source, path, file)
                if mixed and not self._is_right():  # what an earlier attempt has left was not of this blob
                    self._restart(file)
                    self._from(source, path, file)
            except RegistryError:
                if last:
                    raise
                continue
            if self._is_right():
                return
            self._restart(file)
            if last:
                discard(self._path)
                raise RegistryError(f"{source.client.host} sent a blob that is not {self.blob.digest}")

    def _is_right(self) -> bool:
        return f"sha256:{self._state.hexdigest()}" == self.blob.digest

    def _from(self, source: Source, path: str, file: Any) -> None:
        """Transfers from one place as long as they bring something. Raises RegistryError."""
        fruitless = stalls = 0
        while self._have < self.blob.size:
            before = self._have
            try:
                self._transfer(source, path, file)
                if self._have < self.blob.size:
                    raise TransportError(f"ended after {self._have} of {self.blob.size} bytes")
            except (TransportError, OSError) as error:
                if self._failure is not None:
                    raise Cancelled from error
                if getattr(error, "errno", 0) == errno.ENOSPC:
                    raise DiskFull(f"{self._name} can't be kept: the disk is full") from error
                stalls = stalls + 1 if isinstance(error, Silent) else 0
                fruitless = 0 if self._have > before else fruitless + 1
                if fruitless == ATTEMPTS or stalls == MOST_STALLS:
                    what = f"{self.blob.digest[:19]} of {self._name}"
                    raise RegistryError(f"{what} broke off: {reason(error)}", hint="what has come is kept") from error
                wait(fruitless, lambda seconds: self._news(self.short, f"Retrying in {seconds:.0f} seconds", 0, 0))
            if self._failure is not None:
                raise Cancelled

    def _transfer(self, source: Source, path: str, file: Any) -> None:
        """Fetch what is missing."""
        have, host = self._have, source.client.host
        headers = {"Range": f"bytes={have}-"} if have else {}
        answer = source.client.request(
            "GET", path, scope=source.scope, headers=headers, expected=(200, 206, 416), stream=True
        )
        with answer:
            if answer.status == 416 or (have and answer.status == 200):  # it knows no ranges, or not this one
                self._restart(file)
            if answer.status == 416:
                raise TransportError("the registry does not have that range")
            if answer.status == 206:
                told = content_range(answer.headers.get("Content-Range", ""))
                if not told or told[0] != have or told[2] not in (-1, self.blob.size):
                    raise RegistryError(f"{host} sent another range than was asked for")
            elif (said := length(answer.headers.get("Content-Length", ""))) not in (-1, self.blob.size):
                raise RegistryError(f"{host} says that {self.blob.digest} has {said} bytes, not {self.blob.size}")
            self._answer = answer
            try:
                self._receive(answer, file, source.client)
            finally:
                self._answer = None

    def _receive(self, answer: Answer, file: Any, client: Client) -> None:
        host, stall = client.host, client.endpoint.stall
        began, least = time.monotonic(), self._have
        while data := answer.read1(_CHUNK):
            if self._have + len(data) > self.blob.size:
                raise RegistryError(f"{host} sends more than the {self.blob.size} bytes of {self.blob.digest}")
            if self._failure is not None:
                raise Cancelled
            file.write(data)
            self._add(data)
            self._tell()
            if (now := time.monotonic()) - began > stall:
                if self._have - least < _SLOW * stall and self._have < self.blob.size:
                    raise Silent("hardly anything came")
                began, least = now, self._have

    def _add(self, data: bytes) -> None:
        self._state.update(data)
        self._have += len(data)

    def _tell(self) -> None:
        if self._have - self._readable < _STEP and self._have < self.blob.size and self._readable >= 0:
            return
        with self._changed:
            self._readable = self._have
            self._changed.notify_all()
        self._news(self.short, "Downloading", self._have, self.blob.size)

    def _restart(self, file: Any) -> None:
        """Begin anew."""
        with self._changed:
            file.truncate(0)
            self._state, self._have = hashlib.sha256(usedforsecurity=False), 0
            self._begun += self._readable > 0
            self._readable = 0
            self._changed.notify_all()


def _private(path: str, flags: int) -> int:
    """Whatever the umask is: who unpacks in another thread has set it to 0."""
    return os.open(path, flags, 0o600)


def _is_same(file: Any, path: str) -> bool:
    """Whether the open file has that name still."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False
