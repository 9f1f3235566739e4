"""Words and variables as the Dockerfile reference's "Environment replacement" has them.

`${name:-word}`, `:+`, `:?` and their forms without the colon, `#`, `##`, `%`, `%%`, `/` and `//` with patterns of
`*` and `?`. Quotes and the escape character are taken away unless the lexer is told to leave them.
"""

from __future__ import annotations

from specrun.errors import SpecrunError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from collections.abc import Mapping

_SPECIAL = "@*#?-$!"


class ExpansionError(SpecrunError):
    """Text whose quotes or braces do not close, or a variable that must be set and is not."""

    code = "expansion"


class Lexer:
    """How text is read; `used` collects the names of the variables that were looked up and `unset` those not found."""

    __slots__ = ("escape", "keep_unset", "raw_escapes", "raw_quotes", "unset", "used")

    def __init__(
        self, escape: str = "\\", *, raw_quotes: bool = False, raw_escapes: bool = False, keep_unset: bool = False
    ) -> None:
        self.escape = escape
        self.raw_quotes = raw_quotes
        self.raw_escapes = raw_escapes
        self.keep_unset = keep_unset
        """Leave `$name` as it is where nothing is known of it."""
        self.used: set[str] = set()
        self.unset: set[str] = set()

    def word(self, text: str, env: Mapping[str, str]) -> str:
        """The text with its variables replaced. Raises ExpansionError."""
        return _Scan(self, text, env).run()[0]

    def words(self, text: str, env: Mapping[str, str]) -> list[str]:
        """The same, split at blanks that are not quoted, those of unquoted variables too."""
        return _Scan(self, text, env).run()[1]


class _Words:
    """Collects words while text comes in."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.current = ""
        self.inside = False

    def add(self, text: str) -> None:
        for letter in text:
            if letter.isspace():
                self.end()
            else:
                self.quoted(letter)

    def quoted(self, text: str) -> None:
        self.inside = True
        self.current += text

    def end(self) -> None:
        if self.inside:
            self.done.append(self.current)
        self.current, self.inside = "", False


class _Scan:
    def __init__(self, lexer: Lexer, text: str, env: Mapping[str, str]) -> None:
        self.lexer = lexer
        self.text = text
        self.env = env
        self.at = 0

    def run(self) -> tuple[str, list[str]]:
        result, words = self._until("")
        words.end()
        return result, words.done

    def _until(self, stop: str) -> tuple[str, _Words]:
        """Read up to the letter `stop`, which is taken too; "" reads all."""
        words = _Words()
        parts: list[str] = []
        lexer = self.lexer
        while self.at < len(self.text):
            letter = self.text[self.at]
            if stop and letter == stop:
                self.at += 1
                return "".join(parts), words
            if letter == "'":
                part = self._single()
                words.quoted(part)
            elif letter == '"':
                part = self._double()
                words.quoted(part)
            elif letter == "$":
                part = self._variable()
                words.add(part)
            elif letter == lexer.escape:
                part = self._escaped()
                words.quoted(part)
            else:
                self.at += 1
                part = letter
                words.add(part)
            parts.append(part)
        if stop:
            raise ExpansionError(f"unexpected end of statement while looking for matching {stop}")
        return "".join(parts), words

    def _escaped(self) -> str:
        start = self.at
        self.at += 2
        if self.at - 1 >= len(self.text):
            return self.lexer.escape if self.lexer.raw_escapes else ""
        return self.text[start : self.at] if self.lexer.raw_escapes else self.text[start + 1]

    def _single(self) -> str:
        end = self.text.find("'", self.at + 1)
        if end < 0:
            raise ExpansionError("unexpected end of statement while looking for matching single-quote")
        quoted = self.text[self.at : end + 1]
        self.at = end + 1
        return quoted if self.lexer.raw_quotes else quoted[1:-1]

    def _double(self) -> str:
        parts = ['"'] if self.lexer.raw_quotes else []
        self.at += 1
        while self.at < len(self.text):
            letter = self.text[self.at]
            if letter == '"':
                self.at += 1
                if self.lexer.raw_quotes:
                    parts.append('"')
                return "".join(parts)
            if letter == "$":
                parts.append(self._variable())
                continue
            self.at += 1
            if letter == self.lexer.escape and self.at < len(self.text):
                following = self.text[self.at]
                if following in ('"', "$", self.lexer.escape):
                    parts.append(letter + following if self.lexer.raw_escapes else following)
                    self.at += 1
                    continue
            parts.append(letter)
        raise ExpansionError("unexpected end of statement while looking for matching double-quote")

    def _variable(self) -> str:
        start = self.at
        self.at += 1
        if self.text[self.at : self.at + 1] == "{":
            self.at += 1
            return self._braced(start)
        name = self._name()
        if not name:
            return "$"
        value = self._get(name)
        if value is None:
            return self.text[start : self.at] if self.lexer.keep_unset else ""
        return value

    def _name(self) -> str:
        start = self.at
        letter = self.text[start : start + 1]
        if letter and (letter in _SPECIAL or (letter.isascii() and letter.isdigit())):
            self.at += 1
            while letter.isdigit() and self.text[self.at : self.at + 1].isdigit():
                self.at += 1
        elif letter.isalpha() or letter == "_":
            while (letter := self.text[self.at : self.at + 1]) and (letter.isalnum() or letter == "_"):
                self.at += 1
        return self.text[start : self.at]

    def _get(self, name: str) -> str | None:
        self.lexer.used.add(name)
        value = self.env.get(name)
        if value is None:
            self.lexer.unset.add(name)
        return value

    def _braced(self, start: int) -> str:
        name = self._name()
        letter = self.text[self.at : self.at + 1]
        if not name or not letter:
            raise ExpansionError(f"bad substitution: {self.text[start:]!r}")
        self.at += 1
        if letter == "}":
            value = self._get(name)
            if value is None:
                return self.text[start : self.at] if self.lexer.keep_unset else ""
            return value
        colon = letter == ":"
        if colon:
            letter = self.text[self.at : self.at + 1]
            self.at += 1
        if letter and letter in "-+?":
            return self._conditional(name, letter, colon, start)
        if letter and letter in "#%/" and not colon:
            return self._substring(name, letter, start)
        raise ExpansionError(f"unsupported modifier in substitution: {self.text[start : self.at]!r}")

    def _conditional(self, name: str, operator: str, colon: bool, start: int) -> str:
        word = self._until("}")[0]
        value = self._get(name)
        present = bool(value) if colon else value is not None
        if value is None and self.lexer.keep_unset and operator == "-" and not word:
            return self.text[start : self.at]
        if operator == "+":
            return word if present else ""
        if present or value is not None and not colon:
            return value or ""
        if operator == "-":
            return word
        text = word or ("is not allowed to be empty" if colon else "is not allowed to be unset")
        raise ExpansionError(f"{name}: {text}")

    def _substring(self, name: str, operator: str, start: int) -> str:
        doubled = self.text[self.at : self.at + 1] == operator
        self.at += doubled
        replacement = ""
        if operator == "/":
            # A pattern is read with its escapes, so that `\*` is a star and `\/` a slash.
            pattern = self._raw("/")
            replacement = self._raw("}", unescape=False)
        else:
            pattern = self._raw("}")
        value = self._get(name)
        if value is None:
            return self.text[start : self.at] if self.lexer.keep_unset else ""
        if operator == "/":
            return _compiled(pattern).sub(lambda _: replacement, value, count=0 if doubled else 1)
        return _trim(value, pattern, suffix=operator == "%", longest=doubled)

    def _raw(self, stop: str, *, unescape: bool = False) -> str:
        """Up to `stop`, with variables replaced and escapes kept."""
        inner = Lexer(self.lexer.escape, raw_escapes=not unescape, keep_unset=self.lexer.keep_unset)
        inner.used, inner.unset = self.lexer.used, self.lexer.unset
        scan = _Scan(inner, self.text, self.env)
        scan.at = self.at
        result = scan._until(stop)[0]
        self.at = scan.at
        return result


def _trim(value: str, pattern: str, *, suffix: bool, longest: bool) -> str:
    expression = _compiled(pattern)
    cuts = range(len(value) + 1)
    if suffix:
        for cut in cuts if longest else reversed(cuts):
            if expression.fullmatch(value, cut):
                return value[:cut]
        return value
    for cut in reversed(cuts) if longest else cuts:
        if expression.fullmatch(value, 0, cut):
            return value[cut:]
    return value


def _compiled(pattern: str) -> re.Pattern[str]:
    """The regular expression of a shell's pattern; `re` is imported by those Dockerfiles that have any."""
    import re

    parts, letters = [], iter(pattern)
    for letter in letters:
        if letter == "*":
            parts.append(".*")
        elif letter == "?":
            parts.append(".")
        elif letter == "\\":
            following = next(letters, None)
            if following is None:
                raise ExpansionError("invalid escape at the end of a pattern")
            parts.append(re.escape(following))
        else:
            parts.append(re.escape(letter))
    return re.compile("".join(parts), re.DOTALL)
