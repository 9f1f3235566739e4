"""One blob on its way to a registry: small ones at once, large ones in chunks, gone on with where the registry stands.

Where an upload of a large blob is going on is kept in the state folder, so that a push that was killed costs no more
than what was on the wire. One that is cut by a loss of power may begin anew.
"""

from __future__ import annotations

import hashlib
import os
from urllib.parse import quote, urlsplit

from specrun.errors import Damaged
from specrun.files import discard, locked, write_atomic
from specrun.registry.client import ATTEMPTS, PASSING, Client, RegistryError, wait
from specrun.registry.headers import address, length, uploaded
from specrun.registry.leftovers import forget_old

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from specrun.paths import Root
    from specrun.registry.protocol import Descriptor
    from specrun.store.blobs import BlobStore

AT_ONCE = 16 << 20
"""Bytes up to which a blob goes in one request: after a cut it goes again as a whole."""
CHUNK = 90 << 20
"""Bytes that one request of a larger one has at most; some proxies take no more than 100 MB."""
_READ = 1 << 20
_TYPE = {"Content-Type": "application/octet-stream"}


def even(left: int) -> int:
    """Bytes of the next chunk when so many are to be sent: as few chunks as may be, as large as each other.

    At the end of each a registry waits for its disk.
    """
    return -(-left // -(-left // CHUNK))


class Uploads:
    """Of one repository; used by several threads."""

    def __init__(self, root: Root, blobs: BlobStore, client: Client, path: str, scope: str) -> None:
        self.client = client
        self.path = path
        self.scope = scope
        self._blobs = blobs
        self._least = -1
        """Bytes that a chunk must have at least, as the registry says."""
        self._folder = f"{root.path}/pushes"
        forget_old(self._folder)

    def has(self, digest: str) -> bool:
        """Whether the repository has the blob."""
        path = f"/v2/{self.path}/blobs/{digest}"
        found = self.client.request("HEAD", path, scope=self.scope, expected=(200, 404)).status == 200
        if found:
            discard(self._record(digest))  # of a command that was killed when it had just sent it
        return found

    def _record(self, digest: str) -> str:
        """Where it is kept how far an upload is."""
        name = hashlib.sha256(f"{self.client.host}/{self.path}".encode()).hexdigest()[:16]
        return f"{self._folder}/{name}-{digest.partition(':')[2]}"

    def mount(self, digest: str, source: str) -> bool:
        """Whether the registry could take the blob from its repository `source`."""
        path = f"/v2/{self.path}/blobs/uploads/?mount={digest}&from={quote(source, safe='')}"
        scope = f"{self.scope} repository:{source}:pull"
        try:
            answer = self.client.request("POST", path, scope=scope, body=lambda: b"", expected=(201, 202))
        except RegistryError as error:
            if error.status in (400, 401, 403, 404, 405):
                return False  # we may not read there, or it knows no mounts
            raise
        if answer.status == 201:
            return True
        location = answer.headers.get("Location", "")
        if target := address(self.client.url("/"), location):  # it has begun an upload instead, which nobody needs
            try:
                self.client.request("DELETE", target, scope=self.scope, expected=(204, 202, 404, 405), attempts=1)
            except RegistryError:
                pass
        return False

    def send(self, blob: Descriptor, tell: Callable[[int], None]) -> None:
        """Let the registry have the blob; `tell` is told of the bytes sent. Raises RegistryError and Damaged."""
        if self._blobs.size(blob.digest) != blob.size:
            raise Damaged(f"blob {blob.digest} is missing from the store", hint="make or pull the image again")
        for attempt in range(ATTEMPTS):
            try:
                if blob.size <= AT_ONCE:
                    self._send_at_once(blob, tell)
                else:
                    self._send_in_chunks(blob, tell)
                return
            except RegistryError as error:
                if error.status in (0, 404, 416) and self.has(blob.digest):
                    return  # it came to an end, and only the answer was lost
                if error.status == 400:
                    self._examine(blob)
                if error.status not in (0, 404, 416, *PASSING) or attempt + 1 == ATTEMPTS:
                    raise
                wait(attempt, self.client.notify, error.after)

    def _examine(self, blob: Descriptor) -> None:
        """It may be our fault that it is not what its digest says. Raises Damaged."""
        for _ in self._blobs.chunks(blob.digest):
            pass

    def _send_at_once(self, blob: Descriptor, tell: Callable[[int], None]) -> None:
        self._put(self._begin(), blob, 0, tell)

    def _begin(self) -> str:
        answer = self.client.request(
            "POST", f"/v2/{self.path}/blobs/uploads/", scope=self.scope, body=lambda: b"", expected=(202,)
        )
        self._least = length(answer.headers.get("OCI-Chunk-Min-Length", ""))
        return self._next(self.client.url("/"), answer.headers.get("Location", ""))

    def _next(self, before: str, location: str) -> str:
        if not (target := address(before, location)):
            raise RegistryError(f"{self.client.host} gave no place to upload to: {location[:200]!r}", status=502)
        return target

    def _put(self, target: str, blob: Descriptor, first: int, tell: Callable[[int], None]) -> None:
        """The end of an upload, with what is missing."""
        target += ("&" if urlsplit(target).query else "?") + f"digest={blob.digest}"
        headers = {**_TYPE, "Content-Length": str(blob.size - first)}
        self.client.request(
            "PUT", target, scope=self.scope, headers=headers, body=self._body(blob, first, blob.size, tell),
            expected=(201, 204), attempts=1,
        )  # fmt: skip

    def _body(
        self, blob: Descriptor, first: int, end: int, tell: Callable[[int], None]
    ) -> Callable[[], Iterator[bytes] | bytes]:
        def read() -> Iterator[bytes]:
            with open(self._blobs.path(blob.digest), "rb", buffering=0) as file:
                file.seek(first)
                at = first
                while at < end and (data := file.read(min(_READ, end - at))):
                    yield data
                    at += len(data)
                    tell(at)

        return read if first < end else lambda: b""

    def _send_in_chunks(self, blob: Descriptor, tell: Callable[[int], None]) -> None:
        """Go on with an upload of an earlier command, or begin one."""
        record = self._record(blob.digest)
        try:
            with locked(f"{self._folder}/.{os.path.basename(record)}", wait=False):
                self._go_on(blob, record, tell)
        except BlockingIOError:  # another command sends the same: this one does so beside it
            self._go_on(blob, "", tell)

    def _go_on(self, blob: Descriptor, record: str, tell: Callable[[int], None]) -> None:
        target, at = self._resume(record) if record else ("", 0)
        resumed = bool(target) and at <= blob.size
        try:
            if not resumed:
                target, at = self._begin(), 0
            target = self._send_chunks(target, at, blob, record, tell)
            self._put(target, blob, blob.size, tell)
        except RegistryError as error:
            if error.status == 400 and record:
                discard(record)  # of what was sent no blob can be made
            if error.status == 400 and resumed:
                error.status = 416  # what was sent before was not of this blob: begin anew
            raise
        if record:
            discard(record)

    def _resume(self, record: str) -> tuple[str, int]:
        """Where the upload that the record tells of stands; "" where there is none."""
        try:
            with open(record, encoding="ascii") as file:
                target = address(self.client.url("/"), file.read(1 << 14).strip())
        except (FileNotFoundError, ValueError):
            return "", 0
        return self._status(target) if target else ("", 0)

    def _status(self, target: str) -> tuple[str, int]:
        """Where to go on, and how many bytes the registry has; "" when it knows nothing of the upload."""
        try:
            answer = self.client.request("GET", target, scope=self.scope, expected=(204, 200))
        except RegistryError as error:
            if error.status in (400, 404, 405, 416):
                return "", 0
            raise
        has = uploaded(answer.headers.get("Range", ""))
        location = answer.headers.get("Location", "")
        return (self._next(target, location) if location else target, has) if has >= 0 else ("", 0)

    def _send_chunks(self, target: str, at: int, blob: Descriptor, record: str, tell: Callable[[int], None]) -> str:
        """All that is missing; gives where the upload is to be ended."""
        fruitless = 0
        while at < blob.size:
            if record:
                write_atomic(record, target.encode("ascii", "ignore"), durable=False)
            before, end = at, min(blob.size, at + max(even(blob.size - at), self._least))
            headers = {**_TYPE, "Content-Length": str(end - at), "Content-Range": f"{at}-{end - 1}"}
            try:
                answer = self.client.request(
                    "PATCH", target, scope=self.scope, headers=headers, body=self._body(blob, at, end, tell),
                    expected=(202, 201, 204), attempts=1,
                )  # fmt: skip
                target, at = self._next(target, answer.headers.get("Location", "")), end
                continue
            except RegistryError as error:
                if error.status not in (0, 416, *PASSING):
                    raise
                pause = error.after
                failure = error
            wait(fruitless, self.client.notify, pause)  # before it is asked how far it is: some is still on its way
            target, at = self._status(target)
            if not target:
                raise RegistryError(failure.message, status=416, hint=failure.hint)
            fruitless = 0 if at > before else fruitless + 1
            if fruitless == ATTEMPTS or at > blob.size:
                raise failure
            tell(at)
        return target
