"""Go's text/template as Docker's users write it in `--format`: the parser. Imported only when a format asks for it.

A template is parsed into nodes that know their place in the text, so that every error can point there;
`specrun.cli.evaluation` runs them.
"""

from __future__ import annotations

from specrun.errors import Place, SpecrunError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class TemplateError(SpecrunError):
    """The template cannot be parsed, or asks for what is not there. Its `place` is in the template."""

    code = "template"
    exit_status = 64


FUNCTIONS = frozenset(
    "and or not len index slice print printf println html js urlquery call eq ne lt le gt ge "
    "json join split title upper lower pad truncate trim".split()
)
"""Go's own, and Docker's."""
_CONSTANTS = {"true": True, "false": False, "nil": None}
_SPACE = " \t\r\n"


class Node:
    """Something in a template, from `start` to `end` of its text."""

    __slots__ = ("end", "start")

    def __init__(self, start: int, end: int) -> None:
        self.start = start
        self.end = end


class Text(Node):
    """What is printed as it stands."""

    __slots__ = ("text",)

    def __init__(self, start: int, end: int, text: str) -> None:
        super().__init__(start, end)
        self.text = text


class Operand(Node):
    """A value: `kind` is literal, dot, field, variable, function or pipe; `names` are the fields that follow it."""

    __slots__ = ("kind", "names", "value")

    def __init__(self, start: int, end: int, kind: str, value: Any, names: list[str]) -> None:
        super().__init__(start, end)
        self.kind = kind
        self.value = value
        self.names = names


class Pipe(Node):
    """Commands, each of which is given the value of the one before; the result may go to variables."""

    __slots__ = ("commands", "declares", "variables")

    def __init__(self, start: int, end: int) -> None:
        super().__init__(start, end)
        self.commands: list[list[Operand]] = []
        self.variables: list[str] = []
        self.declares = False


class Action(Node):
    """A pipe whose value is printed, unless it goes to a variable."""

    __slots__ = ("pipe",)

    def __init__(self, start: int, end: int, pipe: Pipe) -> None:
        super().__init__(start, end)
        self.pipe = pipe


class Branch(Node):
    """`if`, `with` or `range`."""

    __slots__ = ("body", "keyword", "otherwise", "pipe")

    def __init__(self, start: int, keyword: str, pipe: Pipe) -> None:
        super().__init__(start, start)
        self.keyword = keyword
        self.pipe = pipe
        self.body: list[Node] = []
        self.otherwise: list[Node] = []


class Jump(Node):
    """`break` or `continue`."""

    __slots__ = ("keyword",)

    def __init__(self, start: int, end: int, keyword: str) -> None:
        super().__init__(start, end)
        self.keyword = keyword


class Call(Node):
    """`template "name" pipe`."""

    __slots__ = ("name", "pipe")

    def __init__(self, start: int, end: int, name: str, pipe: Pipe | None) -> None:
        super().__init__(start, end)
        self.name = name
        self.pipe = pipe


class Template:
    """A parsed template. Raises TemplateError that says where, what was found and what was expected."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.defined: dict[str, list[Node]] = {}
        self.nodes = _Parser(text, self.defined).template()

    def render(self, value: Any) -> str:
        """The text for `value`, which is also `$`."""
        from specrun.cli.evaluation import Run

        return Run(self).text_for(value)


def render(template: str, value: Any) -> str:
    """The text of the template for one value."""
    return Template(template).render(value)


def render_rows(template: str, rows: list[dict[str, Any]], headings: dict[str, str]) -> str:
    """One line for each row; `table ` in front aligns them under their headings."""
    table = template == "table" or template.startswith("table ")
    body = _unescape(template.removeprefix("table").lstrip() if table else template)
    try:
        compiled = Template(body)
        rows = [dict(sorted(row.items())) for row in rows]
        if not table:
            return "".join(compiled.render(row) + "\n" for row in rows)
        from specrun.cli.evaluation import Run
        from specrun.cli.output import columns

        names = {**dict.fromkeys(rows[0] if rows else {}, ""), **headings}
        cells = [Run(compiled, heading=True).text_for(names).split("\t")]
        cells += [compiled.render(row).split("\t") for row in rows]
    except TemplateError as error:
        error.exit_status = 1
        raise
    return columns(cells)


def wrong(text: str, offset: int, message: str, hint: str = "", width: int = 1) -> TemplateError:
    """An error at a place of the template."""
    start = text.rfind("\n", 0, offset) + 1
    stop = text.find("\n", offset)
    line = text[start : stop if stop >= 0 else len(text)]
    place = Place("--format", text.count("\n", 0, offset) + 1, offset - start + 1, line.replace("\t", " "), width)
    return TemplateError(message, hint=hint, place=place)


def _unescape(template: str) -> str:
    return template.replace("\\t", "\t").replace("\\n", "\n")


class _Parser:
    """The text between actions, and the structure that `if`, `range`, `else` and `end` make."""

    def __init__(self, text: str, defined: dict[str, list[Node]]) -> None:
        self.text = text
        self.position = 0
        self.defined = defined
        self.loops = 0
        self.trim = False

    def template(self) -> list[Node]:
        nodes, _ = self.block((), 0)
        return nodes

    def block(self, ends: tuple[str, ...], opened: int) -> tuple[list[Node], _Scanner | None]:
        """Nodes until an action that begins with one of `ends`, which is given too, read up to its keyword."""
        nodes: list[Node] = []
        while True:
            start = self.text.find("{{", self.position)
            stop = start if start >= 0 else len(self.text)
            plain = self.text[self.position : stop]
            if self.trim:
                plain = plain.lstrip(_SPACE)
            if start >= 0 and self.text[start + 2 : start + 3] == "-" and self.text[start + 3 : start + 4] in _SPACE:
                plain = plain.rstrip(_SPACE)
            if plain:
                nodes.append(Text(self.position, stop, plain))
            self.trim = False
            if start < 0:
                if ends:
                    hint = f"expected {{{{end}}}} for what begins at column {opened + 1}"
                    raise wrong(self.text, len(self.text), "unexpected EOF", hint)
                return nodes, None
            scanner = _Scanner(self.text, start + 2)
            if scanner.comment:
                self.close(scanner)
                continue
            word = scanner.peek_word()
            if word in ("end", "else"):
                if word not in ends:
                    hint = "there is no if, range or with that it could belong to"
                    raise wrong(self.text, scanner.place(), f"unexpected {{{{{word}}}}}", hint, len(word))
                scanner.take_word()
                return nodes, scanner
            nodes += self.action(scanner, word, start)

    def action(self, scanner: _Scanner, word: str, start: int) -> list[Node]:
        if word in ("if", "with", "range"):
            scanner.take_word()
            return [self.branch(scanner, word, start)]
        if word in ("break", "continue"):
            scanner.take_word()
            if not self.loops:
                raise wrong(self.text, start + 2, f"{{{{{word}}}}} outside {{{{range}}}}", width=len(word))
            self.close(scanner)
            return [Jump(start, self.position, word)]
        if word in ("define", "block", "template"):
            scanner.take_word()
            return self.named(scanner, word, start)
        pipe = scanner.pipe("command")
        self.close(scanner)
        return [Action(start, self.position, pipe)]

    def branch(self, scanner: _Scanner, word: str, start: int) -> Branch:
        branch = Branch(start, word, scanner.pipe(word))
        self.close(scanner)
        self.loops += word == "range"
        branch.body, closing = self.block(("end", "else"), start)
        self.loops -= word == "range"
        if closing is not None and self.text.startswith("else", closing.taken):
            follower = closing.peek_word()
            if follower in ("if", "with"):
                closing.take_word()
                branch.otherwise = [self.branch(closing, follower, closing.taken)]
                return branch
            self.close(closing)
            branch.otherwise, closing = self.block(("end",), start)
        if closing is not None:
            self.close(closing)
        branch.end = self.position
        return branch

    def named(self, scanner: _Scanner, word: str, start: int) -> list[Node]:
        name = scanner.string(word)
        if word == "template":
            pipe = None if scanner.at_end() else scanner.pipe(word)
            self.close(scanner)
            return [Call(start, self.position, name, pipe)]
        pipe = scanner.pipe(word) if word == "block" else None
        self.close(scanner)
        self.defined[name], closing = self.block(("end",), start)
        if closing is not None:
            self.close(closing)
        return [Call(start, self.position, name, pipe)] if word == "block" else []

    def close(self, scanner: _Scanner) -> None:
        """Read the `}}`."""
        self.position, self.trim = scanner.close()


class _Scanner:
    """One action, from behind its `{{`."""

    def __init__(self, text: str, start: int) -> None:
        self.text = text
        self.opened = start
        self.position = start
        self.taken = start
        """Where the last keyword began."""
        if text[start : start + 1] == "-" and text[start + 1 : start + 2] in _SPACE:
            self.position += 2
        self.comment = text.startswith("/*", self.position)
        if self.comment:
            stop = text.find("*/", self.position)
            if stop < 0:
                raise wrong(text, self.position, "unclosed comment", 'expected "*/"')
            self.position = stop + 2

    def skip(self) -> None:
        while self.position < len(self.text) and self.text[self.position] in _SPACE:
            self.position += 1

    def place(self) -> int:
        """Where the next token is."""
        self.skip()
        return self.position

    def at_end(self) -> bool:
        self.skip()
        return self.text.startswith(("}}", "-}}"), self.position)

    def close(self) -> tuple[int, bool]:
        """The position behind `}}`, and whether it takes the blanks behind it away."""
        self.skip()
        if self.text.startswith("}}", self.position):
            return self.position + 2, False
        if self.text.startswith("-}}", self.position) and self.text[self.position - 1] in _SPACE:
            return self.position + 3, True
        raise self.unexpected('"}}"')

    def unexpected(self, expected: str) -> TemplateError:
        """What stands here is not what is needed."""
        self.skip()
        if self.position >= len(self.text) or self.text.find("}}", self.position) < 0:
            return wrong(self.text, len(self.text), "unclosed action", f"expected {expected}")
        found = self.text[self.position]
        return wrong(self.text, self.position, f"unexpected {found!r} in the action", f"expected {expected}")

    def peek_word(self) -> str:
        self.skip()
        stop = self.position
        while stop < len(self.text) and (self.text[stop].isalnum() or self.text[stop] == "_"):
            stop += 1
        return self.text[self.position : stop]

    def take_word(self) -> str:
        word = self.peek_word()
        self.taken = self.position
        self.position += len(word)
        return word

    def string(self, context: str) -> str:
        self.skip()
        if self.text[self.position : self.position + 1] not in ('"', "`"):
            raise self.unexpected(f"the name of a template after {context}, in quotes")
        return str(self.quoted().value)

    def pipe(self, context: str, nested: bool = False) -> Pipe:
        """Commands until `}}`, or until `)`."""
        start = self.place()
        pipe = Pipe(start, start)
        if not nested:
            self.targets(pipe, context)
        command: list[Operand] = []
        while True:
            self.skip()
            char = self.text[self.position : self.position + 1]
            if char == ")" and nested or self.at_end() and not nested:
                break
            if char == "|":
                if not command:
                    raise wrong(self.text, self.position, "missing value for command", "expected a value before '|'")
                pipe.commands.append(command)
                command = []
                self.position += 1
                continue
            if char == ")":
                raise wrong(self.text, self.position, "unexpected right paren", "there is no '(' before it")
            command.append(self.operand())
        if not command:
            expected = "a command after '|'" if pipe.commands else "a field, a variable, a function or a value"
            raise wrong(self.text, self.position, f"missing value for {context}", f"expected {expected}")
        pipe.commands.append(command)
        pipe.end = self.position
        for number, one in enumerate(pipe.commands):
            self.check(one, number)
        return pipe

    def targets(self, pipe: Pipe, context: str) -> None:
        """`$x :=`, `$x =` or, for a range, `$k, $v :=`."""
        kept = self.position
        names = []
        while self.text[self.position : self.position + 1] == "$":
            self.position += 1
            names.append("$" + self.take_word())
            self.skip()
            if self.text[self.position : self.position + 1] != "," or context != "range" or len(names) == 2:
                break
            self.position += 1
            self.skip()
        if names and self.text.startswith((":=", "="), self.position):
            pipe.variables = names
            pipe.declares = self.text[self.position] == ":"
            self.position += 2 if pipe.declares else 1
        else:
            self.position = kept

    def check(self, command: list[Operand], number: int) -> None:
        """Only functions and fields take arguments, and only they can be given the value of a pipe."""
        first = command[0]
        if first.kind == "literal" and number:
            raise wrong(self.text, first.start, f"non executable command in pipeline stage {number + 1}")
        if first.kind == "literal" and first.value is None:
            error = wrong(self.text, first.start, "nil is not a command")
            error.exit_status = 1  # Go finds it only when the template runs
            raise error

    def operand(self) -> Operand:
        start = self.position
        char = self.text[start : start + 1]
        if char == "(":
            self.position += 1
            pipe = self.pipe("parenthesized pipeline", nested=True)
            self.position += 1
            return self.finish(start, "pipe", pipe)
        if char in ('"', "`"):
            return self.quoted()
        if char == "'":
            return self.character()
        if char == "$":
            self.position += 1
            return self.finish(start, "variable", "$" + self.take_word())
        if char == "." and not self.text[start + 1 : start + 2].isdigit():
            after = self.text[start + 1 : start + 2]
            if after.isalpha() or after == "_":
                return self.finish(start, "field", None)
            self.position += 1
            return Operand(start, self.position, "dot", None, [])
        if char.isdigit() or char == "." or (char and char in "+-" and self.text[start + 1 : start + 2].isdigit()):
            return self.number()
        word = self.take_word()
        if not word:
            raise self.unexpected("a field, a variable, a function or a value")
        if word in _CONSTANTS:
            return Operand(start, self.position, "literal", _CONSTANTS[word], [])
        if word not in FUNCTIONS:
            from difflib import get_close_matches

            close = get_close_matches(word, [*FUNCTIONS, "range", "if", "with"], 1)
            hint = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(sorted(FUNCTIONS))}"
            raise wrong(self.text, start, f'function "{word}" not defined', hint, len(word))
        return Operand(start, self.position, "function", word, [])

    def finish(self, start: int, kind: str, value: Any) -> Operand:
        """Read the `.names` that follow a value."""
        names = []
        last = start
        while self.text[self.position : self.position + 1] == ".":
            after = self.text[self.position + 1 : self.position + 2]
            if not (after.isalpha() or after == "_"):
                raise wrong(self.text, self.position + 1, "bad character after a dot", "expected the name of a field")
            last = self.position
            self.position += 1
            names.append(self.peek_word())
            self.position += len(names[-1])
        operand = Operand(start, self.position, kind, value, names)
        if kind == "field":
            operand.value = last  # where the last field stands, which is what Go's errors tell
        return operand

    def quoted(self) -> Operand:
        start = self.position
        quote = self.text[start]
        stop = start + 1
        while stop < len(self.text) and self.text[stop] != quote:
            stop += 2 if self.text[stop] == "\\" and quote == '"' else 1
        if stop >= len(self.text):
            name = "quoted" if quote == '"' else "raw quoted"
            raise wrong(self.text, start, f"unterminated {name} string", f"expected {quote} at its end")
        self.position = stop + 1
        body = self.text[start + 1 : stop]
        return Operand(start, self.position, "literal", body if quote == "`" else _unquote(self.text, start, body), [])

    def character(self) -> Operand:
        start = self.position
        stop = self.text.find("'", start + 2)
        if stop < 0:
            raise wrong(self.text, start, "unterminated character constant", "expected ' at its end")
        self.position = stop + 1
        body = _unquote(self.text, start, self.text[start + 1 : stop])
        if len(body) != 1:
            raise wrong(self.text, start, "malformed character constant", 'texts are in double quotes: "text"')
        return Operand(start, self.position, "literal", ord(body), [])

    def number(self) -> Operand:
        start = self.position
        stop = start + 1
        while stop < len(self.text) and (self.text[stop].isalnum() or self.text[stop] in "._"):
            stop += 2 if self.text[stop] in "eE" and self.text[stop + 1 : stop + 2] in ("+", "-") else 1
        self.position = stop
        text = self.text[start:stop]
        for convert in (lambda: int(text, 0), lambda: int(text, 8), lambda: float(text)):
            try:
                return Operand(start, stop, "literal", convert(), [])
            except ValueError:
                continue
        raise wrong(self.text, start, f'bad number syntax: "{text}"', width=len(text))


_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


def _unquote(text: str, offset: int, body: str) -> str:
    """The text of a Go string literal."""
    parts = body.split("\\")
    result = [parts.pop(0)]
    while parts:
        part = parts.pop(0)
        if not part and parts:  # a backslash that is escaped
            result.append("\\" + parts.pop(0))
            continue
        letter = part[:1]
        width = {"x": 2, "u": 4, "U": 8}.get(letter, 0)
        if letter in _ESCAPES:
            result.append(_ESCAPES[letter] + part[1:])
        elif width and len(part) > width:
            result.append(chr(int(part[1 : width + 1], 16)) + part[width + 1 :])
        else:
            raise wrong(text, offset, f"unknown escape \\{letter} in a text")
    return "".join(result)
