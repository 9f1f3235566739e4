"""Files of container-structure-test (schema 2.0.0), read as checks on one image.

What the schema has and we do not is refused by name, with its place. A pattern is searched for line by line, as there.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from specrun.checks.check import Check, Result
from specrun.checks.subjects import TIMEOUT, ImageConfig, ImageFile, Run
from specrun.errors import SpecrunError

if TYPE_CHECKING:
    from specrun.engine.containers import Engine

Path = tuple[str | int, ...]
T = TypeVar("T")

_COMMAND = "name command args setup teardown envVars expectedOutput excludedOutput expectedError excludedError exitCode"
FIELDS = {
    "commandTests": _COMMAND.split(),
    "fileExistenceTests": "name path shouldExist permissions uid gid isExecutableBy".split(),
    "fileContentTests": "name path expectedContents excludedContents".split(),
}
METADATA = (
    "envVars unboundEnvVars labels entrypoint cmd exposedPorts unexposedPorts volumes unmountedVolumes workdir user"
).split()
TOP = ("schemaVersion", *FIELDS, "metadataTest", "globalEnvVars")
_REFUSED = {
    "licenseTests": "licences are not looked at",
    "containerRunOptions": "options of `docker run` are not taken from a file of tests",
}


class BadTest(ValueError):
    """Something in the file; `path` is where."""

    def __init__(self, message: str, path: Path) -> None:
        super().__init__(message)
        self.path = path


class Shown:
    """A check that one of the small functions below makes: it looks, and says what is wrong."""

    def __init__(self, name: str, look: Callable[[Engine], list[str]]) -> None:
        self.name = name
        self._look = look

    def run(self, engine: Engine) -> Result:
        """Look once."""
        import time

        began = time.monotonic()
        try:
            problems = self._look(engine)
        except SpecrunError as error:
            problems = [error.message]
        return Result(self.name, "\n".join(problems), time.monotonic() - began)


def checks_of(document: Any, image: str, timeout: float = TIMEOUT) -> list[Check | Shown]:
    """The checks of a file's document on `image`; a command may take `timeout` seconds. Raises BadTest."""
    if not isinstance(document, dict):
        raise BadTest("expected schemaVersion and tests", ())
    for key in document:
        if key in _REFUSED:
            raise BadTest(f"{key} is not supported: {_REFUSED[key]}", (key,))
        if key not in TOP:
            raise BadTest(f"{key}: unknown field, expected one of {', '.join(TOP)}", (key,))
    if document.get("schemaVersion") != "2.0.0":
        raise BadTest(f"schemaVersion: found {document.get('schemaVersion')!r}, expected 2.0.0", ("schemaVersion",))
    variables = _pairs(document.get("globalEnvVars"), ("globalEnvVars",))
    makers: dict[str, Callable[..., Shown]] = {
        "commandTests": partial(_command, timeout=timeout),
        "fileExistenceTests": _existence,
        "fileContentTests": _content,
    }
    found: list[Check | Shown] = []
    for kind, make in makers.items():
        for index, test in enumerate(_list(document.get(kind), (kind,))):
            where = (kind, index)
            _known(test, FIELDS[kind], where)
            if not isinstance(test.get("name"), str):
                raise BadTest("name: is missing", where)
            found.append(make(test, image, where, variables))
    if document.get("metadataTest"):
        _known(document["metadataTest"], METADATA, ("metadataTest",))
        found.append(_metadata(document["metadataTest"], image))
    if not found:
        raise BadTest("there are no tests in it", ())
    return found


def _command(test: dict[str, Any], image: str, where: Path, variables: dict[str, str], timeout: float) -> Shown:
    if "setup" in test or "teardown" in test:
        raise BadTest("setup and teardown are not supported: put them into the command, `sh -c` for example", where)
    env = {**variables, **_pairs(test.get("envVars"), (*where, "envVars"))}
    words = [_text(test.get("command"), (*where, "command"))]
    for index, argument in enumerate(_list(test.get("args"), (*where, "args"))):
        words.append(_typed(argument, str, (*where, "args", index)))
    wanted = [
        (stream, expected, _patterns(test.get(key), (*where, key)))
        for key, stream, expected in (
            ("expectedOutput", "stdout", True),
            ("excludedOutput", "stdout", False),
            ("expectedError", "stderr", True),
            ("excludedError", "stderr", False),
        )
    ]
    status = _typed(test.get("exitCode", 0), int, (*where, "exitCode"))
    settings = {"entrypoint": [], "env": [f"{key}={value}" for key, value in env.items()], "network": "none"}

    def look(engine: Engine) -> list[str]:
        found = Run(image, words, timeout, **settings).look(engine, set())
        problems = [] if found["exitCode"] == status else [f"expected exit status {status}, found {found['exitCode']}"]
        for stream, expected, patterns in wanted:
            problems += _searched(patterns, found[stream], stream, expected)
        return problems

    return Shown(f"Command Test: {test['name']}", look)


def _existence(test: dict[str, Any], image: str, where: Path, _: dict[str, str]) -> Shown:
    path = _text(test.get("path"), (*where, "path"))
    should, permissions, executable = test.get("shouldExist", True), test.get("permissions"), test.get("isExecutableBy")
    kinds = {"shouldExist": bool, "permissions": str, "uid": int, "gid": int, "isExecutableBy": str}
    for key, kind in kinds.items():
        if key in test:
            _typed(test[key], kind, (*where, key))
    if executable and executable not in _BITS:
        raise BadTest(f"isExecutableBy: expected one of {', '.join(_BITS)}", (*where, "isExecutableBy"))

    def look(engine: Engine) -> list[str]:
        found = ImageFile(image, path).look(engine, {"target"})
        if found["exists"] != should:
            return [f"{path} {'exists' if found['exists'] else 'does not exist'}"]
        if not should:
            return []
        mode = int(found["mode"], 8)
        letters = stat.filemode(mode | _KINDS.get(found["type"], 0))
        problems = (
            [f"{path}: expected {permissions}, found {letters}"] if permissions and letters != permissions else []
        )
        problems += [f"{path}: expected {key} {test[key]}, found {found[key]}" for key in ("uid", "gid")
                     if key in test and test[key] != found[key]]  # fmt: skip
        if executable and not mode & _BITS[executable]:
            problems.append(f"{path} is not executable by {executable} ({letters})")
        return problems

    return Shown(f"File Existence Test: {test['name']}", look)


_BITS = {"owner": 0o100, "group": 0o010, "other": 0o001, "any": 0o111}
_KINDS = {"file": stat.S_IFREG, "directory": stat.S_IFDIR, "link": stat.S_IFLNK}


def _content(test: dict[str, Any], image: str, where: Path, _: dict[str, str]) -> Shown:
    path = _text(test.get("path"), (*where, "path"))
    expected = _patterns(test.get("expectedContents"), (*where, "expectedContents"))
    excluded = _patterns(test.get("excludedContents"), (*where, "excludedContents"))

    def look(engine: Engine) -> list[str]:
        found = ImageFile(image, path).look(engine, {"content"})
        if not found["exists"]:
            return [f"{path} does not exist"]
        return _searched(expected, found["content"], path, True) + _searched(excluded, found["content"], path, False)

    return Shown(f"File Content Test: {test['name']}", look)


def _metadata(test: dict[str, Any], image: str) -> Shown:
    where: Path = ("metadataTest",)
    for key in ("envVars", "labels"):
        for index, entry in enumerate(_list(test.get(key), (*where, key))):
            _known(entry, ["key", "value", "isRegex"], (*where, key, index))
            if entry.get("isRegex"):
                _pattern(entry.get("value"), (*where, key, index, "value"))
    for key in ("unboundEnvVars", "entrypoint", "cmd", *(name for name, _, _ in _SETS)):
        _list(test.get(key), (*where, key))

    def look(engine: Engine) -> list[str]:
        found = ImageConfig(image).look(engine, set())
        problems = _entries(test.get("envVars") or [], found["env"], "variable")
        problems += _entries(test.get("labels") or [], found["labels"], "label")
        problems += [f"variable {name} is set" for name in test.get("unboundEnvVars") or [] if name in found["env"]]
        for key, fact in (("entrypoint", "entrypoint"), ("cmd", "command")):
            if key in test and test[key] != found[fact]:
                problems.append(f"{key}: expected {test[key]}, found {found[fact]}")
        for key, fact, is_there in _SETS:
            for item in test.get(key) or []:
                present = any(str(item) in (one, one.removesuffix("/tcp")) for one in found[fact])
                if present != is_there:
                    problems.append(f"{key}: {item} is {'not ' if is_there else ''}there: {found[fact]}")
        for key, fact in (("workdir", "workingDir"), ("user", "user")):
            if key in test and str(test[key]) != found[fact]:
                problems.append(f"{key}: expected {test[key]!r}, found {found[fact]!r}")
        return problems

    return Shown("Metadata Test", look)


_SETS = (
    ("exposedPorts", "ports", True),
    ("unexposedPorts", "ports", False),
    ("volumes", "volumes", True),
    ("unmountedVolumes", "volumes", False),
)


def _entries(wanted: list[dict[str, Any]], found: dict[str, str], kind: str) -> list[str]:
    problems = []
    for entry in wanted:
        name, value = str(entry.get("key")), str(entry.get("value", ""))
        if name not in found:
            problems.append(f"{kind} {name} is not set")
        elif not (re.search(value, found[name]) if entry.get("isRegex") else found[name] == value):
            problems.append(f"{kind} {name}: expected {value!r}, found {found[name]!r}")
    return problems


def _searched(patterns: list[re.Pattern[str]], text: str, what: str, expected: bool) -> list[str]:
    return [
        f"{what}: {'nothing is' if expected else 'something is'} like {pattern.pattern!r}"
        for pattern in patterns
        if bool(pattern.search(text)) != expected
    ]


def _patterns(values: Any, where: Path) -> list[re.Pattern[str]]:
    return [_pattern(value, (*where, index)) for index, value in enumerate(_list(values, where))]


def _pattern(value: Any, where: Path) -> re.Pattern[str]:
    try:
        return re.compile(str(value), re.MULTILINE)
    except re.error as error:
        raise BadTest(f"{value!r} is no regular expression: {error}", where) from error


def _pairs(values: Any, where: Path) -> dict[str, str]:
    found = {}
    for index, entry in enumerate(_list(values, where)):
        _known(entry, ["key", "value"], (*where, index))
        found[_text(entry.get("key"), (*where, index, "key"))] = str(entry.get("value", ""))
    return found


def _known(entry: Any, fields: list[str], where: Path) -> None:
    if not isinstance(entry, dict):
        raise BadTest(f"expected a mapping with {', '.join(fields)}", where)
    for key in entry:
        if key not in fields:
            raise BadTest(f"{key}: unknown field, expected one of {', '.join(fields)}", (*where, key))


def _list(values: Any, where: Path) -> list[Any]:
    if values is None:
        return []
    if not isinstance(values, list):
        raise BadTest("expected a list", where)
    return values


def _typed(value: Any, kind: type[T], where: Path) -> T:
    if type(value) is not kind:  # true is no number here
        name = where[-1] if isinstance(where[-1], str) else f"{where[-2]}[{where[-1]}]"
        raise BadTest(f"{name}: found {value!r}, expected {_NAMES[kind]}", where)
    return value


_NAMES: dict[type, str] = {str: "text (in quotes)", int: "a whole number", bool: "true or false"}


def _text(value: Any, where: Path) -> str:
    if not isinstance(value, str) or not value:
        raise BadTest(f"{where[-1]}: is missing, or no text", where)
    return value
