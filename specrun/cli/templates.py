"""Go's text/template as far as people use it in `--format`; imported only when a format asks for it."""

from __future__ import annotations

import json
import re

from specrun.errors import SpecrunError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class TemplateError(SpecrunError):
    """The template cannot be parsed, or asks for what is not there."""

    code = "template"
    exit_status = 64


_TOKEN = re.compile(
    r'\s+|(?P<string>"(?:[^"\\]|\\.)*"|`[^`]*`)|(?P<number>-?\d+(?:\.\d+)?)'
    r"|(?P<field>(?:\$\w*)?(?:\.\w+)+|\.|\$\w*)|(?P<word>\w+)|(?P<mark>:=|[|()=,])"
)
_ACTION = re.compile(r"\{\{(-\s)?(.*?)(\s-)?\}\}", re.DOTALL)


def render(template: str, value: Any) -> str:
    """The text of the template for one value. Raises TemplateError that says where."""
    return Template(template).render(value)


def render_rows(template: str, rows: list[dict[str, Any]], headings: dict[str, str]) -> str:
    """One line for each row; `table ` in front aligns them under their headings."""
    if not template.startswith("table"):
        compiled = Template(_unescape(template))
        return "".join(compiled.render(row) + "\n" for row in rows)
    from specrun.cli.output import columns

    compiled = Template(_unescape(template[len("table") :].lstrip()))
    cells = [compiled.render({**dict.fromkeys(rows[0] if rows else headings, ""), **headings}).split("\t")]
    cells += [compiled.render(row).split("\t") for row in rows]
    return columns(cells)


def _unescape(template: str) -> str:
    return template.replace("\\t", "\t").replace("\\n", "\n")


class Template:
    """A parsed template."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._parts = _split(text)
        self._position = 0
        self._nodes = self._block(())
        if self._position < len(self._parts):
            raise self._wrong("unexpected {{end}} or {{else}}")

    def render(self, value: Any) -> str:
        """The text for `value`, which is also `$`."""
        output: list[str] = []
        _Run(self._text, output, {"$": value}).nodes(self._nodes, value)
        return "".join(output)

    def _wrong(self, message: str, offset: int | None = None) -> TemplateError:
        part = self._parts[min(self._position, len(self._parts) - 1)] if self._parts else ("", "", 0)
        return _error(self._text, part[2] if offset is None else offset, message)

    def _block(self, ends: tuple[str, ...]) -> list[Any]:
        """Nodes until one of `ends`, which is left for the caller."""
        nodes: list[Any] = []
        while self._position < len(self._parts):
            kind, text, offset = self._parts[self._position]
            if kind == "text":
                nodes.append(("text", text))
                self._position += 1
                continue
            word = text.split(None, 1)[0] if text else ""
            if word in ("end", "else"):
                if word in ends:
                    return nodes
                raise self._wrong(f"unexpected {{{{{word}}}}}")
            self._position += 1
            if word in ("if", "with", "range"):
                nodes.append(self._branch(word, text[len(word) :], offset))
            elif not text.startswith("/*"):
                nodes.append(("print", _pipeline(self._text, text, offset), offset))
        if ends:
            raise self._wrong("unexpected EOF")
        return nodes

    def _branch(self, word: str, condition: str, offset: int) -> Any:
        pipeline = _pipeline(self._text, condition, offset)
        body = self._block(("end", "else"))
        otherwise: list[Any] = []
        _, text, place = self._parts[self._position]
        self._position += 1
        if text.startswith("else"):
            rest = text[len("else") :].strip()
            if rest.startswith("if"):
                otherwise = [self._branch("if", rest[2:], place)]
                return (word, pipeline, body, otherwise, offset)
            otherwise = self._block(("end",))
            self._position += 1
        return (word, pipeline, body, otherwise, offset)


def _split(text: str) -> list[tuple[str, str, int]]:
    """("text" | "action", content, offset), with the blanks trimmed that `{{-` and `-}}` ask for."""
    parts: list[tuple[str, str, int]] = []
    position, trim = 0, False
    for match in _ACTION.finditer(text):
        plain = text[position : match.start()]
        plain = plain.lstrip() if trim else plain
        parts.append(("text", plain.rstrip() if match[1] else plain, position))
        parts.append(("action", match[2].strip(), match.start(2)))
        position, trim = match.end(), bool(match[3])
    rest = text[position:]
    if "{{" in rest:
        raise _error(text, position + rest.index("{{"), "unclosed action")
    parts.append(("text", rest.lstrip() if trim else rest, position))
    return parts


def _error(text: str, offset: int, message: str) -> TemplateError:
    line = text.count("\n", 0, offset) + 1
    column = offset - (text.rfind("\n", 0, offset) + 1)
    return TemplateError(f"Template parsing error: template: :{line}:{column}: {message}")


def _pipeline(whole: str, text: str, offset: int) -> Any:
    tokens: list[tuple[str, str]] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if not match:
            raise _error(whole, offset + position, f"unexpected {text[position]!r} in command")
        if match.lastgroup:
            tokens.append((match.lastgroup, match[match.lastgroup]))
        position = match.end()
    if not tokens:
        raise _error(whole, offset, "missing value for command")
    return _Tokens(whole, tokens, offset).pipeline(False)


class _Tokens:
    """Tokens of one action to ("pipe", variables, [command, ...]); a command is a list of operands."""

    def __init__(self, whole: str, tokens: list[tuple[str, str]], offset: int) -> None:
        self.whole, self.tokens, self.offset = whole, tokens, offset

    def pipeline(self, nested: bool) -> Any:
        variables: list[str] = []
        marks = [index for index, token in enumerate(self.tokens) if token == ("mark", ":=")]
        if marks and not nested:
            variables = [text for kind, text in self.tokens[: marks[0]] if kind == "field"]
            self.tokens = self.tokens[marks[0] + 1 :]
        commands: list[list[Any]] = [[]]
        while self.tokens:
            kind, text = self.tokens.pop(0)
            if (kind, text) == ("mark", "|"):
                commands.append([])
            elif (kind, text) == ("mark", "("):
                commands[-1].append(self.pipeline(True))
            elif (kind, text) == ("mark", ")"):
                if not nested:
                    raise _error(self.whole, self.offset, "unexpected right paren")
                break
            elif kind == "mark":
                raise _error(self.whole, self.offset, f"unexpected {text!r} in operand")
            else:
                commands[-1].append((kind, text))
        if not all(commands):
            raise _error(self.whole, self.offset, "missing value for command")
        for command in commands:
            kind, text = command[0][0], command[0][1]
            if kind == "word" and text not in FUNCTIONS and text not in ("true", "false", "nil"):
                raise _error(self.whole, self.offset, f'function "{text}" not defined')
        return ("pipe", variables, commands)


class _Run:
    def __init__(self, text: str, output: list[str], variables: dict[str, Any]) -> None:
        self.text, self.output, self.variables = text, output, variables

    def nodes(self, nodes: list[Any], dot: Any) -> None:
        for node in nodes:
            if node[0] == "text":
                self.output.append(node[1])
            elif node[0] == "print":
                value = self.value(node[1], dot, node[2])
                if not node[1][1]:
                    self.output.append(_text(value))
            else:
                self.branch(node, dot)

    def branch(self, node: Any, dot: Any) -> None:
        word, pipeline, body, otherwise, offset = node
        value = self.value(pipeline, dot, offset)
        if not bool(value):
            self.nodes(otherwise, dot)
        elif word == "if":
            self.nodes(body, dot)
        elif word == "with":
            self.nodes(body, value)
        else:
            pairs = sorted(value.items()) if isinstance(value, dict) else list(enumerate(value))
            names = pipeline[1]
            for key, item in pairs:
                if names:
                    self.variables[names[-1]] = item
                if len(names) > 1:
                    self.variables[names[0]] = key
                self.nodes(body, item)

    def value(self, pipeline: Any, dot: Any, offset: int) -> Any:
        _, variables, commands = pipeline
        value: Any = None
        for index, command in enumerate(commands):
            value = self.command(command, dot, offset, [value] if index else [])
        for name in variables:
            self.variables[name] = value
        return value

    def command(self, command: list[Any], dot: Any, offset: int, piped: list[Any]) -> Any:
        kind, text = command[0][0], command[0][1]
        if kind != "word" or text in ("true", "false", "nil"):
            value = self.operand(command[0], dot, offset)
            if callable(value):  # a method, such as `.Label "name"`
                return value(*(self.operand(item, dot, offset) for item in command[1:]), *piped)
            if len(command) > 1:
                raise self.failed(offset, f"can't give argument to non-function {text}")
            return value
        arguments = [self.operand(item, dot, offset) for item in command[1:]] + piped
        try:
            return FUNCTIONS[text](*arguments)
        except (TypeError, ValueError, KeyError, IndexError) as error:
            raise self.failed(offset, f"error calling {text}: {error}") from error

    def operand(self, item: Any, dot: Any, offset: int) -> Any:
        kind, text = item[0], item[1]
        if kind == "pipe":
            return self.value(item, dot, offset)
        if kind == "string":
            return text[1:-1] if text[0] == "`" else json.loads(text)
        if kind == "number":
            return float(text) if "." in text else int(text)
        if kind == "word":
            return {"true": True, "false": False}.get(text)
        head, *path = text.split(".")
        if head and head not in self.variables:
            raise self.failed(offset, f"undefined variable: {head}")
        value = self.variables[head] if head else dot
        for name in filter(None, path):
            if isinstance(value, dict) and name in value:
                value = value[name]
            elif isinstance(value, dict):
                raise self.failed(offset, f'executing "" at <{text}>: map has no entry for key "{name}"')
            else:
                raise self.failed(offset, f'executing "" at <{text}>: can\'t evaluate field {name}')
        return value

    def failed(self, offset: int, message: str) -> TemplateError:
        error = _error(self.text, offset, message)
        error.exit_status = 1
        return error


def _text(value: Any) -> str:
    """As Go prints it."""
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{_text(item)}" for key, item in sorted(value.items())) + "]"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(map(_text, value)) + "]"
    return str(value)


def _printf(format: str, *values: Any) -> str:
    left = list(values)

    def one(match: re.Match[str]) -> str:
        if match[0] == "%%":
            return "%"
        value, verb = left.pop(0), match[2]
        if verb == "q":
            return json.dumps(value)
        if verb == "v":
            return f"%{match[1]}s" % _text(value)
        return str(f"%{match[1]}{verb}" % value)

    return re.sub(r"%%|%([-+ 0#]*\d*(?:\.\d+)?)([sdvqxXfgt])", one, format)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        value = value.get(key, "") if isinstance(value, dict) else value[key]
    return value


def _compare(test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda left, right: test(left, right)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "json": lambda value: json.dumps(value, separators=(",", ":")),
    "join": lambda values, separator: separator.join(map(_text, values or [])),
    "split": lambda text, separator: text.split(separator),
    "upper": lambda text: text.upper(),
    "lower": lambda text: text.lower(),
    "title": lambda text: text.title(),
    "pad": lambda text, before, after: " " * before + text + " " * after if text else text,
    "truncate": lambda text, length: text[:length],
    "len": len,
    "index": _index,
    "print": lambda *values: "".join(map(_text, values)),
    "println": lambda *values: " ".join(map(_text, values)) + "\n",
    "printf": _printf,
    "eq": lambda left, *rights: any(left == right for right in rights),
    "ne": _compare(lambda left, right: left != right),
    "lt": _compare(lambda left, right: left < right),
    "le": _compare(lambda left, right: left <= right),
    "gt": _compare(lambda left, right: left > right),
    "ge": _compare(lambda left, right: left >= right),
    "and": lambda *values: next((value for value in values if not bool(value)), values[-1]),
    "or": lambda *values: next((value for value in values if bool(value)), values[-1]),
    "not": lambda value: not bool(value),
}
