"""What a value is expected to be: `Matcher.parse` takes it from plain data, `Matcher.problem` says what is wrong.

A plain value means equality. A mapping has one or more of `equals`, `contains`, `matches` (a regular expression),
`not` (a matcher again), `atLeast` and `atMost`; a list of such mappings is all of them.
"""

from __future__ import annotations

import re
from typing import Any

KEYS = ("equals", "contains", "matches", "not", "atLeast", "atMost")
_SHOWN = 300


class BadExpectation(ValueError):
    """An expectation that says nothing that could be checked; `path` is where below it."""

    def __init__(self, message: str, path: tuple[str | int, ...] = ()) -> None:
        super().__init__(message)
        self.path = path


class Matcher:
    """A conjunction of conditions."""

    def __init__(self, conditions: list[tuple[str, Any]]) -> None:
        self.conditions = conditions

    @classmethod
    def parse(cls, wanted: Any, path: tuple[str | int, ...] = ()) -> Matcher:
        """From plain data. Raises BadExpectation, for a claim that nothing can break too."""
        if isinstance(wanted, list) and wanted and all(isinstance(item, dict) for item in wanted):
            parts = [cls.parse(item, (*path, index)) for index, item in enumerate(wanted)]
            return cls([condition for part in parts for condition in part.conditions])
        if not isinstance(wanted, dict):
            return cls([("equals", wanted)])
        if not wanted:
            raise BadExpectation("an empty expectation holds always", path)
        conditions = []
        for key, value in wanted.items():
            if key not in KEYS:
                raise BadExpectation(f"{key}: unknown condition, expected one of {', '.join(KEYS)}", (*path, key))
            conditions.append((key, _checked(key, value, (*path, key))))
        return cls(conditions)

    def problem(self, found: Any) -> str:
        """Why `found` is not what was expected; "" when it is."""
        for key, value in self.conditions:
            if message := _problem(key, value, found):
                return message
        return ""


def _checked(key: str, value: Any, path: tuple[str | int, ...]) -> Any:
    if key == "not":
        return Matcher.parse(value, path)
    if key == "contains" and value in ("", [], None):
        raise BadExpectation("everything contains nothing: this claim can't fail", path)
    if key in ("atLeast", "atMost") and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise BadExpectation(f"found {value!r}, expected a number", path)
    if key != "matches":
        return value
    try:
        pattern = re.compile(value, re.MULTILINE)
    except (re.error, TypeError) as error:
        raise BadExpectation(f"{value!r} is no regular expression: {error}", path) from error
    if pattern.search(""):
        raise BadExpectation(f"{value!r} matches anything: this claim can't fail", path)
    return pattern


def _problem(key: str, value: Any, found: Any) -> str:
    if key == "not":
        return "" if value.problem(found) else f"found {_show(found)}, which was not to be"
    if key == "equals":
        return "" if found == value and type(found) is type(value) else f"expected {_show(value)}, found {_show(found)}"
    if key == "contains":
        missing = [item for item in (value if isinstance(value, list) else [value]) if item not in _searchable(found)]
        return f"expected {_show(missing[0])} in {_show(found)}" if missing else ""
    if key == "matches":
        return "" if value.search(str(found)) else f"expected something like {value.pattern!r}, found {_show(found)}"
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        return f"expected a number, found {_show(found)}"
    fits = found >= value if key == "atLeast" else found <= value
    words = "at least" if key == "atLeast" else "at most"
    return "" if fits else f"expected {words} {value}, found {found}"


def _searchable(found: Any) -> Any:
    return found if isinstance(found, (str, list, dict)) else str(found)


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"
