"""`.dockerignore`: patterns as Docker reads and matches them. `re` is imported by those builds that have patterns."""

from __future__ import annotations

import posixpath

from specrun.errors import SpecrunError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from collections.abc import Iterable


class BadPattern(SpecrunError):
    """A pattern that is none."""

    code = "bad-pattern"


def patterns_of(text: str) -> list[str]:
    """The patterns of a `.dockerignore` file: comments and blank lines left out, paths cleaned."""
    result = []
    for line in text.removeprefix("\ufeff").split("\n"):
        if line.startswith("#"):
            continue
        pattern = line.strip()
        if not pattern:
            continue
        negated = pattern.startswith("!")
        pattern = pattern[1:].strip() if negated else pattern
        if pattern:
            pattern = _clean(pattern)
            if len(pattern) > 1:
                pattern = pattern.removeprefix("/")
        result.append(f"!{pattern}" if negated else pattern)
    return result


def _clean(path: str) -> str:
    cleaned = posixpath.normpath(path)
    return "/" + cleaned.lstrip("/") if path.startswith("/") else cleaned


class Patterns:
    """A list of patterns; the last one that matches decides. Raises BadPattern."""

    __slots__ = ("_patterns", "has_exceptions")

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns: list[tuple[bool, re.Pattern[str]]] = []
        self.has_exceptions = False
        for text in patterns:
            text = text.strip()
            if not text:
                continue
            text = _clean(text)
            negated = text.startswith("!")
            if negated:
                if len(text) == 1:
                    raise BadPattern('illegal exclusion pattern: "!"')
                self.has_exceptions = True
            self._patterns.append((negated, _compile(text[1:] if negated else text)))

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def matches(self, path: str) -> bool:
        """Whether `path`, relative to the context, is ignored; a match of a folder above it counts."""
        path = posixpath.normpath(path) if path else path
        parts = path.split("/")
        above = ["/".join(parts[:count]) for count in range(1, len(parts))]
        ignored = False
        for negated, pattern in self._patterns:
            if negated != ignored:
                continue
            if pattern.fullmatch(path) or any(pattern.fullmatch(folder) for folder in above):
                ignored = not negated
        return ignored


def _compile(pattern: str) -> re.Pattern[str]:
    """The regular expression of one pattern: `*`, `?`, `[...]` within a component, `**` across them."""
    import re

    parts, position = [], 0
    while position < len(pattern):
        letter = pattern[position]
        position += 1
        if pattern.startswith("*", position) and letter == "*":
            position += 1
            if pattern.startswith("/", position):
                position += 1
            parts.append(".*" if position >= len(pattern) else "(?:.*/)?")
        elif letter == "*":
            parts.append("[^/]*")
        elif letter == "?":
            parts.append("[^/]")
        elif letter == "\\":
            if position >= len(pattern):
                raise BadPattern(f"syntax error in pattern {pattern!r}: it ends with a backslash")
            parts.append(re.escape(pattern[position]))
            position += 1
        elif letter == "[":
            expression, position = _class(pattern, position)
            parts.append(expression)
        else:
            parts.append(re.escape(letter))
    try:
        return re.compile("".join(parts), re.DOTALL)
    except re.error as error:
        raise BadPattern(f"syntax error in pattern {pattern!r}") from error


def _class(pattern: str, position: int) -> tuple[str, int]:
    """The expression of a class whose content begins at `position`, and where it ends."""
    from re import escape

    negated = pattern.startswith("^", position)
    position += negated
    ranges: list[str] = []
    while not (ranges and pattern.startswith("]", position)):
        low, position = _class_letter(pattern, position)
        high = low
        if pattern.startswith("-", position):
            high, position = _class_letter(pattern, position + 1)
        if low <= high:
            ranges.append(f"{escape(low)}-{escape(high)}")
        else:
            ranges.append("")  # an empty range matches nothing
    body = "".join(ranges)
    if not body:
        return ("[^/]" if negated else "(?!)"), position + 1
    return f"(?!/)[{'^' if negated else ''}{body}]", position + 1


def _class_letter(pattern: str, position: int) -> tuple[str, int]:
    letter = pattern[position : position + 1]
    if letter == "\\":
        position += 1
        letter = pattern[position : position + 1]
    elif letter in ("-", "]"):
        letter = ""
    if not letter:
        raise BadPattern(f"syntax error in pattern {pattern!r}: a class of letters that is none")
    return letter, position + 1


def component(pattern: str) -> re.Pattern[str]:
    """The expression of one component of a COPY source, where `*` stops at a slash and `**` is no more than `*`."""
    while "**" in pattern:
        pattern = pattern.replace("**", "*")
    return _compile(pattern)


def has_wildcard(text: str) -> bool:
    """Whether the text of a source has letters of a pattern."""
    return any(letter in text for letter in "*?[\\")
