"""What both ends of the OCI distribution protocol (version 1.1, and Docker's version 2) agree on.

Names, digests and numbers of strangers become values here, before anything uses them as a path or an address.
"""

from __future__ import annotations

import json
import re

from specrun.errors import SpecrunError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
SCHEMA_1 = (
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)
MANIFESTS = (OCI_MANIFEST, DOCKER_MANIFEST)
INDEXES = (OCI_INDEX, DOCKER_LIST)
FOREIGN = ("nondistributable", "rootfs.foreign")
"""Parts of the media types of layers that are fetched from elsewhere, and not kept by registries."""

MAX_MANIFEST = 4 << 20
"""Bytes; the least that the specification wants to be possible, and the most that we take."""
MAX_CONFIG = 8 << 20
MAX_NAME = 255
MAX_PAGE = 1000
"""Names in one page of a listing."""
MAX_DEPTH = 64
"""How deep the JSON of a manifest may nest."""

_NAME = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*", re.ASCII)
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_SESSION = re.compile("[0-9a-f]{32}")
_RANGE = re.compile(r"(?:bytes[ =])?([0-9]{1,18})-([0-9]{1,18})(?:/(?:[0-9]{1,18}|\*))?", re.ASCII)
_NUMBER = re.compile("[0-9]{1,18}", re.ASCII)

CODES = {
    "BLOB_UNKNOWN": (404, "blob unknown to registry"),
    "BLOB_UPLOAD_INVALID": (400, "blob upload invalid"),
    "BLOB_UPLOAD_UNKNOWN": (404, "blob upload unknown to registry"),
    "DIGEST_INVALID": (400, "provided digest did not match uploaded content"),
    "MANIFEST_BLOB_UNKNOWN": (404, "manifest references a manifest or blob unknown to registry"),
    "MANIFEST_INVALID": (400, "manifest invalid"),
    "MANIFEST_UNKNOWN": (404, "manifest unknown to registry"),
    "NAME_INVALID": (400, "invalid repository name"),
    "NAME_UNKNOWN": (404, "repository name not known to registry"),
    "PAGINATION_NUMBER_INVALID": (400, "invalid number of results requested"),
    "RANGE_INVALID": (416, "invalid content range"),
    "SIZE_INVALID": (400, "provided length did not match content length"),
    "TAG_INVALID": (400, "invalid tag"),
    "UNAUTHORIZED": (401, "authentication required"),
    "DENIED": (403, "requested access to the resource is denied"),
    "UNSUPPORTED": (405, "the operation is unsupported"),
    "TOOMANYREQUESTS": (429, "too many requests"),
    "UNAVAILABLE": (503, "service unavailable"),
}
"""Error code of the specification -> status of the answer, and what it says."""


class ProtocolError(Exception):
    """An answer that says what is wrong: `code` is one of CODES."""

    def __init__(self, code: str, message: str = "", *, status: int = 0, detail: object = None) -> None:
        self.code = code
        self.status = status or CODES[code][0]
        self.message = message or CODES[code][1]
        self.detail = detail
        super().__init__(f"{code}: {self.message}")

    def body(self) -> bytes:
        """The JSON document that the specification wants."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.detail is not None:
            error["detail"] = self.detail
        return json.dumps({"errors": [error]}).encode()


def is_repository(text: str) -> bool:
    """Whether `text` is a name of a repository: lower case, and no way out of a folder."""
    return len(text) <= MAX_NAME and _NAME.fullmatch(text) is not None


def is_tag(text: str) -> bool:
    """Whether `text` is a tag."""
    return _TAG.fullmatch(text) is not None


def is_digest(text: str) -> bool:
    """Whether `text` is a sha256 or sha512 digest, written as the specification wants it."""
    return _DIGEST.fullmatch(text) is not None


def is_session(text: str) -> bool:
    """Whether `text` can be the id of an upload of our server."""
    return _SESSION.fullmatch(text) is not None


def parse_range(text: str) -> tuple[int, int] | None:
    """First and last byte of a Content-Range or Range of an upload; None for what is none."""
    match = _RANGE.fullmatch(text.strip())
    return (int(match[1]), int(match[2])) if match else None


def parse_count(text: str | None, most: int = MAX_PAGE) -> int:
    """How many results `n` asks for, at most `most`. Raises ProtocolError."""
    if text is None:
        return most
    if not _NUMBER.fullmatch(text):
        raise ProtocolError("PAGINATION_NUMBER_INVALID", detail={"n": text[:40]})
    return min(int(text), most)


class InvalidDocument(SpecrunError):
    """JSON of a stranger that is not what it should be."""

    code = "invalid-document"


def parse_json(data: bytes) -> dict[str, Any]:
    """A JSON object: UTF-8, no key twice, no NaN, not too deep. Raises InvalidDocument."""
    if _depth(data) > MAX_DEPTH:
        raise InvalidDocument(f"JSON is nested deeper than {MAX_DEPTH}")
    try:
        document = json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidDocument(f"not valid JSON: {str(error)[:200]}") from error
    if not isinstance(document, dict):
        raise InvalidDocument("not a JSON object")
    return document


def _depth(data: bytes) -> int:
    """An upper bound of the nesting: brackets in texts count, which only errs to the safe side above the limit."""
    if data.count(b"[") + data.count(b"{") <= MAX_DEPTH:
        return 0
    depth = deepest = 0
    inside, escaped = False, False
    for byte in data:
        if inside:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                inside = False
        elif byte == 0x22:
            inside = True
        elif byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} stands there twice")
        found[key] = value
    return found


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


class Descriptor:
    """A reference to content: media type, digest and size, checked."""

    __slots__ = ("digest", "document", "media_type", "size")

    def __init__(self, media_type: str, digest: str, size: int, document: dict[str, Any]) -> None:
        self.media_type = media_type
        self.digest = digest
        self.size = size
        self.document = document

    @classmethod
    def parse(cls, document: object, what: str) -> Descriptor:
        """Raises InvalidDocument, naming `what`."""
        if not isinstance(document, dict):
            raise InvalidDocument(f"{what} is not a descriptor")
        media_type, digest, size = (document.get(key) for key in ("mediaType", "digest", "size"))
        if not isinstance(media_type, str) or not media_type:
            raise InvalidDocument(f"{what} has no mediaType")
        if not isinstance(digest, str) or not is_digest(digest):
            raise InvalidDocument(f"{what} has no digest of sha256 or sha512: {str(digest)[:90]!r}")
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < 1 << 62:
            raise InvalidDocument(f"{what} has no size: {str(size)[:40]}")
        return cls(media_type, digest, size, document)

    @property
    def foreign(self) -> bool:
        """Whether registries need not have it."""
        return any(part in self.media_type for part in FOREIGN)

    @property
    def urls(self) -> list[str]:
        """Where else it may be had."""
        urls = self.document.get("urls")
        return [url for url in urls if isinstance(url, str)] if isinstance(urls, list) else []


class Manifest:
    """A manifest or an index: the bytes, and what was read from them."""

    __slots__ = (
        "annotations", "artifact_type", "children", "config", "document", "layers", "media_type", "raw", "subject",
    )  # fmt: skip

    def __init__(self, raw: bytes, media_type: str) -> None:
        """Raises InvalidDocument."""
        self.raw = raw
        self.document = parse_json(raw)
        self.media_type = _media_type(self.document, media_type)
        if self.document.get("schemaVersion") != 2 or isinstance(self.document.get("schemaVersion"), bool):
            raise InvalidDocument("schemaVersion is not 2")
        self.config: Descriptor | None = None
        self.layers: list[Descriptor] = []
        self.children: list[Descriptor] = []
        self.subject: Descriptor | None = None
        if self.is_index:
            self.children = _descriptors(self.document, "manifests")
        else:
            self.config = Descriptor.parse(self.document.get("config"), "config")
            self.layers = _descriptors(self.document, "layers")
        if self.document.get("subject") is not None:
            self.subject = Descriptor.parse(self.document["subject"], "subject")
        self.annotations = _texts(self.document.get("annotations"))
        declared = self.document.get("artifactType")
        self.artifact_type = declared if isinstance(declared, str) else ""
        if not self.artifact_type and self.config:
            self.artifact_type = self.config.media_type

    @property
    def is_index(self) -> bool:
        """Whether it lists manifests, not layers."""
        return self.media_type in INDEXES

    def descriptor(self, digest: str) -> dict[str, Any]:
        """How a list of referrers names this manifest."""
        found: dict[str, Any] = {"mediaType": self.media_type, "digest": digest, "size": len(self.raw)}
        if self.artifact_type:
            found["artifactType"] = self.artifact_type
        if self.annotations:
            found["annotations"] = self.annotations
        return found


def _media_type(document: dict[str, Any], header: str) -> str:
    header = header.partition(";")[0].strip().lower()
    declared = document.get("mediaType")
    if declared is not None and not isinstance(declared, str):
        raise InvalidDocument("mediaType is not a text")
    if document.get("schemaVersion") == 1 or header in SCHEMA_1 or declared in SCHEMA_1:
        raise InvalidDocument("it is an image of schema version 1, which is no longer supported")
    lists, holds = "manifests" in document, "layers" in document or "config" in document
    if lists and holds:
        raise InvalidDocument("it is both an index and a manifest")
    known = (*MANIFESTS, *INDEXES)
    if declared and header in known and declared != header:
        raise InvalidDocument(f"its mediaType is {declared[:90]}, it was sent as {header}")
    found = declared or (header if header in known else OCI_INDEX if lists else OCI_MANIFEST)
    if found not in known:
        raise InvalidDocument(f"the media type {found[:90]!r} is not one of a manifest")
    if (found in INDEXES) != lists:
        raise InvalidDocument(f"its content is not that of {found}")
    return found


def _descriptors(document: dict[str, Any], key: str) -> list[Descriptor]:
    found = document.get(key)
    if found is None:
        found = []
    if not isinstance(found, list):
        raise InvalidDocument(f"{key} is not a list")
    if len(found) > 10_000:
        raise InvalidDocument(f"{key} has {len(found)} entries")
    return [Descriptor.parse(one, f"{key}[{index}]") for index, one in enumerate(found)]


def _texts(found: object) -> dict[str, str]:
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise InvalidDocument("annotations is not a map of texts")
    return found


def quiet(layer: str, what: str, done: int, total: int) -> None:
    """News of a push or a pull for nobody: which layer, Docker's word for what is done to it, and bytes."""
