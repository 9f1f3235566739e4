"""One Compose file out of several: services that extend others, and files that are included.

Relative paths of another file are resolved beside that file, and written relative to the first one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from specrun.errors import Place
from specrun.spec.compose.merging import Unlike, merge
from specrun.spec.compose.tree import Node, TooLarge, document_of, tree
from specrun.spec.problems import Problem, SpecProblems
from specrun.spec.sources import Options
from specrun.spec.sources import variables as variables_beside
from specrun.spec.template import fill
from specrun.spec.yamltext import MAX_NODES, Document, Path, parse, read

TABLES = ("services", "networks", "volumes", "secrets", "configs")
_NOT_A_PATH = re.compile(r"[/~\\]|[A-Za-z][A-Za-z0-9+.-]*:|git@|github\.com/")


@dataclass(frozen=True)
class _File:
    """A Compose file as it was read; `folder` is what its paths are relative to, seen from the first file."""

    document: Document
    root: Node
    folder: str
    variables: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.document.file

    def place(self, *path: str | int, key: bool = False) -> Place:
        return self.document.place(path, key=key)


def gather(name: str, text: str, variables: Mapping[str, str]) -> Document:
    """The file with all that its services extend and that it includes. Raises SpecProblems."""
    first = _parsed(name, text, variables, "")
    gatherer = _Gatherer("" if name == "<stdin>" else os.path.dirname(name))
    gatherer.files[os.path.normpath(name), ""] = first
    root = gatherer.whole(first, (os.path.normpath(name),))
    if gatherer.problems:
        raise SpecProblems(gatherer.problems)
    if root is first.root:
        return first.document
    try:
        return document_of(first.document.source, root)
    except TooLarge as error:
        message = f"comes to more than {MAX_NODES} values"
        raise SpecProblems([Problem(Place(name, 1, 1), message, "too-large")]) from error


def _parsed(name: str, text: str, variables: Mapping[str, str], folder: str) -> _File:
    documents = parse(name, text, lambda one: fill(one, variables, compose=True), compose=True)
    if len(documents) != 1 or not isinstance(documents[0].value, dict):
        raise SpecProblems([Problem(Place(name, 1, 1), "expected one mapping with services", "wrong-type")])
    return _File(documents[0], tree(documents[0]), folder, variables)


class _Gatherer:
    def __init__(self, beside: str) -> None:
        self.beside = beside
        self.problems: list[Problem] = []
        self.files: dict[tuple[str, str], _File] = {}
        self.extended: dict[tuple[int, str], Node | None] = {}
        self.size = 0

    def whole(self, file: _File, above: tuple[str, ...]) -> Node:
        """The file's mapping, with its own services extended and the included files beside them.

        Its paths are those that the first file would write.
        """
        root = _moved_tables(self._services(file), file.folder)
        if "include" not in root.value:
            return root
        tables = dict(root.value)
        for index, one in enumerate(_items(tables.pop("include").plain)):
            try:
                included = self._included(file, one, ("include", index), above)
            except SpecProblems as error:
                self.problems += error.problems
                continue
            for table in TABLES:
                if table in included.value:
                    tables[table] = self._beside(table, tables.get(table), included.value[table])
        return root.but(tables)

    def _included(self, file: _File, one: Any, path: Path, above: tuple[str, ...]) -> Node:
        place = file.place(*path)
        fields = one if isinstance(one, dict) else {"path": one}
        for key in fields:
            if key not in ("path", "env_file", "project_directory"):
                raise _problem(
                    file.place(*path, key, key=True), "has no counterpart in specrun, and would be ignored",
                    "not-supported", f"include.{key}",
                )  # fmt: skip
        names = _items(fields.get("path"))
        if len(names) != 1:
            message = "expected one path; files laid over each other are not supported"
            raise _problem(place, message, "not-supported", "include")
        given = fields.get("project_directory")
        for text in (*names, *_items(fields.get("env_file")), *([] if given is None else [given])):
            if not isinstance(text, str) or not text:
                raise _problem(place, f"found {text!r}, expected a path", "wrong-type", "include")
        name = self._path(file.folder, names[0])
        if os.path.normpath(name) in above:
            chain = " -> ".join((*above[above.index(os.path.normpath(name)) :], name))
            raise _problem(place, f"includes itself: {chain}", "cycle", "include")
        folder = _under(file.folder, os.path.dirname(names[0]) if given is None else given)
        beside = os.path.join(self.beside, folder, ".env")
        env_files = [self._path(file.folder, text) for text in _items(fields.get("env_file"))]
        if not env_files and os.path.isfile(beside):
            env_files = [beside]
        known = dict(file.variables)
        if env_files:
            known = variables_beside([name], Options(environment=known, env_files=env_files))
        other = self._read(file.folder, names[0], place, "include", known, folder)
        for key in other.root.value:
            if key not in (*TABLES, "include", "name", "version") and not key.startswith("x-"):
                message = "has no counterpart in specrun, and would be ignored"
                raise _problem(other.place(key, key=True), message, "not-supported", key)
        return self.whole(other, (*above, os.path.normpath(name)))

    def _beside(self, table: str, here: Node | None, there: Node) -> Node:
        """Both tables in one; a name that both have must mean the same."""
        if here is None or not isinstance(here.value, dict) or not isinstance(there.value, dict):
            return there if here is None or here.value is None else here
        for name, node in there.value.items():
            own = here.value.get(name)
            if own is not None and own.plain != node.plain:
                place, other = (own.key or own.mark).place, (node.key or node.mark).place
                message = f"is also in {other.file}:{other.line}, which is included, and differs"
                self.problems.append(Problem(place, message, "duplicate-name", "", f"{table}.{name}"))
        return here.but({**there.value, **here.value})

    def _services(self, file: _File) -> Node:
        table = file.root.value.get("services")
        if table is None or not isinstance(table.value, dict):
            return file.root
        if not any(isinstance(one.value, dict) and "extends" in one.value for one in table.value.values()):
            return file.root
        services = {name: self._service(file, name) or node for name, node in table.value.items()}
        return file.root.but({**file.root.value, "services": table.but(services)})

    def _service(self, file: _File, name: str) -> Node | None:
        """A service with all that it extends; paths are relative to its file. None when that is wrong."""
        chain: list[tuple[_File, str, str]] = []  # and the folder that the next one's paths are relative to
        seen: set[tuple[int, str]] = set()
        found: Node | None = None
        known = False
        while True:
            key = (id(file), name)
            if key in self.extended:
                found, known = self.extended[key], True
                break
            seen.add(key)
            extends = file.root.value["services"].value[name].value
            extends = extends.get("extends") if isinstance(extends, dict) else None
            if extends is None or extends.value is None:
                chain.append((file, name, ""))
                break
            try:
                base, service = self._base(file, name, extends)
            except SpecProblems as error:
                self.problems += error.problems
                chain.append((file, name, ""))
                break
            chain.append((file, name, base.folder if base is not file else file.folder))
            if (id(base), service) in seen:
                steps = [f"{one.name}:{part}" for one, part, _ in chain]
                steps = [*steps[steps.index(f"{base.name}:{service}") :], f"{base.name}:{service}"]
                problem = Problem(extends.mark.place, f"extends itself: {' -> '.join(steps)}", "cycle", "",
                                  f"services.{name}.extends")  # fmt: skip
                self.problems.append(problem)
                self.extended.update(dict.fromkeys(((id(one), part) for one, part, _ in chain)))
                return None
            file, name = base, service
        while chain:
            file, name, folder = chain.pop()
            own = _without_extends(file.root.value["services"].value[name])
            if known and found is not None:
                found = self._laid(file, name, _moved(found, file.folder, folder), own)
            else:
                found = own
            known = True
            self.extended[id(file), name] = found
        return found

    def _base(self, file: _File, name: str, extends: Node) -> tuple[_File, str]:
        """The file and the name of the service that one extends. Raises SpecProblems."""
        field = f"services.{name}.extends"
        fields = {"service": extends} if isinstance(extends.value, str) else extends.value
        if not isinstance(fields, dict) or "service" not in fields:
            raise _problem(extends.mark.place, "expected a service, or service and file", "wrong-type", field)
        for key, node in fields.items():
            if key not in ("service", "file"):
                place = (node.key or node.mark).place
                raise _problem(place, "has no counterpart in specrun", "not-supported", f"{field}.{key}")
            if not isinstance(node.value, str) or not node.value:
                raise _problem(node.mark.place, f"found {node.plain!r}, expected text", "wrong-type", f"{field}.{key}")
        base = file
        if "file" in fields:
            at = fields["file"]
            base = self._read(file.folder, at.value, at.mark.place, f"{field}.file", file.variables)
        wanted = fields["service"]
        services = base.root.value.get("services")
        names = services.value if services is not None and isinstance(services.value, dict) else {}
        if wanted.value not in names:
            close = get_close_matches(wanted.value, list(names), 1)
            note = f"did you mean {close[0]}?" if close else ""
            message = f"there is no service {wanted.value} in {base.name}"
            raise _problem(wanted.mark.place, message, "no-such-spec", field, note)
        return base, wanted.value

    def _laid(self, file: _File, name: str, base: Node, own: Node) -> Node:
        try:
            found = merge(base, own)
        except Unlike as error:
            field = ".".join(("services", name, *error.path))
            there = error.base.mark.place
            message = f"{error} ({there.file}:{there.line})"
            self.problems.append(Problem(error.node.mark.place, message, "wrong-type", "", field))
            return own
        self.size += _size(found)
        if self.size > MAX_NODES:
            place = (own.key or own.mark).place
            raise _problem(place, f"what is extended comes to more than {MAX_NODES} values", "too-large", name)
        return found

    def _read(
        self,
        folder: str,
        path: str,
        place: Place,
        field: str,
        variables: Mapping[str, str],
        into: str | None = None,
    ) -> _File:
        """The Compose file at a path that is relative to `folder`. Raises SpecProblems."""
        name = self._path(folder, path)
        into = _under(folder, os.path.dirname(path)) if into is None else into
        if (name, into) in self.files and self.files[name, into].variables == variables:
            return self.files[name, into]
        if not os.path.exists(name):
            raise _problem(place, f"there is no {name}", "missing-file", field)
        file = _parsed(*read(name), variables, into)
        self.files[name, into] = file
        return file

    def _path(self, folder: str, path: str) -> str:
        """A path of the host, from where we are."""
        found = os.path.normpath(os.path.join(self.beside, folder, path))
        return "./-" if found == "-" else found


def _problem(place: Place, message: str, code: str, field: str, note: str = "") -> SpecProblems:
    return SpecProblems([Problem(place, message, code, "", field, note)])


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _size(node: Node) -> int:
    parts = node.value.values() if isinstance(node.value, dict) else node.value if isinstance(node.value, list) else ()
    return 1 + sum(map(_size, parts))


def _without_extends(service: Node) -> Node:
    if not isinstance(service.value, dict):
        return service
    return service.but({key: node for key, node in service.value.items() if key != "extends"})


def _under(folder: str, path: str) -> str:
    found = os.path.normpath(os.path.join(folder, path))
    return "" if found == "." else found


def _moved_tables(root: Node, folder: str) -> Node:
    """The tables of a file, whose paths are relative to `folder`."""
    if not folder:
        return root
    tables = {}
    for table, node in root.value.items():
        if table in TABLES and isinstance(node.value, dict):
            named = {name: _moved_entry(table, one, folder) for name, one in node.value.items()}
            node = node.but(named)
        tables[table] = node
    return root.but(tables)


def _moved_entry(table: str, node: Node, folder: str) -> Node:
    if table == "services":
        return _moved(node, "", folder)
    if table in ("secrets", "configs") and isinstance(node.value, dict) and "file" in node.value:
        return node.but({**node.value, "file": _moved_path(node.value["file"], folder)})
    return node


def _moved(service: Node, here: str, folder: str) -> Node:
    """A service of a file in `folder`, with its paths as a file in `here` writes them."""
    if not isinstance(service.value, dict) or here == folder:
        return service
    folder = folder if os.path.isabs(folder) else os.path.relpath(folder or ".", here or ".")
    fields = dict(service.value)
    for key, move in (("build", _moved_build), ("env_file", _moved_env_files), ("volumes", _moved_volumes)):
        if key in fields:
            fields[key] = move(fields[key], folder)
    return service.but(fields)


def _moved_path(node: Node, folder: str) -> Node:
    if not isinstance(node.value, str) or not node.value or _NOT_A_PATH.match(node.value):
        return node
    found = _under(folder, node.value) or "."
    return node.but(found if found.startswith(("/", "..")) or found == "." else f"./{found}")


def _moved_build(node: Node, folder: str) -> Node:
    if not isinstance(node.value, dict):
        return _moved_path(node, folder)
    fields = dict(node.value)
    if "context" in fields:
        fields["context"] = _moved_path(fields["context"], folder)
    contexts = fields.get("additional_contexts")
    if contexts is not None and isinstance(contexts.value, dict):
        fields["additional_contexts"] = contexts.but(
            {name: _moved_path(one, folder) for name, one in contexts.value.items()}
        )
    elif contexts is not None and isinstance(contexts.value, list):
        fields["additional_contexts"] = contexts.but([_moved_context(one, folder) for one in contexts.value])
    return node.but(fields)


def _moved_context(node: Node, folder: str) -> Node:
    name, equals, path = node.value.partition("=") if isinstance(node.value, str) else ("", "", "")
    return node.but(f"{name}={_moved_path(node.but(path), folder).value}") if equals else node


def _moved_env_files(node: Node, folder: str) -> Node:
    if isinstance(node.value, list):
        return node.but([_moved_env_files(one, folder) for one in node.value])
    if isinstance(node.value, dict) and "path" in node.value:
        return node.but({**node.value, "path": _moved_path(node.value["path"], folder)})
    return _moved_path(node, folder)


def _moved_volumes(node: Node, folder: str) -> Node:
    return node.but([_moved_volume(one, folder) for one in node.value]) if isinstance(node.value, list) else node


def _moved_volume(node: Node, folder: str) -> Node:
    if isinstance(node.value, str) and node.value.startswith("."):
        source, colon, rest = node.value.partition(":")
        return node.but(f"{_moved_path(node.but(source), folder).value}{colon}{rest}") if colon else node
    fields = node.value if isinstance(node.value, dict) else {}
    if "source" in fields and "type" in fields and fields["type"].value == "bind":
        return node.but({**fields, "source": _moved_path(fields["source"], folder)})
    return node
