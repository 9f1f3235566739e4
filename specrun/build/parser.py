"""A Dockerfile as a list of nodes: lines, continuations, directives, heredocs, flags. Knows no meaning.

The rules are those of the Dockerfile reference, "Format" and "Here-documents".
"""

from __future__ import annotations

from specrun.build.errors import DockerfileError
from specrun.build.expansion import ExpansionError, Lexer
from specrun.errors import Place
from specrun_runtime import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

BLANKS = " \t\v\f\r"
DIRECTIVES = ("syntax", "escape", "check")
_HEREDOC_KEYWORDS = ("ADD", "COPY", "RUN")
_WORDS = ("FROM", "EXPOSE")
_MAYBE_JSON = ("CMD", "ENTRYPOINT", "RUN", "SHELL")
_MAYBE_JSON_WORDS = ("ADD", "COPY", "VOLUME")
_PAIRS = ("ENV", "LABEL")


class Heredoc:
    """A here-document: the text between `<<NAME` and `NAME`."""

    __slots__ = ("chomp", "content", "descriptor", "expand", "name")

    def __init__(self, name: str, *, expand: bool, chomp: bool, descriptor: int) -> None:
        self.name = name
        self.expand = expand
        """Whether variables are replaced: not when the name was quoted."""
        self.chomp = chomp
        """Whether leading tabs are taken away (`<<-`)."""
        self.descriptor = descriptor
        self.content = ""

    @property
    def text(self) -> str:
        """The content without the leading tabs that `<<-` takes away."""
        if not self.chomp:
            return self.content
        return "".join(line.lstrip("\t") for line in self.content.splitlines(keepends=True))


class Node:
    """One instruction as it was written; `line` and `end` count from 1."""

    __slots__ = (
        "arguments", "comments", "description", "end", "file", "flags", "heredocs", "json", "keyword", "line",
        "original", "source", "written",
    )  # fmt: skip

    def __init__(self, keyword: str, original: str, line: int, file: str, source: str) -> None:
        self.written = keyword
        self.keyword = keyword.upper()
        self.original = original
        """The whole instruction on one line, continuations joined."""
        self.line = self.end = line
        self.file = file
        self.source = source
        """The first line, for the excerpt under a message."""
        self.flags: list[str] = []
        self.arguments: list[str] = []
        self.json = False
        """Whether the arguments were a JSON array."""
        self.comments: list[str] = []
        """The comment lines since the instruction before."""
        self.description = ""
        """The comment line directly above, if nothing stands between."""
        self.heredocs: list[Heredoc] = []


class Dockerfile:
    """All of it: nodes, directives, and what was odd about the form."""

    __slots__ = ("directives", "escape", "file", "lines", "nodes", "warnings")

    def __init__(self, file: str) -> None:
        self.file = file
        self.nodes: list[Node] = []
        self.directives: dict[str, str] = {}
        self.escape = "\\"
        self.lines: list[str] = []
        self.warnings: list[tuple[str, int]] = []
        """Instructions whose continuation holds an empty line: (text, line of its end)."""


def parse(text: str, file: str = "Dockerfile") -> Dockerfile:
    """Parse the text of a Dockerfile. Raises DockerfileError."""
    result = Dockerfile(file)
    result.lines = text.removeprefix("\ufeff").split("\n")
    _read_directives(result)
    _Reader(result).run()
    if not result.nodes:
        raise DockerfileError(f"{file}: file with no instructions", hint="a Dockerfile begins with FROM")
    return result


def parse_line(text: str, of: Node, escape: str) -> Node:
    """The node of the instruction behind ONBUILD, which has the place of `of`."""
    node = _node(text, of.line, of.file, of.source, escape)
    node.end, node.heredocs = of.end, of.heredocs
    return node


def _read_directives(result: Dockerfile) -> None:
    for number, line in enumerate(result.lines, 1):
        name, value = _directive(line)
        if name not in DIRECTIVES:
            return
        if name in result.directives:
            raise _at(result, number, f"only one {name} parser directive can be used")
        result.directives[name] = value
        if name == "escape":
            if value not in ("\\", "`"):
                raise _at(result, number, f"invalid ESCAPE '{value}'. Must be ` or \\")
            result.escape = value


def _directive(line: str) -> tuple[str, str]:
    line = line.strip()
    if not line.startswith("#"):
        return "", ""
    name, equals, value = line[1:].partition("=")
    name, value = name.strip().lower(), value.strip()
    return (name, value) if equals and value and name.isalnum() and name[0].isalpha() else ("", "")


def _at(result: Dockerfile, number: int, message: str) -> DockerfileError:
    error = DockerfileError(message)
    source = result.lines[number - 1].rstrip()
    error.place = Place(result.file, number, 1, source, max(1, len(source)))
    return error


class _Reader:
    """Goes through the lines once."""

    def __init__(self, result: Dockerfile) -> None:
        self.result = result
        self.number = 0
        self.comments: list[str] = []
        self.description = ""

    def run(self) -> None:
        lines = self.result.lines
        while self.number < len(lines):
            first = lines[self.number]
            self.number += 1
            stripped = first.strip()
            if stripped.startswith("#"):
                self.description = stripped[1:].strip()
                if self.number > len(self.result.directives):
                    self.comments = [*self.comments, self.description] if self.description else []
                continue
            if not stripped:
                self.description = ""
                continue
            self._instruction(first)
            self.comments, self.description = [], ""

    def _instruction(self, first: str) -> None:
        result, start = self.result, self.number
        line, more = self._continued(first.rstrip("\r").lstrip())
        if not line and not more:
            return
        empty = False
        while more and self.number < len(result.lines):
            raw = result.lines[self.number]
            if self.number == len(result.lines) - 1 and not raw:
                break  # the text ends with a newline: there is no such line
            self.number += 1
            if raw.lstrip().startswith("#"):
                continue
            if not raw.strip():
                empty = True
                continue
            part, more = self._continued(raw.rstrip("\r"))
            line += part
        if not line.strip():
            return
        node = _node(line, start, result.file, result.lines[start - 1], result.escape)
        node.comments, node.description = self.comments, self.description
        self._read_heredocs(node)
        node.end = self.number
        if empty:
            result.warnings.append((node.original, node.end))
        result.nodes.append(node)

    def _continued(self, line: str) -> tuple[str, bool]:
        """The line without its continuation character, and whether it had one."""
        end = line.rstrip(" \t")
        escape = self.result.escape
        if end.endswith(escape) and not end.endswith(escape * 2):
            return end[:-1], True
        return line, False

    def _read_heredocs(self, node: Node) -> None:
        if node.keyword == "ONBUILD" and node.arguments:
            keyword = node.arguments[0].split(None, 1)[0].upper() if node.arguments[0] else ""
        else:
            keyword = node.keyword
        if keyword not in _HEREDOC_KEYWORDS or node.json:
            return
        for heredoc in heredocs_of(node.original, self.result.escape):
            node.heredocs.append(heredoc)
            lines = []
            while True:
                if self.number >= len(self.result.lines):
                    raise DockerfileError("unterminated heredoc", node=node, word=f"<<{heredoc.name}")
                raw = self.result.lines[self.number]
                self.number += 1
                text = raw.rstrip("\r")
                if (text.lstrip("\t") if heredoc.chomp else text) == heredoc.name:
                    break
                lines.append(raw + "\n")
            heredoc.content = "".join(lines)


def heredocs_of(line: str, escape: str) -> list[Heredoc]:
    """The here-documents that a line of an instruction begins."""
    if "<<" not in line:
        return []
    try:
        words = Lexer(escape, raw_quotes=True, raw_escapes=True, keep_unset=True).words(line, {})
    except ExpansionError:
        return []
    joined: list[str] = []
    for word in words:
        if joined and joined[-1].endswith(("<<", "<<-")):
            joined[-1] += word  # blanks may stand before the name
        else:
            joined.append(word)
    return [found for found in (parse_heredoc(word, escape) for word in joined) if found]


def parse_heredoc(word: str, escape: str = "\\") -> Heredoc | None:
    """The here-document that a word such as `<<-EOF`, `3<<EOF` or `<<"EOF"` begins."""
    before, mark, rest = word.partition("<<")
    if not mark or (before and not (before.isascii() and before.isdigit())) or "<" in rest:
        return None
    chomp, rest = rest.startswith("-"), rest.removeprefix("-")
    if not rest:
        return None
    try:
        names = Lexer(escape, keep_unset=True).words(rest, {})
    except ExpansionError:
        return None
    if len(names) != 1:
        return None
    return Heredoc(names[0], expand=names[0] == rest, chomp=chomp, descriptor=int(before or 0))


def _node(line: str, number: int, file: str, source: str, escape: str) -> Node:
    stripped = line.strip(BLANKS)
    cut = next((index for index, letter in enumerate(stripped) if letter in BLANKS), len(stripped))
    node = Node(stripped[:cut], line, number, file, source)
    rest, node.flags = _split_flags(stripped[cut:].strip())
    keyword = node.keyword
    if keyword in _MAYBE_JSON_WORDS:
        _maybe_json(node, rest, split=True)
    elif keyword in _MAYBE_JSON:
        _maybe_json(node, rest)
    elif keyword in _PAIRS:
        node.arguments = _pairs(node, rest, escape)
    elif keyword == "ARG":
        node.arguments = _split_words(rest, escape)
    elif keyword == "HEALTHCHECK":
        kind, _, command = rest.strip().partition(" ")
        if kind:
            _maybe_json(node, command)
            node.arguments.insert(0, kind)
    elif keyword in _WORDS:
        node.arguments = rest.split()
    elif rest:
        node.arguments = [rest.strip() if keyword == "ONBUILD" else rest]
    return node


def _maybe_json(node: Node, rest: str, *, split: bool = False) -> None:
    found = _json_array(node, rest)
    if found is not None:
        node.arguments, node.json = found, True
    elif split:
        node.arguments = rest.split()
    elif rest:
        node.arguments = [rest.strip() if node.keyword == "HEALTHCHECK" else rest]


def _json_array(node: Node, rest: str) -> list[str] | None:
    rest = rest.strip()
    if not rest.startswith("["):
        return None
    try:
        found = jsontext.loads(rest)
    except ValueError:
        return None
    if any(not isinstance(item, str) for item in found):
        raise DockerfileError("when using JSON array syntax, arrays must be comprised of strings only", node=node)
    return list(found)


def _pairs(node: Node, rest: str, escape: str) -> list[str]:
    """Name, value and separator of each pair; the separator is "" in the old form without `=`."""
    words = _split_words(rest, escape)
    if not words:
        return []
    if "=" not in words[0]:
        name, *value = rest.split(None, 1)
        if not value:
            raise DockerfileError(
                f"{node.keyword} must have two arguments", node=node, hint=f"{node.keyword} key=value"
            )
        return [name, value[0], ""]
    result = []
    for word in words:
        name, equals, value_text = word.partition("=")
        if not equals:
            raise DockerfileError(
                f'Syntax error - can\'t find = in "{word}". Must be of the form: name=value', node=node, word=word
            )
        result += [name, value_text, "="]
    return result


def _split_words(rest: str, escape: str) -> list[str]:
    """Words at blanks; quotes and escapes hold them together, and stay."""
    words, word, quote, letters = [], "", "", iter(rest)
    for letter in letters:
        if not quote and letter.isspace():
            if word:
                words.append(word)
            word = ""
            continue
        if letter == escape and quote != "'":
            following = next(letters, "")
            word += letter + following if following else ""
            continue
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        word += letter
    return [*words, word] if word else words


def _split_flags(line: str) -> tuple[str, list[str]]:
    """The rest of the line, and the words before it that begin with `--`."""
    flags: list[str] = []
    while line.startswith("--"):
        word, line = _flag(line)
        if word == "--":
            break
        flags.append(word)
        line = line.lstrip()
    return line.lstrip(), flags


def _flag(line: str) -> tuple[str, str]:
    """The first word without its quotes and escapes, and what follows."""
    word, quote, position = "", "", 0
    for position, letter in _unescaped(line):
        if letter == "":
            continue
        if not quote and letter.isspace():
            return word, line[position:]
        if len(letter) == 1 and (letter == quote or (not quote and letter in "'\"")):
            quote = "" if quote else letter
        else:
            word += letter[-1]
    return word, ""


def _unescaped(line: str) -> Iterator[tuple[int, str]]:
    """Each letter with its position; an escaped one with its backslash before it."""
    position = 0
    while position < len(line):
        if line[position] == "\\":
            yield position, line[position : position + 2] if position + 1 < len(line) else ""
            position += 2
        else:
            yield position, line[position]
            position += 1
