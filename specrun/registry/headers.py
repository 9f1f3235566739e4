"""Headers of strangers become values here, or nothing: what cannot be understood is as if it were not there."""

from __future__ import annotations

import re
from urllib.parse import urljoin, urlsplit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST = 1 << 14
"""Characters of a header that are looked at."""

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"\s*,?\s*({_TOKEN})(?:[ \t]+|\Z)", re.ASCII)
_PARAMETER = re.compile(rf'[\s,]*({_TOKEN})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))', re.ASCII)
_ESCAPE = re.compile(r"\\(.)")
_LINK = re.compile(r"<([^<>]*)>([^<]*)")
_NEXT = re.compile(r';\s*rel\s*=\s*(?:"\s*next\s*"|next\b)', re.ASCII | re.IGNORECASE)
_NUMBER = re.compile("[0-9]{1,18}", re.ASCII)
_CONTENT_RANGE = re.compile(r"bytes[ =]([0-9]{1,18})-([0-9]{1,18})/(?:([0-9]{1,18})|\*)", re.ASCII)
_UPLOADED = re.compile(r"(?:bytes=)?0-([0-9]{1,18})", re.ASCII)


def challenges(text: str) -> list[tuple[str, dict[str, str]]]:
    """Schemes of WWW-Authenticate in small letters, with their parameters (RFC 9110, 11.6.1)."""
    found: list[tuple[str, dict[str, str]]] = []
    text, at = text[:LONGEST], 0
    while at < len(text):
        if found and (parameter := _PARAMETER.match(text, at)):
            value = parameter[3] if parameter[2] is None else _ESCAPE.sub(r"\1", parameter[2])
            found[-1][1].setdefault(parameter[1].lower(), value)
            at = parameter.end()
        elif scheme := _SCHEME.match(text, at):
            found.append((scheme[1].lower(), {}))
            at = scheme.end()
        else:
            at += 1
    return found


def next_page(text: str) -> str:
    """What the `Link` with rel=next points at (RFC 8288); "" without one."""
    return next((target for target, about in _links(text) if _NEXT.search(about)), "")


def _links(text: str) -> Iterator[tuple[str, str]]:
    for match in _LINK.finditer(text[:LONGEST]):
        yield match[1].strip(), match[2]


def retry_after(text: str, now: float) -> float | None:
    """Seconds to wait from `now` (seconds since 1970) on; None without a number or a date (RFC 9110, 10.2.3)."""
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return float(text)
    from email.utils import mktime_tz, parsedate_tz

    try:
        moment = parsedate_tz(text[:80])
        return None if moment is None else max(0.0, mktime_tz(moment) - now)
    except (ValueError, OverflowError, IndexError, TypeError):
        return None


def content_range(text: str) -> tuple[int, int, int] | None:
    """First byte, last byte and the length of the whole (-1 where it is not told) of a partial answer."""
    match = _CONTENT_RANGE.fullmatch(text.strip())
    if not match or int(match[1]) > int(match[2]):
        return None
    return int(match[1]), int(match[2]), int(match[3]) if match[3] else -1


def uploaded(text: str) -> int:
    """How many bytes of an upload the registry has, as its Range says (`0-0` is said of none and of one); -1 if it
    says nothing.
    """
    match = _UPLOADED.fullmatch(text.strip())
    if not match:
        return -1
    return int(match[1]) + 1 if int(match[1]) else 0


def length(text: str) -> int:
    """Content-Length; -1 for what is none."""
    match = _NUMBER.fullmatch(text.strip())
    return int(match[0]) if match else -1


def address(base: str, text: str) -> str:
    """The absolute http or https address that a Location, or a Link, of an answer of `base` means; "" for none."""
    text = text.strip()
    if not text or len(text) > LONGEST or any(ord(letter) <= 32 or ord(letter) == 127 for letter in text):
        return ""
    try:
        found = urljoin(base, text)
        parts = urlsplit(found)
        port = parts.port
    except ValueError:
        return ""
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None or port == 0:
        return ""
    return found
