"""Image references, as distribution/reference defines and normalises them."""

from __future__ import annotations

import re

from specrun.errors import SpecrunError

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"

_LABEL = "(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?", re.ASCII)
_PATH = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*", re.ASCII)
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}", re.ASCII)
_HEX = re.compile("[0-9a-f]{64}")


class InvalidReference(SpecrunError):
    """Text that names no image."""

    code = "invalid-reference"


class Reference:
    """A normalised reference: always with a domain, and with a tag unless it has a digest."""

    __slots__ = ("digest", "domain", "path", "tag", "text")

    def __init__(self, domain: str, path: str, tag: str, digest: str, text: str) -> None:
        self.domain = domain
        self.path = path
        self.tag = tag
        self.digest = digest
        self.text = text
        """As it was written, for messages."""

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Parse and normalise. Raises InvalidReference."""
        if _HEX.fullmatch(text):
            raise _invalid(text, "cannot specify 64-byte hexadecimal strings")
        rest, at, digest = text.partition("@")
        if at and not _DIGEST.fullmatch(digest):
            raise _invalid(text, f"{digest!r} is not a digest")
        if digest:
            _check_digest(text, digest)
        name, tag = _split_tag(rest)
        if tag is not None and not _TAG.fullmatch(tag):
            raise _invalid(text, f"{tag!r} is not a tag")
        domain, path = _split_domain(name)
        if not _DOMAIN.fullmatch(domain):
            raise _invalid(text, f"{domain!r} is not a host")
        if path != path.lower():
            raise _invalid(text, "repository name must be lowercase")
        if not _PATH.fullmatch(path):
            raise _invalid(text, f"{path!r} is not a repository name")
        if len(path) > 255:
            raise _invalid(text, "repository name must not be more than 255 characters")
        return cls(domain, path, tag or ("" if digest else DEFAULT_TAG), digest, text)

    @property
    def name(self) -> str:
        """Domain and path: `docker.io/library/busybox`."""
        return f"{self.domain}/{self.path}"

    @property
    def canonical(self) -> str:
        """All of it: `docker.io/library/busybox:latest`."""
        return self.name + self._suffix()

    @property
    def familiar_name(self) -> str:
        """The name as people write it: `busybox`."""
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        return self.path.removeprefix("library/") if self.path.count("/") == 1 else self.path

    @property
    def familiar(self) -> str:
        """All of it as people write it: `busybox:latest`."""
        return self.familiar_name + self._suffix()

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def __str__(self) -> str:
        return self.familiar


def _split_tag(rest: str) -> tuple[str, str | None]:
    colon = rest.rfind(":")
    if colon < 0 or "/" in rest[colon:]:
        return rest, None
    return rest[:colon], rest[colon + 1 :]


def _split_domain(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    is_host = "." in first or ":" in first or first == "localhost" or first != first.lower()
    if not slash or not is_host:
        first, rest = DEFAULT_DOMAIN, name
    if first == "index.docker.io":
        first = DEFAULT_DOMAIN
    if first == DEFAULT_DOMAIN and "/" not in rest:
        rest = f"library/{rest}"
    return first, rest


def _check_digest(text: str, digest: str) -> None:
    algorithm, _, digits = digest.partition(":")
    wanted = {"sha256": 64, "sha384": 96, "sha512": 128}.get(algorithm)
    if wanted is None:
        raise _invalid(text, "unsupported digest algorithm")
    if len(digits) != wanted or digits != digits.lower():
        raise _invalid(text, "invalid checksum digest length")


def _invalid(text: str, why: str) -> InvalidReference:
    return InvalidReference(
        f"invalid reference format: {text!r}: {why}", hint="expected [host[:port]/]name[:tag][@digest]"
    )
