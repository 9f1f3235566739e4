"""The server: what each route of the distribution specification answers.

Handlers return a Reply or raise ProtocolError; `serving.py` is the one place that writes to the network.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from urllib.parse import parse_qs, quote, unquote_to_bytes, urlencode

from specrun.registry.protocol import (
    MAX_MANIFEST,
    MAX_PAGE,
    OCI_INDEX,
    InvalidDocument,
    Manifest,
    ProtocolError,
    is_digest,
    is_repository,
    is_session,
    is_tag,
    parse_count,
    parse_range,
)
from specrun.registry.uploads import Sessions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from typing import Any

    from specrun.registry.gate import Gate
    from specrun.registry.storage import Storage
    from specrun.registry.traffic import Traffic

_SESSION_ROUTE = re.compile("(.+)/blobs/uploads/?([^/]*)")
_CONTENT_ROUTE = re.compile("(.+)/(manifests|blobs|referrers)/([^/]*)")
_TAGS_ROUTE = re.compile("(.+)/tags/list")


class Reply:
    """What is answered: a short body, a file, or what comes little by little (with its Content-Length)."""

    __slots__ = ("body", "file", "headers", "status", "stream")

    def __init__(
        self, status: int, headers: dict[str, str] | None = None, body: bytes = b"", *, file: str = "",
        stream: AsyncIterator[bytes] | None = None,
    ) -> None:  # fmt: skip
        self.status = status
        self.headers = headers or {}
        self.body = body
        self.file = file
        self.stream = stream


class Asked:
    """A request, as far as the routes care."""

    __slots__ = ("body", "headers", "length", "method", "path", "query", "route")

    def __init__(
        self, method: str, target: str, headers: Mapping[str, str], length: int | None, body: AsyncIterator[bytes]
    ) -> None:
        """Raises ProtocolError for a path that is no text."""
        raw, _, query = target.partition("?")
        try:
            self.path = unquote_to_bytes(raw).decode()
            pairs = parse_qs(query, keep_blank_values=True, max_num_fields=100)
        except ValueError as error:
            raise ProtocolError("NAME_INVALID", "the address is not UTF-8") from error
        self.query: dict[str, list[str]] = pairs
        self.method = method
        self.headers = headers
        self.length = length
        """Content-Length; None for a body in chunks."""
        self.body = body
        self.route = "other"

    def first(self, key: str) -> str | None:
        """The first value of a parameter of the query."""
        values = self.query.get(key)
        return values[0] if values else None


class Policy:
    """What the server lets itself be asked for."""

    __slots__ = ("allow_delete", "mount", "read_only", "warning")

    MOUNTS = ("any", "named", "none")

    def __init__(
        self, *, allow_delete: bool = True, read_only: bool = False, warning: str = "", mount: str = "any"
    ) -> None:
        self.allow_delete = allow_delete
        self.read_only = read_only
        self.mount = mount
        """Where a blob may be mounted from: any repository that its pusher may pull from, the named one, or none."""
        self.warning = warning
        """Shown by clients to whoever pulls or pushes."""


class Registry:
    """The routes over one storage."""

    traffic: Traffic | None = None
    """The counters of a cache."""

    def __init__(self, storage: Storage, gate: Gate, policy: Policy) -> None:
        self.storage = storage
        self.gate = gate
        self.policy = policy
        self.sessions = Sessions(storage)

    async def answer(self, asked: Asked) -> Reply:
        """Raises ProtocolError."""
        path = asked.path
        if path in ("/v2", "/v2/"):
            asked.route = "base"
            _only(asked, "GET", "HEAD")
            await self.enter(asked, [])
            return document({})
        if not path.startswith("/v2/"):
            raise ProtocolError("UNSUPPORTED", "there is nothing here; the registry is at /v2/", status=404)
        rest = path.removeprefix("/v2/")
        if rest == "_catalog":
            asked.route = "catalog"
            return await self._catalog(asked)
        if match := _TAGS_ROUTE.fullmatch(rest):
            asked.route = "tags"
            return await self._tags(asked, _name(match[1]))
        if match := _SESSION_ROUTE.fullmatch(rest):
            asked.route = "upload"
            return await self._uploads(asked, _name(match[1]), match[2])
        if match := _CONTENT_ROUTE.fullmatch(rest):
            asked.route = match[2]
            handler = {"manifests": self._manifests, "blobs": self._blobs, "referrers": self._referrers}[match[2]]
            return await handler(asked, _name(match[1]), match[3])
        raise ProtocolError("NAME_INVALID", "no such route", status=404)

    async def enter(self, asked: Asked, wanted: list[tuple[str, str]]) -> str:
        """Raises Refusal. In a thread, because passwords are digested slowly."""
        from specrun.registry.gate import Open

        if isinstance(self.gate, Open):
            return ""
        return await asyncio.to_thread(self.gate.enter, asked.headers, wanted)

    def check_writable(self, *, delete: bool = False) -> None:
        """Raises ProtocolError when nothing may be pushed, or deleted."""
        if self.policy.read_only:
            raise ProtocolError("UNSUPPORTED", "this registry is read-only")
        if delete and not self.policy.allow_delete:
            raise ProtocolError("UNSUPPORTED", "this registry deletes nothing")

    # -- listings ---------------------------------------------------------------------------------------------------

    async def _catalog(self, asked: Asked) -> Reply:
        _only(asked, "GET", "HEAD")
        await self.enter(asked, [("*", "*")])
        names = await asyncio.to_thread(lambda: list(self.storage.repositories()))
        page, headers = _page(asked, names)
        return document({"repositories": page}, headers)

    async def _tags(self, asked: Asked, name: str) -> Reply:
        _only(asked, "GET", "HEAD")
        await self.enter(asked, [(name, "pull")])
        return await self.get_tags(asked, name)

    async def get_tags(self, asked: Asked, name: str) -> Reply:
        """The tags of a repository."""
        if not self.storage.exists(name):
            raise ProtocolError("NAME_UNKNOWN", detail={"name": name})
        page, headers = _page(asked, self.storage.tags(name))
        return document({"name": name, "tags": page}, headers)

    async def _referrers(self, asked: Asked, name: str, digest: str) -> Reply:
        _only(asked, "GET", "HEAD")
        await self.enter(asked, [(name, "pull")])
        if not is_digest(digest):
            raise ProtocolError("DIGEST_INVALID", "not a digest", detail={"digest": digest[:140]})
        return await self.get_referrers(asked, name, digest)

    async def get_referrers(self, asked: Asked, name: str, digest: str) -> Reply:
        """What has this manifest for its subject."""
        found = await asyncio.to_thread(self.storage.referrers, name, digest)
        headers = {}
        if kind := asked.first("artifactType"):
            found = [one for one in found if one.get("artifactType") == kind]
            headers["OCI-Filters-Applied"] = "artifactType"
        by_digest = {one["digest"]: one for one in found}
        page, more = _page(asked, sorted(by_digest), 500)
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [by_digest[digest] for digest in page]}
        return Reply(200, {"Content-Type": OCI_INDEX, **headers, **more}, json.dumps(index).encode())

    # -- manifests --------------------------------------------------------------------------------------------------

    async def _manifests(self, asked: Asked, name: str, reference: str) -> Reply:
        if not is_digest(reference) and not is_tag(reference):
            if asked.method in ("GET", "HEAD") and ":" not in reference:
                raise ProtocolError("MANIFEST_UNKNOWN", detail={"reference": reference[:140]})
            if ":" in reference:
                raise ProtocolError("DIGEST_INVALID", "not a digest", detail={"digest": reference[:140]})
            raise ProtocolError("TAG_INVALID", detail={"tag": reference[:140]})
        if asked.method in ("GET", "HEAD"):
            await self.enter(asked, [(name, "pull")])
            return await self.get_manifest(asked, name, reference)
        if asked.method == "PUT":
            await self.enter(asked, [(name, "pull"), (name, "push")])
            self.check_writable()
            return await self._put_manifest(asked, name, reference)
        if asked.method == "DELETE":
            await self.enter(asked, [(name, "delete")])
            self.check_writable(delete=True)
            remove = self.storage.delete_manifest if ":" in reference else self.storage.delete_tag
            if not await asyncio.to_thread(remove, name, reference):
                raise ProtocolError("MANIFEST_UNKNOWN", detail={"reference": reference})
            return Reply(202)
        raise _wrong_method(asked, "GET", "HEAD", "PUT", "DELETE")

    async def get_manifest(self, asked: Asked, name: str, reference: str) -> Reply:
        """One manifest."""
        digest = self.storage.resolve(name, reference)
        found = self.storage.manifest(name, digest) if digest else None
        if digest is None or found is None:
            code = "MANIFEST_UNKNOWN" if self.storage.exists(name) else "NAME_UNKNOWN"
            raise ProtocolError(code, detail={"name": name, "reference": reference})
        etag = f'"{digest}"'
        if etag in asked.headers.get("If-None-Match", ""):
            return Reply(304, {"ETag": etag, "Docker-Content-Digest": digest})
        headers = {"Content-Type": found[0], "Docker-Content-Digest": digest, "ETag": etag}
        return Reply(200, {**headers, **self._warning()}, found[1])

    async def _put_manifest(self, asked: Asked, name: str, reference: str) -> Reply:
        raw = await _read(asked, MAX_MANIFEST)
        try:
            manifest = Manifest(raw, asked.headers.get("Content-Type", ""))
        except InvalidDocument as error:
            raise ProtocolError("MANIFEST_INVALID", error.message) from error
        if ":" in reference:
            algorithm = reference.partition(":")[0]
            digest = f"{algorithm}:{hashlib.new(algorithm, raw).hexdigest()}"
            if digest != reference:
                raise ProtocolError("DIGEST_INVALID", detail={"digest": reference, "found": digest})
            tags = asked.query.get("tag", [])
        else:
            digest, tags = f"sha256:{hashlib.sha256(raw).hexdigest()}", [reference]
        if not all(is_tag(tag) for tag in tags):
            raise ProtocolError("TAG_INVALID", detail={"tag": [tag[:140] for tag in tags]})
        await asyncio.to_thread(self.storage.put_manifest, name, digest, manifest, tags)
        headers = {"Location": f"/v2/{name}/manifests/{reference}", "Docker-Content-Digest": digest}
        if manifest.subject:
            headers["OCI-Subject"] = manifest.subject.digest
        if tags and ":" in reference:
            headers["OCI-Tag"] = ", ".join(tags)
        return Reply(201, {**headers, **self._warning()})

    def _warning(self) -> dict[str, str]:
        text = self.policy.warning.replace("\\", "\\\\").replace('"', '\\"')
        return {"Warning": f'299 - "{text}"'} if text else {}

    # -- blobs ------------------------------------------------------------------------------------------------------

    async def _blobs(self, asked: Asked, name: str, digest: str) -> Reply:
        if not is_digest(digest):
            raise ProtocolError("DIGEST_INVALID", "not a digest", detail={"digest": digest[:140]})
        if asked.method in ("GET", "HEAD"):
            await self.enter(asked, [(name, "pull")])
            return await self.get_blob(asked, name, digest)
        if asked.method == "DELETE":
            await self.enter(asked, [(name, "delete")])
            self.check_writable(delete=True)
            if not await asyncio.to_thread(self.storage.delete_blob, name, digest):
                raise ProtocolError("BLOB_UNKNOWN", detail={"digest": digest})
            return Reply(202)
        raise _wrong_method(asked, "GET", "HEAD", "DELETE")

    async def get_blob(self, asked: Asked, name: str, digest: str) -> Reply:
        """One blob; a client that asks whether it is there is about to name it."""
        if not self.storage.has_blob(name, digest, keep=asked.method == "HEAD"):
            raise ProtocolError("BLOB_UNKNOWN", detail={"digest": digest})
        return Reply(200, blob_headers(digest), file=self.storage.blob_path(digest))

    # -- uploads ----------------------------------------------------------------------------------------------------

    async def _uploads(self, asked: Asked, name: str, identity: str) -> Reply:
        if identity:
            if asked.method not in ("GET", "HEAD", "PATCH", "PUT", "DELETE"):
                raise _wrong_method(asked, "GET", "PATCH", "PUT", "DELETE")
        elif asked.method != "POST":
            raise _wrong_method(asked, "POST")
        await self.enter(asked, [(name, "pull"), (name, "push")])
        self.check_writable(delete=asked.method == "DELETE")
        if not identity:
            return await self._start_upload(asked, name)
        if not is_session(identity):
            raise ProtocolError("BLOB_UPLOAD_UNKNOWN")
        if asked.method in ("GET", "HEAD"):
            await self.sessions.rest(name, identity)
            size = self.storage.upload_size(name, identity)
            if size is None:
                raise ProtocolError("BLOB_UPLOAD_UNKNOWN")
            return Reply(204, _progress(name, identity, size))
        upload = self.sessions.open(name, identity)
        try:
            if asked.method == "DELETE":
                await asyncio.to_thread(upload.discard)
                return Reply(204)
            _check_range(asked, upload.size)
            await upload.append(asked.body, asked.length)
            if asked.method == "PATCH":
                return Reply(202, _progress(name, identity, upload.size))
            digest = asked.first("digest")
            if digest is None:
                raise ProtocolError("DIGEST_INVALID", "the digest is missing")
            await upload.finish(digest)
            return _created(name, digest)
        finally:
            self.sessions.close(upload)

    async def _start_upload(self, asked: Asked, name: str) -> Reply:
        algorithm = asked.first("digest-algorithm")
        if algorithm not in (None, "sha256", "sha512"):
            raise ProtocolError("DIGEST_INVALID", "unsupported digest algorithm")
        mount = asked.first("mount")
        if mount is not None and is_digest(mount) and await self._mount(asked, name, mount):
            return _created(name, mount)
        digest = asked.first("digest")
        if digest is not None and not is_digest(digest):
            raise ProtocolError("DIGEST_INVALID", "not a digest", detail={"digest": digest[:140]})
        identity = await asyncio.to_thread(self.storage.start_upload, name)
        if digest is None:
            return Reply(202, _progress(name, identity, 0))
        upload = self.sessions.open(name, identity)
        try:
            await upload.append(asked.body, asked.length)
            await upload.finish(digest)
            return _created(name, digest)
        finally:
            await asyncio.to_thread(upload.discard)
            self.sessions.close(upload)

    async def _mount(self, asked: Asked, name: str, digest: str) -> bool:
        """Whether the blob is now in the repository, from one that the asker may pull from."""
        source = asked.first("from")
        if self.policy.mount == "none" or (self.policy.mount == "named" and source is None):
            return False
        if source is not None and is_repository(source):
            return await self._may_pull(asked, source) and await asyncio.to_thread(
                self.storage.mount, name, digest, source
            )
        for holder in await asyncio.to_thread(lambda: list(self.storage.holders(digest))):
            if not await self._may_pull(asked, holder):
                continue
            if await asyncio.to_thread(self.storage.mount, name, digest, holder):
                return True
        return False

    async def _may_pull(self, asked: Asked, name: str) -> bool:
        try:
            await self.enter(asked, [(name, "pull")])
        except ProtocolError:
            return False
        return True


def blob_headers(digest: str) -> dict[str, str]:
    """What is said of every blob. It never changes."""
    return {
        "Content-Type": "application/octet-stream",
        "Docker-Content-Digest": digest,
        "ETag": f'"{digest}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": "max-age=31536000",
    }


def _name(text: str) -> str:
    if not is_repository(text):
        raise ProtocolError("NAME_INVALID", detail={"name": text[:280]})
    return text


def _only(asked: Asked, *methods: str) -> None:
    if asked.method not in methods:
        raise _wrong_method(asked, *methods)


def _wrong_method(asked: Asked, *methods: str) -> ProtocolError:
    return ProtocolError("UNSUPPORTED", f"expected {', '.join(methods)}", detail={"method": asked.method[:20]})


def document(content: dict[str, Any], headers: dict[str, str] | None = None) -> Reply:
    """JSON."""
    return Reply(200, {"Content-Type": "application/json", **(headers or {})}, json.dumps(content).encode())


def _page(asked: Asked, names: list[str], most: int = MAX_PAGE) -> tuple[list[str], dict[str, str]]:
    """The names that `n` and `last` ask for, and where the next ones are."""
    count = parse_count(asked.first("n"), most)
    last = asked.first("last")
    if last:
        names = [name for name in names if name > last]
    page = names[:count]
    if not page or len(page) == len(names):
        return page, {}
    query = urlencode({**{key: values[0] for key, values in asked.query.items()}, "n": count, "last": page[-1]})
    return page, {"Link": f'<{quote(asked.path)}?{query}>; rel="next"'}


def _progress(name: str, identity: str, size: int) -> dict[str, str]:
    return {
        "Location": f"/v2/{name}/blobs/uploads/{identity}",
        "Range": f"0-{max(0, size - 1)}",
        "Docker-Upload-UUID": identity,
    }


def _created(name: str, digest: str) -> Reply:
    return Reply(201, {"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": digest})


def _check_range(asked: Asked, size: int) -> None:
    """A chunk that says where it belongs must belong at the end of what is there."""
    text = asked.headers.get("Content-Range")
    if text is None:
        return
    found = parse_range(text)
    if found is None or found[1] < found[0] - 1:
        raise ProtocolError("RANGE_INVALID", "expected Content-Range: FIRST-LAST")
    if found[0] != size:
        raise ProtocolError("RANGE_INVALID", f"the next byte is {size}")
    if asked.length is not None and asked.length != found[1] - found[0] + 1:
        raise ProtocolError("SIZE_INVALID", "Content-Range and Content-Length differ")


async def _read(asked: Asked, most: int) -> bytes:
    """The whole of a small body. Raises ProtocolError with status 413."""
    if asked.length is not None and asked.length > most:
        raise ProtocolError("SIZE_INVALID", f"more than {most} bytes", status=413)
    data = bytearray()
    async for part in asked.body:
        data += part
        if len(data) > most:
            raise ProtocolError("SIZE_INVALID", f"more than {most} bytes", status=413)
    return bytes(data)
