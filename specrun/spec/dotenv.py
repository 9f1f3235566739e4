"""`.env` files, in the dialect that Compose reads. Nothing of them reaches the environment of this process."""

from __future__ import annotations

import re
from collections.abc import Mapping

from specrun.spec.template import TemplateError, fill

_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_ESCAPE = re.compile(r"\\(0[0-7]{1,3}|.)", re.DOTALL)
_BLANK = " \t\r\v\f\x85\xa0"


class DotenvError(ValueError):
    """The file can't be read as variables; `line` counts from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(f"line {line}: {message}")
        self.line, self.message = line, message


def parse(text: str, known: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables of the file, in its order; a bare name takes its value from `known`. Raises DotenvError."""
    reader = _Reader(text.removeprefix("\ufeff").replace("\r\n", "\n"), known or {})
    return reader.run()


class _Reader:
    def __init__(self, text: str, known: Mapping[str, str]) -> None:
        self.text, self.known, self.at, self.line = text, known, 0, 1
        self.found: dict[str, str] = {}

    def run(self) -> dict[str, str]:
        while self._skip():
            begun = self.line
            name, bare = self._name()
            if bare:
                if name in self.known:
                    self.found[name] = self.known[name]
                continue
            try:
                self.found[name] = self._value()
            except TemplateError as error:
                raise DotenvError(begun, error.message) from error
        return self.found

    def _skip(self) -> bool:
        """Over blank lines and comments; False at the end."""
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == "#":
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            elif char == "\n":
                self.line += 1
                self.at += 1
            elif char.isspace():
                self.at += 1
            else:
                return True
        return False

    def _name(self) -> tuple[str, bool]:
        """A name, and whether it stands alone on its line."""
        if found := re.compile(r"export\s+").match(self.text, self.at):
            self.at = found.end()
        end = self.text.find("\n", self.at)
        line = self.text[self.at : len(self.text) if end < 0 else end]
        for index, char in enumerate(line):
            if char in "=:":
                name = line[:index].rstrip()
                self.at += index + 1
                break
            if not (char.isalnum() or char in "_.-[]" or char in _BLANK):
                raise DotenvError(self.line, f"unexpected character {char!r} in a name")
        else:
            name = line.strip()
            self.at += len(line)
            if not any(char in _BLANK for char in name):
                return (name, True) if self.at < len(self.text) or name else (name, True)
        if any(char in _BLANK for char in name):
            raise DotenvError(self.line, "a name cannot contain a blank")
        return name, False

    def _value(self) -> str:
        while self.at < len(self.text) and self.text[self.at] in _BLANK:
            self.at += 1
        quote = self.text[self.at : self.at + 1]
        if quote in ("'", '"') and quote:
            return self._quoted(quote)
        end = self.text.find("\n", self.at)
        raw = self.text[self.at : len(self.text) if end < 0 else end]
        self.at += len(raw)
        comment = re.search(r"(?:^|\s)#", raw)
        return self._fill((raw[: comment.start()] if comment else raw).strip())

    def _quoted(self, quote: str) -> str:
        index = self.at + 1
        while index < len(self.text) and self.text[index] != quote:
            index += 2 if self.text[index] == "\\" else 1
        if index >= len(self.text):
            raise DotenvError(self.line, f"the value has no closing {quote}")
        raw = self.text[self.at + 1 : index]
        self.line += raw.count("\n")
        end = self.text.find("\n", index)
        self.at = len(self.text) if end < 0 else end
        if quote == "'":
            return raw.replace("\\'", "'")
        return self._fill(_ESCAPE.sub(_unescape, raw))

    def _fill(self, raw: str) -> str:
        return fill(raw, {**self.found, **self.known}, compose=True)


def _unescape(found: re.Match[str]) -> str:
    what = found[1]
    if what[0] == "0" and len(what) > 1:
        return chr(int(what, 8) & 0xFF)
    if what == "$":
        return "$$"
    if what in "\\\"'":
        return what
    return _ESCAPES.get(what, found[0])
