"""Content digests (OCI image specification, descriptor.md): sha256, parsed strictly, computed without OpenSSL."""

from __future__ import annotations

import sys

from specrun.errors import Damaged

# hashlib loads OpenSSL, which takes longer than all the hashing that a start of a container needs.
if sys.version_info >= (3, 12):
    from _sha2 import sha256
else:
    from _sha256 import sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["bulk", "check", "hex_of", "is_digest", "of", "sha256"]

_HEX = frozenset("0123456789abcdef")


def bulk() -> Any:
    """A sha256 for megabytes: OpenSSL's, six times as fast, worth its loading only there."""
    from hashlib import sha256 as fast

    return fast(usedforsecurity=False)


def of(data: bytes) -> str:
    """`sha256:` and the digest of `data`."""
    return f"sha256:{sha256(data).hexdigest()}"


def is_digest(text: str) -> bool:
    """Whether `text` is `sha256:` and 64 lower-case hexadecimal digits."""
    return len(text) == 71 and text.startswith("sha256:") and _HEX.issuperset(text[7:])


def hex_of(digest: str) -> str:
    """The digits of a digest, fit for use in a path. Raises Damaged for anything that is no digest."""
    if not is_digest(digest):
        raise Damaged(f"{digest!r} is not a sha256 digest")
    return digest[7:]


def check(data: bytes, digest: str, what: str) -> bytes:
    """`data`, once it is proven to be what `digest` says. Raises Damaged."""
    found = of(data)
    if found != digest:
        raise Damaged(f"{what} is damaged: its digest is {found}, expected {digest}")
    return data
