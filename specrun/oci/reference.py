"""Image references, as distribution/reference defines and normalises them.

No regular expressions: `re` would take longer to import than all that `run` does with a reference.
"""

from __future__ import annotations

from specrun.errors import SpecrunError

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
MAX_PATH = 255

_DIGITS = frozenset("0123456789")
_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz") | _DIGITS
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_ALNUM = _LETTERS | _DIGITS
_HEX = frozenset("0123456789abcdef")
_ANY_HEX = _HEX | frozenset("ABCDEF")
_WORD = _ALNUM | {"_"}
_TAG_REST = _WORD | frozenset(".-")
_SEPARATORS = (".", "_", "__")
_ALGORITHMS = {"sha256": 64, "sha384": 96, "sha512": 128}


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
        if len(text) == 64 and _HEX.issuperset(text):
            raise _invalid(text, "cannot specify 64-byte hexadecimal strings")
        domain, rest = _split_domain(text)
        path = rest.partition(":")[0]
        if path != path.lower():
            raise _invalid(text, "repository name must be lowercase")
        domain, path, tag, digest = _parts(f"{domain}/{rest}", text)
        return cls(domain, path, tag or ("" if digest else DEFAULT_TAG), digest, text)

    @property
    def pinned(self) -> Reference:
        """Without its tag if it has a digest, which says all."""
        return Reference(self.domain, self.path, "", self.digest, self.text) if self.digest else self

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


def parts(text: str) -> tuple[str, str, str, str]:
    """Domain, path, tag and digest by the grammar alone, each "" where it is missing. Raises InvalidReference.

    What stands before the first slash is a domain if it can be one: nothing is normalised.
    """
    return _parts(text, text)


def _parts(whole: str, text: str) -> tuple[str, str, str, str]:
    """`text` is what the messages name."""
    named, at, digest = whole.partition("@")
    if at:
        _check_digest(text, digest)
    slash = named.rfind("/")
    last, colon, tag = named[slash + 1 :].partition(":")
    if colon and not (0 < len(tag) <= 128 and tag[0] in _WORD and _TAG_REST.issuperset(tag)):
        raise _invalid(text, f"{tag!r} is not a tag")
    name = named[: slash + 1] + last
    domain, slashed, path = name.partition("/")
    if not slashed or not _is_domain(domain):
        domain, path = "", name
    if not path or not all(map(_is_component, path.split("/"))):
        raise _invalid(text, f"{path!r} is not a repository name")
    if len(path) > MAX_PATH:
        raise _invalid(text, f"repository name must not be more than {MAX_PATH} characters")
    return domain, path, tag, digest


def _split_domain(text: str) -> tuple[str, str]:
    """Who is asked for it, and what is left of the text; the hub, unless it begins with what can only be a host."""
    first, slash, rest = text.partition("/")
    is_host = "." in first or ":" in first or first == "localhost" or first != first.lower()
    if not slash or not is_host:
        first, rest = DEFAULT_DOMAIN, text
    if first == "index.docker.io":
        first = DEFAULT_DOMAIN
    if first == DEFAULT_DOMAIN and "/" not in rest:
        rest = f"library/{rest}"
    return first, rest


def _is_domain(text: str) -> bool:
    """A name or an address of a host, perhaps with a port."""
    if text.startswith("["):
        address, bracket, port = text[1:].partition("]")
        good = bool(bracket and address) and (_ANY_HEX | {":"}).issuperset(address)
        return good and (not port or (port[0] == ":" and _is_number(port[1:])))
    host, colon, port = text.partition(":")
    return (not colon or _is_number(port)) and all(map(_is_label, host.split(".")))


def _is_label(text: str) -> bool:
    return bool(text) and text[0] in _ALNUM and text[-1] in _ALNUM and _ALNUM.issuperset(text.replace("-", ""))


def _is_number(text: str) -> bool:
    return bool(text) and _DIGITS.issuperset(text)


def _is_component(text: str) -> bool:
    """Lower-case letters and digits with single separators between: a dot, one or two low lines, hyphens."""
    if _LOWER.issuperset(text):
        return bool(text)
    separator, between = "", False
    for letter in text:
        if letter in _LOWER:
            if separator and not (between and (separator in _SEPARATORS or not separator.strip("-"))):
                return False
            separator, between = "", True
        else:
            separator += letter
    return between and not separator


_CANONICAL: dict[str, str] = {}


def canonical(text: str) -> str:
    """The one spelling of a reference; many objects share few of them. Raises InvalidReference."""
    if text not in _CANONICAL:
        _CANONICAL[text] = Reference.parse(text).canonical
    return _CANONICAL[text]


def _check_digest(text: str, digest: str) -> None:
    algorithm, colon, digits = digest.partition(":")
    for part in algorithm.replace("-", "+").replace("_", "+").replace(".", "+").split("+"):
        if not part or part[0] not in _LETTERS or not _ALNUM.issuperset(part):
            raise _invalid(text, f"{digest!r} is not a digest")
    if not colon or len(digits) < 32 or not _ANY_HEX.issuperset(digits):
        raise _invalid(text, f"{digest!r} is not a digest")
    if algorithm not in _ALGORITHMS:
        raise _invalid(text, "unsupported digest algorithm")
    if len(digits) != _ALGORITHMS[algorithm] or not _HEX.issuperset(digits):
        raise _invalid(text, "invalid checksum digest length")


def _invalid(text: str, why: str) -> InvalidReference:
    return InvalidReference(
        f"invalid reference format: {text!r}: {why}", hint="expected [host[:port]/]name[:tag][@digest]"
    )
