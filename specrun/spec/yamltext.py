"""YAML text to plain values, each with its place: no tags, no surprises, bounded in every direction.

Scalars follow the core schema of YAML 1.2: `no` and `22:22` and `010` are text, not a boolean, a number of minutes
and eight. Variables are filled in before a plain scalar is judged, so that `${PORT}` can be a number.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

from specrun.errors import Place
from specrun.spec.problems import Problem, SpecProblems
from specrun.spec.template import TemplateError

MAX_BYTES = 4 << 20
MAX_DEPTH = 32
MAX_NODES = 500_000
MAX_ALIASED = 10_000
"""How many nodes may come into being by aliases."""


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """PyYAML's parser without its guesses about plain scalars, which take a sixth of its time."""

    def resolve(self, kind: type[yaml.Node], value: str, implicit: Any) -> str:
        """The tag of a node that has none."""
        return _TAGS[kind]


_TAGS = {
    yaml.ScalarNode: "tag:yaml.org,2002:str",
    yaml.SequenceNode: "tag:yaml.org,2002:seq",
    yaml.MappingNode: "tag:yaml.org,2002:map",
}
_INTEGER = re.compile("-?(?:0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None, "~": None, "": None}

_IMPLICIT = frozenset(
    f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "timestamp", "value", "merge")
)
"""What PyYAML takes a plain scalar for by itself; we judge its text anew."""

Path = tuple[str | int, ...]


Fill = Callable[[str], str]
"""Fills variables in. Raises TemplateError."""


@dataclass(frozen=True)
class Source:
    """The text that places point into."""

    file: str
    lines: list[str]


class Mark(NamedTuple):
    """A position before anybody asked for it: line and column count from 0."""

    source: Source
    line: int
    column: int
    width: int

    @property
    def place(self) -> Place:
        """For messages."""
        return _place(self.source, self.line, self.column, self.width)


@dataclass
class Document:
    """One YAML document: its value, and where each value and each key stands."""

    source: Source
    value: Any = None
    values: dict[Path, Mark] = field(default_factory=dict)
    keys: dict[Path, Mark] = field(default_factory=dict)
    reset: set[Path] = field(default_factory=set)
    """Keys of Compose files whose value is `!reset`: they are not in `value`."""
    overriding: set[Path] = field(default_factory=set)
    """Values of Compose files that are tagged with `!override`."""

    @property
    def file(self) -> str:
        """The name of the file that it stands in."""
        return self.source.file

    def place(self, path: Path, *, key: bool = False) -> Place:
        """Where `path` stands, or the nearest thing around it that stands somewhere."""
        while True:
            mark = (self.keys.get(path) if key else None) or self.values.get(path) or self.keys.get(path)
            if mark is not None:
                return mark.place
            if not path:
                return Place(self.file, 1, 1)
            path = path[:-1]


def read(path: str) -> tuple[str, str]:
    """Name and text of a spec file, or of standard input for `-`. Raises SpecProblems."""
    if path == "-":
        data = sys.stdin.buffer.read(MAX_BYTES + 1)
        name = "<stdin>"
    else:
        name = path
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError as error:
            raise _whole_file(name, f"cannot be read: {error.strerror}", "missing-file") from error
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise _whole_file(name, "is not a regular file", "bad-file")
            data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise _whole_file(name, f"is larger than {MAX_BYTES} bytes", "bad-file")
    try:
        return name, data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _whole_file(name, f"is not UTF-8 text (byte {error.start})", "bad-file") from error


def _whole_file(name: str, message: str, code: str) -> SpecProblems:
    return SpecProblems([Problem(Place(name, 1, 1), message, code)])


def parse(name: str, text: str, fill: Fill | None = None, *, compose: bool = False) -> list[Document]:
    """The documents of a file; empty ones are left out. Raises SpecProblems.

    With `compose`, as in Compose files, `<<` lays a mapping under the one that it stands in, and values may be tagged
    with `!reset` and `!override`.
    """
    source = Source(name, text.splitlines())
    try:
        nodes = [node for node in yaml.compose_all(text, _Loader) if node is not None]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = _place(source, mark.line, mark.column, 1) if mark else Place(name, 1, 1)
        message = f"{error.problem or 'not YAML'}" + (f", {error.context}" if error.context else "")
        raise SpecProblems([Problem(place, message, "bad-yaml")]) from error
    except yaml.YAMLError as error:
        raise _whole_file(name, f"is not YAML: {str(error).splitlines()[0]}", "bad-yaml") from error
    except RecursionError as error:
        raise _whole_file(name, f"is nested deeper than {MAX_DEPTH}", "too-deep") from error
    documents = []
    for node in nodes:
        builder = _Builder(source, fill, compose)
        document = Document(source)
        document.value = builder.build(node, (), document, 0)
        if builder.problems:
            raise SpecProblems(builder.problems)
        if document.value is not None:
            documents.append(document)
    return documents


def _place(source: Source, line: int, column: int, width: int) -> Place:
    text = source.lines[line] if line < len(source.lines) else ""
    printable = "".join(char if char.isprintable() else " " for char in text)
    return Place(source.file, line + 1, column + 1, printable, max(1, width))


class _Builder:
    """Turns nodes into values. Problems are collected, so that all are seen at once."""

    def __init__(self, source: Source, fill: Fill | None, compose: bool = False) -> None:
        self.compose = compose
        self.source = source
        self.fill = fill
        self.problems: list[Problem] = []
        self.count = 0
        self.seen: set[int] = set()
        self.overriding: set[int] = set()
        self.aliased = 0

    def build(self, node: yaml.Node, path: Path, document: Document, depth: int) -> Any:
        document.values[path] = self.mark(node)
        self.count += 1
        if id(node) in self.seen:
            self.aliased += 1
        self.seen.add(id(node))
        if self.aliased > MAX_ALIASED or self.count > MAX_NODES:
            raise self.hopeless(node, f"more than {MAX_ALIASED} values come from aliases", "too-large")
        if depth > MAX_DEPTH:
            raise self.hopeless(node, f"nested deeper than {MAX_DEPTH}", "too-deep")
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node)
        if isinstance(node, yaml.SequenceNode):
            self.check_tag(node, "tag:yaml.org,2002:seq")
            return [self.build(item, (*path, index), document, depth + 1) for index, item in enumerate(node.value)]
        self.check_tag(node, "tag:yaml.org,2002:map")
        return self.mapping(node, path, document, depth)

    def mapping(self, node: yaml.Node, path: Path, document: Document, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.wrong(key_node, "a key must be text", "bad-key")
                continue
            key = key_node.value
            if self.compose and not key_node.style and _INTEGER.fullmatch(key):
                self.wrong(key_node, f"the key {key} is a number; write it in quotes", "bad-key")
            if key == "<<" and not key_node.style and self.compose:
                continue
            if key == "<<" and not key_node.style:
                self.wrong(key_node, "merge keys are not supported", "bad-key")
                continue
            if key in result:
                first = document.keys[(*path, key)].line + 1
                self.wrong(key_node, f"{key!r} stands twice, first in line {first}", "duplicate-key")
                continue
            if self.compose and value_node.tag == "!reset":
                document.reset.add((*path, key))
                continue
            if self.compose and value_node.tag == "!override":
                document.overriding.add((*path, key))
                self.overriding.add(id(value_node))
            document.keys[(*path, key)] = self.mark(key_node)
            result[key] = self.build(value_node, (*path, key), document, depth + 1)
        if self.compose:
            self.under(node, path, document, depth, result)
        return result

    def under(self, node: yaml.Node, path: Path, document: Document, depth: int, result: dict[str, Any]) -> None:
        """What `<<` brings: the keys that are not there."""
        for key_node, value_node in node.value:
            if key_node.value != "<<" or key_node.style:
                continue
            sources = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
            for source in sources:
                if not isinstance(source, yaml.MappingNode):
                    self.wrong(source, "<< needs a mapping, or a list of mappings", "bad-key")
                    continue
                part = Document(document.source)
                found = self.mapping(source, path, part, depth + 1)
                document.reset |= {at for at in part.reset if at[: len(path) + 1][-1] not in result}
                for key in found:
                    if key not in result:
                        result[key] = found[key]
                        kept = (*path, key)
                        document.keys[kept] = part.keys[kept]
                        document.values.update(
                            {at: mark for at, mark in part.values.items() if at[: len(kept)] == kept}
                        )
                        document.overriding |= {at for at in part.overriding if at[: len(kept)] == kept}

    def scalar(self, node: yaml.ScalarNode) -> Any:
        text: str = node.value
        if self.fill and "$" in text:
            text = self.filled(node, text, self.fill)
        if node.style:  # quoted, or a block
            self.check_tag(node, "tag:yaml.org,2002:str")
            return text
        if node.tag not in _IMPLICIT and id(node) not in self.overriding:
            return self.wrong(node, f"the tag {node.tag} is not supported", "bad-tag")
        if text in _WORDS:
            return _WORDS[text]
        if _INTEGER.fullmatch(text):
            return int(text)
        if _FLOAT.fullmatch(text):
            return float(text)
        return text

    def check_tag(self, node: yaml.Node, expected: str) -> None:
        if node.tag != expected and id(node) not in self.overriding:
            self.wrong(node, f"the tag {node.tag} is not supported", "bad-tag")

    def wrong(self, node: yaml.Node, message: str, code: str) -> None:
        if len(self.problems) < 100:
            self.problems.append(Problem(self.place(node), message, code))

    def hopeless(self, node: yaml.Node, message: str, code: str) -> SpecProblems:
        """What ends the reading at once."""
        return SpecProblems([Problem(self.place(node), message, code)])

    def filled(self, node: yaml.ScalarNode, text: str, fill: Fill) -> str:
        try:
            return fill(text)
        except TemplateError as error:
            mark = self.mark(node)
            if node.start_mark.line == node.end_mark.line:
                quote = 1 if node.style else 0
                mark = mark._replace(column=mark.column + quote + error.start, width=error.end - error.start)
            self.problems.append(Problem(mark.place, error.message, error.code, note=error.note))
            return ""

    def mark(self, node: yaml.Node) -> Mark:
        start, end = node.start_mark, node.end_mark
        width = end.column - start.column if end.line == start.line else 1
        return Mark(self.source, start.line, start.column, width)

    def place(self, node: yaml.Node) -> Place:
        return self.mark(node).place
