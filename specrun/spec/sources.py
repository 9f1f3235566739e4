"""From what stands on the command line to documents: files, folders, standard input, includes, overlays, variables.

A document with nothing but `include` names more files, relative to its own. Variables come from `--set`, then from
the environment, then from `.env` beside the first file (or from `--env-file` instead).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from specrun.errors import Place, UsageError
from specrun.spec import dotenv
from specrun.spec.naming import expand
from specrun.spec.overlay import merge
from specrun.spec.problems import Problem, SpecProblems
from specrun.spec.template import fill
from specrun.spec.trace import Trace
from specrun.spec.yamltext import Document, parse, read


@dataclass(frozen=True)
class Options:
    """How specs are to be read."""

    variables: Mapping[str, str] = field(default_factory=dict)
    """What was given by --set."""
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    env_files: list[str] = field(default_factory=list)
    profiles: frozenset[str] = frozenset()
    overlays: list[str] = field(default_factory=list)
    trace: Trace = field(default_factory=Trace)
    """Gets to know what they are read from."""


def variables_of(settings: list[str]) -> dict[str, str]:
    """The variables of `--set NAME=value`. Raises UsageError."""
    found = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f"--set {setting}: expected NAME=value")
        found[name] = value
    return found


def gather(paths: list[str], options: Options) -> tuple[list[Document], list[Problem]]:
    """All documents, overlays laid on, and what is wrong with their text."""
    gatherer = _Gatherer(paths, options)
    for path in (*paths, *options.overlays):
        options.trace.listed(path)
    for path in expand(paths):
        gatherer.add(path)
    documents, problems = gatherer.documents, gatherer.problems
    if options.overlays:
        over = _Gatherer(paths, options)
        for path in expand(options.overlays):
            over.add(path)
        problems += over.problems
        documents = _lay(documents, over.documents, problems)
    return documents, problems


def variables(paths: list[str], options: Options, problems: list[Problem] | None = None) -> dict[str, str]:
    """The variables that specs are filled in with. What is wrong with a file goes to `problems`, or is raised."""
    found: dict[str, str] = {}
    wrong: list[Problem] = []
    files = options.env_files
    if not files:
        first = paths[0] if paths else "-"
        folder = "." if first == "-" else first if os.path.isdir(first) else os.path.dirname(first)
        beside = os.path.join(folder, ".env")
        files = [beside] if os.path.isfile(beside) else []
        if not files:
            options.trace.missed(beside)
    for file in files:
        try:
            name, text = read(file)
            options.trace.read(file, text)
            options.trace.variables |= "$" in text
            found.update(dotenv.parse(text, {**options.environment, **options.variables}))
        except dotenv.DotenvError as error:
            lines = text.splitlines()
            source = lines[error.line - 1] if error.line <= len(lines) else ""
            wrong.append(Problem(Place(name, error.line, 1, source), error.message, "bad-env-file"))
        except SpecProblems as error:
            wrong += error.problems
    if wrong and problems is None:
        raise SpecProblems(wrong)
    if problems is not None:
        problems += wrong
    return {**found, **options.environment, **options.variables}


class _Gatherer:
    """Reads files and what they include; every file once."""

    def __init__(self, paths: list[str], options: Options) -> None:
        self.documents: list[Document] = []
        self.problems: list[Problem] = []
        self.seen: set[str] = set()
        self.trace = options.trace
        self.variables = variables(paths, options, self.problems)

    def add(self, path: str, at: Place | None = None) -> None:
        """Read a file; `at` is where an include names it."""
        real = path if path == "-" else os.path.realpath(path)
        if real in self.seen:
            return
        self.seen.add(real)
        if at and not os.path.exists(path):
            self.problems.append(Problem(at, f"there is no {path}", "missing-file", field="include"))
            return
        try:
            name, text = read(path)
            self.trace.read(path, text)
            self.trace.variables |= "${" in text
            documents = parse(name, text, lambda text: fill(text, self.variables))
        except SpecProblems as error:
            self.problems += error.problems
            return
        for document in documents:
            if isinstance(document.value, dict) and "include" in document.value:
                self._include(document)
            else:
                self.documents.append(document)

    def _include(self, document: Document) -> None:
        others = [key for key in document.value if key != "include"]
        for key in others:
            place = document.place((key,), key=True)
            note = "a document with include holds nothing else"
            self.problems.append(Problem(place, "unknown field", "unknown-field", "", key, note))
        wanted = document.value["include"]
        names = wanted if isinstance(wanted, list) else [wanted]
        for index, name in enumerate(names):
            place = document.place(("include", index))
            if not isinstance(name, str) or name == "-":
                message = "expected a file or folder, relative to this one"
                self.problems.append(Problem(place, message, "wrong-type", field="include"))
                continue
            folder = "" if document.file == "<stdin>" else os.path.dirname(document.file)
            self.trace.listed(os.path.join(folder, name))
            for path in expand([os.path.join(folder, name)]):
                self.add(path, place)


def _lay(documents: list[Document], overlays: list[Document], problems: list[Problem]) -> list[Document]:
    """The documents with the overlays on them; an overlay of nothing is a problem."""
    found: dict[tuple[object, object], Document | None] = {}
    for document in documents:
        found.setdefault(_identity(document), document)
    rest = [document for document in documents if found.get(_identity(document)) is not document]
    for over in overlays:
        base = found.get(_identity(over))
        if base is None:
            kind, name = _identity(over)
            place = over.place(("metadata", "name"))
            message = f"there is no {str(kind).lower()}/{name} to lay this on"
            problems.append(Problem(place, message, "no-such-spec", note="an overlay changes what other files hold"))
            continue
        try:
            found[_identity(over)] = merge(base, over)
        except SpecProblems as error:
            problems += error.problems
    return [document for document in found.values() if document] + rest


def _identity(document: Document) -> tuple[object, object]:
    value = document.value if isinstance(document.value, dict) else {}
    metadata = value.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else id(document)
    return (str(value.get("kind")), str(name))
