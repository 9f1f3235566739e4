"""The table of sentences that a feature may say, each with the function that carries it out.

A sentence is written with places: `"{name}"` takes text, `{count:d}` a number. pytest-bdd's steps are made from the
table, and `eventually within 5s ...` finds in it what to repeat.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal

_PLACE = re.compile(r"\{(\w+)(:d)?\}")


Kind = Literal["given", "when", "then"]


class Sentence:
    """One row: `kind` is given, when or then."""

    def __init__(self, kind: Kind, text: str, function: Callable[..., None]) -> None:
        self.kind = kind
        self.text = text
        self.function = function
        self.numbers = [name for name, number in _PLACE.findall(text) if number]
        self.pattern = re.compile(_expression(text), re.DOTALL)

    @property
    def converters(self) -> dict[str, Callable[[str], Any]]:
        """Place -> what makes its text a value."""
        return dict.fromkeys(self.numbers, int)

    def arguments(self, text: str) -> dict[str, Any] | None:
        """The values of the places when `text` is this sentence; None when it is not."""
        match = self.pattern.fullmatch(text)
        if match is None:
            return None
        return {name: int(value) if name in self.numbers else value for name, value in match.groupdict().items()}


TABLE: list[Sentence] = []


def given(text: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A state that the function makes."""
    return _row("given", text)


def when(text: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Something that the function does."""
    return _row("when", text)


def then(text: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A claim that the function proves, or raises AssertionError."""
    return _row("then", text)


def find(kind: Kind, text: str) -> tuple[Sentence, dict[str, Any]]:
    """The sentence that `text` is, with the values of its places. Raises LookupError."""
    for sentence in TABLE:
        if sentence.kind == kind and (arguments := sentence.arguments(text)) is not None:
            return sentence, arguments
    raise LookupError(f"no step says {text!r}; docs/steps.md lists them")


def expect(holds: object, message: str) -> None:
    """Raise AssertionError with `message` unless it holds."""
    if not holds:
        raise AssertionError(message)


def _row(kind: Kind, text: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    def add(function: Callable[..., None]) -> Callable[..., None]:
        TABLE.append(Sentence(kind, text, function))
        return function

    return add


def _expression(text: str) -> str:
    parts, at = [], 0
    for place in _PLACE.finditer(text):
        parts.append(re.escape(text[at : place.start()]))
        name, number = place.groups()
        parts.append(rf"(?P<{name}>-?\d+)" if number else f"(?P<{name}>.*)")
        at = place.end()
    return "".join([*parts, re.escape(text[at:])])
