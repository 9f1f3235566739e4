"""`${NAME}` and its forms with defaults, alternatives and messages, as Compose has them.

In specs only the form with braces is filled in, and a variable that is not set is an error: `$HOME` in the command
of a container belongs to its own shell. Compose files have `$NAME` and `$$` too, and an unset variable is empty.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_NAME = re.compile("[A-Za-z_][A-Za-z0-9_]*")
_OPERATORS = (":-", "-", ":+", "+", ":?", "?")


class TemplateError(ValueError):
    """The text can't be filled in; `start` and `end` are where in it."""

    def __init__(self, message: str, code: str, start: int, end: int, note: str = "") -> None:
        super().__init__(message)
        self.message, self.code, self.start, self.end, self.note = message, code, start, end, note


def fill(text: str, variables: Mapping[str, str], *, compose: bool = False) -> str:
    """The text with all its variables replaced. Raises TemplateError."""
    if "$" not in text:
        return text
    return _Filler(text, variables, compose).fill(0, len(text))


class _Filler:
    def __init__(self, text: str, variables: Mapping[str, str], compose: bool) -> None:
        self.text, self.variables, self.compose = text, variables, compose

    def fill(self, at: int, end: int) -> str:
        out = []
        while at < end:
            dollar = self.text.find("$", at, end)
            if dollar < 0:
                out.append(self.text[at:end])
                break
            out.append(self.text[at:dollar])
            piece, at = self._at(dollar, end)
            out.append(piece)
        return "".join(out)

    def _at(self, dollar: int, end: int) -> tuple[str, int]:
        following = self.text[dollar + 1 : min(dollar + 3, end)]
        if following.startswith("{"):
            close = self._close(dollar, end)
            return self._braced(dollar, close), close + 1
        if following == "${" or (self.compose and following.startswith("$")):
            return "$" + ("{" if following == "${" else ""), dollar + 1 + (2 if following == "${" else 1)
        if self.compose and (name := _NAME.match(self.text, dollar + 1, end)):
            return self.variables.get(name[0], ""), name.end()
        return "$", dollar + 1

    def _close(self, dollar: int, end: int) -> int:
        depth = 0
        for index in range(dollar + 1, end):
            if self.text[index] == "{":
                depth += 1
            elif self.text[index] == "}":
                depth -= 1
                if depth == 0:
                    return index
        raise TemplateError("${ without its }", "bad-variable", dollar, end, "write $${ for the two characters alone")

    def _braced(self, dollar: int, close: int) -> str:
        name = _NAME.match(self.text, dollar + 2, close)
        if name is None:
            found = self.text[dollar : close + 1]
            raise TemplateError(
                f"{found} names no variable",
                "bad-variable",
                dollar,
                close + 1,
                "write $${ for the two characters alone",
            )
        value = self.variables.get(name[0])
        operator = next((one for one in _OPERATORS if self.text.startswith(one, name.end(), close)), "")
        rest = name.end() + len(operator)
        if not operator:
            if rest != close:
                found = self.text[dollar : close + 1]
                note = f"expected one of {' '.join(_OPERATORS)} after the name"
                raise TemplateError(f"{found} is not understood", "bad-variable", dollar, close + 1, note)
            if value is None and not self.compose:
                note = f"set it, give a default with ${{{name[0]}:-…}}, or write $${{{name[0]}}} for the text itself"
                raise TemplateError(f"the variable {name[0]} is not set", "unset-variable", dollar, close + 1, note)
            return value or ""
        given = bool(value) if operator.startswith(":") else value is not None
        if operator.endswith("+"):
            return self.fill(rest, close) if given else ""
        if given:
            return value or ""
        if operator.endswith("-"):
            return self.fill(rest, close)
        message = self.fill(rest, close) or "a value is required"
        raise TemplateError(f"the variable {name[0]} is missing: {message}", "unset-variable", dollar, close + 1)
