"""OCI's documents, checked against the image specification before anything is read from them.

They come from strangers: a document is checked whole, and what is wrong is named by its place in it. Docker's
media types for the same things are accepted, and its habit to write null for what is empty.
"""

from __future__ import annotations

import binascii
import re

from specrun.errors import Damaged
from specrun_runtime import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_PART = "[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
_MEDIA_TYPE = re.compile(f"{_PART}/{_PART}", re.ASCII)
_DIGEST = re.compile("[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+", re.ASCII)
_EXACT = {"sha256": re.compile("[0-9a-f]{64}"), "sha512": re.compile("[0-9a-f]{128}")}
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S+", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)
_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_MAX_ITEMS = 10_000
_MAX_SIZE = (1 << 63) - 1


def is_index(media_type: str) -> bool:
    """Whether it is the media type of an index, or of Docker's manifest list."""
    return media_type in _INDEXES


def parse(raw: bytes, what: str) -> dict[str, Any]:
    """The object in a JSON document called `what` in errors. Raises Damaged."""
    document = _parse(raw, what)
    if not isinstance(document, dict):
        raise Damaged(f"{what} is not a JSON object")
    return document


def layout(raw: bytes, what: str = "oci-layout") -> dict[str, Any]:
    """The oci-layout file (image-layout.md). Raises Damaged."""
    document = parse(raw, what)
    _Check(what).field(document, "imageLayoutVersion", _is_text, "a text", needed=True)
    return document


def descriptor(raw: bytes, what: str) -> dict[str, Any]:
    """A content descriptor (descriptor.md). Raises Damaged."""
    document = parse(raw, what)
    _descriptor(_Check(what), document)
    return document


def manifest(raw: bytes, what: str) -> dict[str, Any]:
    """An image manifest (manifest.md). Raises Damaged."""
    document = parse(raw, what)
    check = _Check(what)
    _common(check, document)
    if "manifests" in document:
        check.fail("manifests", "no such field beside layers", "both")
    check.field(document, "config", _is_object, "a descriptor", needed=True)
    _descriptor(check.at("config"), document["config"])
    check.field(document, "layers", _is_list, "a list", needed=True)
    if not document["layers"]:
        check.fail("layers", "at least one", "none")
    _descriptors(check, document, "layers")
    return document


def index(raw: bytes, what: str) -> dict[str, Any]:
    """An image index (image-index.md). Raises Damaged."""
    document = parse(raw, what)
    check = _Check(what)
    _common(check, document)
    if "layers" in document:
        check.fail("layers", "no such field beside manifests", "both")
    check.field(document, "manifests", _is_list, "a list", needed=True)
    _descriptors(check, document, "manifests")
    for number, one in enumerate(document["manifests"]):
        if (platform := one.get("platform")) is not None:
            where = check.at(f"manifests[{number}].platform")
            where.field(platform, "architecture", _is_text, "a text", needed=True)
            where.field(platform, "os", _is_text, "a text", needed=True)
            where.field(platform, "variant", _is_text, "a text")
    return document


def image_config(raw: bytes, what: str) -> dict[str, Any]:
    """An image configuration (config.md). Raises Damaged."""
    document = parse(raw, what)
    check = _Check(what)
    for key in ("architecture", "os"):
        check.field(document, key, _is_text, "a text", needed=True)
    for key in ("variant", "author"):
        check.field(document, key, _is_text, "a text")
    check.field(document, "created", _is_time, "a time (RFC 3339)")
    check.field(document, "config", _is_object, "an object")
    _container_config(check.at("config"), document.get("config") or {})
    check.field(document, "rootfs", _is_object, "an object", needed=True)
    rootfs = check.at("rootfs")
    rootfs.field(document["rootfs"], "type", lambda value: value == "layers", '"layers"', needed=True)
    if document["rootfs"].get("diff_ids") is None:  # as Docker writes an image without layers
        document["rootfs"]["diff_ids"] = []
    rootfs.field(document["rootfs"], "diff_ids", _list_of(_is_sha256), "a list of sha256 digests")
    check.field(document, "history", _list_of(_is_object), "a list of objects")
    for number, entry in enumerate(document.get("history") or []):
        where = check.at(f"history[{number}]")
        for key in ("author", "created_by", "comment"):
            where.field(entry, key, _is_text, "a text")
        where.field(entry, "created", _is_time, "a time (RFC 3339)")
        where.field(entry, "empty_layer", lambda value: isinstance(value, bool), "true or false")
    return document


def docker_listing(raw: bytes) -> list[dict[str, Any]]:
    """manifest.json of Docker's archives. Raises Damaged."""
    what = "manifest.json"
    document = _parse(raw, what)
    check = _Check(what)
    if not _list_of(_is_object)(document):
        check.fail("", "a list of objects", type(document).__name__)
    for number, one in enumerate(document):
        where = check.at(f"[{number}]")
        where.field(one, "Config", _is_text, "a path", needed=True)
        where.field(one, "Layers", _list_of(_is_text), "a list of paths")
        where.field(one, "RepoTags", _list_of(_is_text), "a list of references")
        one["Layers"] = one.get("Layers") or []
    found: list[dict[str, Any]] = document
    return found


def _parse(raw: bytes, what: str) -> Any:
    try:
        return jsontext.loads(raw)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise Damaged(f"{what} is not JSON: {reason}") from error


class _Check:
    """Where we are in a document."""

    def __init__(self, what: str, path: str = "") -> None:
        self.what = what
        self.path = path

    def at(self, path: str) -> _Check:
        return _Check(self.what, f"{self.path}.{path}" if self.path else path)

    def field(
        self, document: dict[str, Any], key: str, test: Callable[[Any], bool], expected: str, *, needed: bool = False
    ) -> None:
        """The field is as it must be; one that need not be there may be null."""
        if not isinstance(document, dict):
            self.fail("", "an object", type(document).__name__)
        value = document.get(key)
        if value is None:
            if needed:
                self.fail(key, expected, "nothing")
        elif not test(value):
            self.fail(key, expected, repr(value)[:60])

    def fail(self, key: str, expected: str, found: str) -> None:
        where = f"{self.path}.{key}".strip(".")
        raise Damaged(f"{self.what}: {where or 'the document'} must be {expected}, found {found}")


def _common(check: _Check, document: dict[str, Any]) -> None:
    check.field(document, "schemaVersion", lambda value: value == 2 and _is_number(value), "2", needed=True)
    check.field(document, "mediaType", _is_media_type, "a media type")
    check.field(document, "artifactType", _is_media_type, "a media type")
    check.field(document, "annotations", _map_of(_is_text), "a map of texts")
    check.field(document, "subject", _is_object, "a descriptor")
    if document.get("subject") is not None:
        _descriptor(check.at("subject"), document["subject"])


def _descriptors(check: _Check, document: dict[str, Any], key: str) -> None:
    if len(document[key]) > _MAX_ITEMS:
        check.fail(key, f"at most {_MAX_ITEMS}", str(len(document[key])))
    for number, one in enumerate(document[key]):
        _descriptor(check.at(f"{key}[{number}]"), one)


def _descriptor(check: _Check, document: dict[str, Any]) -> None:
    check.field(document, "mediaType", _is_media_type, "a media type", needed=True)
    check.field(document, "digest", _is_digest, "a digest", needed=True)
    check.field(document, "size", lambda value: _is_number(value) and 0 <= value <= _MAX_SIZE, "bytes", needed=True)
    check.field(document, "urls", _list_of(_is_uri), "a list of URIs")
    check.field(document, "artifactType", _is_media_type, "a media type")
    check.field(document, "annotations", _map_of(_is_text), "a map of texts")
    check.field(document, "data", _is_base64, "base64")


def _container_config(check: _Check, config: dict[str, Any]) -> None:
    for key in ("User", "WorkingDir", "StopSignal"):
        check.field(config, key, _is_text, "a text")
    check.field(config, "Env", _list_of(lambda value: _is_text(value) and "=" in value), "a list of NAME=value")
    for key in ("Entrypoint", "Cmd", "OnBuild", "Shell"):
        check.field(config, key, _list_of(_is_text), "a list of texts")
    for key in ("ExposedPorts", "Volumes"):
        check.field(config, key, _map_of(_is_object), "a map to empty objects")
    check.field(config, "Labels", _map_of(_is_text), "a map of texts")
    check.field(config, "ArgsEscaped", lambda value: isinstance(value, bool), "true or false")
    check.field(config, "Healthcheck", _is_object, "an object")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and "\0" not in value


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _is_list(value: object) -> bool:
    return isinstance(value, list)


def _is_media_type(value: object) -> bool:
    return isinstance(value, str) and bool(_MEDIA_TYPE.fullmatch(value))


def _is_digest(value: object) -> bool:
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        return False
    algorithm, _, digits = value.partition(":")
    exact = _EXACT.get(algorithm)
    return exact is None or bool(exact.fullmatch(digits))


def _is_sha256(value: object) -> bool:
    return _is_digest(value) and str(value).startswith("sha256:")


def _is_uri(value: object) -> bool:
    return isinstance(value, str) and bool(_URI.fullmatch(value))


def _is_time(value: object) -> bool:
    return isinstance(value, str) and bool(_TIME.fullmatch(value))


def _is_base64(value: object) -> bool:
    if not isinstance(value, str) or not value.isascii():
        return False
    try:
        binascii.a2b_base64(value, strict_mode=True)
    except binascii.Error:
        return False
    return True


def _list_of(test: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and len(value) <= _MAX_ITEMS and all(map(test, value))


def _map_of(test: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(test, value.values()))
