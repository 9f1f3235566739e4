"""Nodes as typed instructions: flags, arguments and here-documents with their meaning, nothing expanded yet."""

from __future__ import annotations

from specrun.build import mounts
from specrun.build.errors import DockerfileError
from specrun.build.parser import parse_heredoc, parse_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from specrun.build.parser import Dockerfile, Heredoc, Node

KEYWORDS = (
    "ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL MAINTAINER ONBUILD RUN SHELL STOPSIGNAL USER "
    "VOLUME WORKDIR"
).split()
NETWORKS = ("default", "none", "host")

_TEXT, _BOOLEAN, _LIST = "text", "boolean", "list"
_FLAGS = {
    "FROM": {"platform": _TEXT},
    "ADD": {
        "chown": _TEXT, "chmod": _TEXT, "link": _BOOLEAN, "keep-git-dir": _BOOLEAN, "checksum": _TEXT,
        "exclude": _LIST, "unpack": _BOOLEAN,
    },
    "COPY": {
        "chown": _TEXT, "chmod": _TEXT, "from": _TEXT, "link": _BOOLEAN, "parents": _BOOLEAN, "exclude": _LIST
    },
    "RUN": {"mount": _LIST, "network": _TEXT, "security": _TEXT, "device": _LIST},
    "HEALTHCHECK": {
        "interval": _TEXT, "timeout": _TEXT, "start-period": _TEXT, "start-interval": _TEXT, "retries": _TEXT
    },
}  # fmt: skip
_EXACTLY_ONE = ("MAINTAINER", "WORKDIR", "USER", "STOPSIGNAL")
_AT_LEAST_ONE = ("ENV", "LABEL", "ONBUILD", "HEALTHCHECK", "EXPOSE", "VOLUME", "ARG")
_NO_TRIGGERS = ("FROM", "MAINTAINER")
_SECOND = 1_000_000_000
_UNITS = {
    "ns": 1, "us": 1000, "µs": 1000, "μs": 1000, "ms": 1_000_000, "s": _SECOND, "m": 60 * _SECOND, "h": 3600 * _SECOND
}  # fmt: skip


class Pair:
    """A name and a value; `old` says that it was written without `=`; None is an argument without a default."""

    __slots__ = ("name", "old", "value")

    def __init__(self, name: str, value: str | None, *, old: bool = False) -> None:
        self.name = name
        self.value = value
        self.old = old


class Instruction:
    """One instruction of a stage: `keyword` in capitals, and where it stands."""

    __slots__ = ("keyword", "node")

    def __init__(self, node: Node) -> None:
        self.node = node
        self.keyword = node.keyword


class Arg(Instruction):
    """ARG name[=default] ..."""

    __slots__ = ("pairs",)

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self.pairs = []
        for word in node.arguments:
            name, equals, value = word.partition("=")
            if not name:
                raise DockerfileError("ARG names can not be blank", node=node, word=word)
            self.pairs.append(Pair(name, value if equals else None))


class Pairs(Instruction):
    """ENV and LABEL."""

    __slots__ = ("pairs",)

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self.pairs = []
        words = node.arguments
        for name, value, separator in zip(words[::3], words[1::3], words[2::3], strict=True):
            if not name:
                raise DockerfileError(f"{node.keyword} names can not be blank", node=node)
            self.pairs.append(Pair(name, value, old=separator == ""))


class Copy(Instruction):
    """COPY and ADD: `sources` are paths, `inline` here-documents that are files to be made."""

    __slots__ = (
        "checksum", "chmod", "chown", "destination", "exclude", "inline", "keep_git_dir", "link", "parents", "source",
        "sources", "unpack",
    )  # fmt: skip

    def __init__(self, node: Node, flags: dict[str, Any]) -> None:
        super().__init__(node)
        if len(node.arguments) < 2:
            error = f"{node.keyword} requires at least two arguments"
            if node.arguments:
                error += ", but only one was provided. Destination could not be determined"
            raise DockerfileError(error, node=node, hint=f"{node.keyword} SOURCE... DESTINATION")
        *sources, self.destination = node.arguments
        if node.heredocs and parse_heredoc(self.destination):
            raise DockerfileError(
                f"{node.keyword} cannot accept a heredoc as a destination", node=node, word=self.destination
            )
        names = {heredoc.name: heredoc for heredoc in node.heredocs}
        self.sources: list[str] = []
        self.inline: list[Heredoc] = []
        for word in sources:
            found = parse_heredoc(word) if names else None
            if found and found.name in names:
                self.inline.append(names[found.name])
            else:
                self.sources.append(word)
        self.source: str = flags.get("from", "")
        """`--from`: a stage, an image or a named context."""
        self.chown: str = flags.get("chown", "")
        self.chmod: str = flags.get("chmod", "")
        self.link: bool = flags.get("link", False)
        self.parents: bool = flags.get("parents", False)
        self.exclude: list[str] = flags.get("exclude", [])
        self.checksum: str = flags.get("checksum", "")
        self.keep_git_dir: bool | None = flags.get("keep-git-dir")
        self.unpack: bool | None = flags.get("unpack")


class Command(Instruction):
    """CMD and ENTRYPOINT, and the command of RUN: words, or with `shell` one line for the shell."""

    __slots__ = ("shell", "words")

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self.words = node.arguments
        self.shell = not node.json


class Run(Command):
    """RUN."""

    __slots__ = ("devices", "mount_texts", "network", "security")

    def __init__(self, node: Node, flags: dict[str, Any]) -> None:
        super().__init__(node)
        self.mount_texts: list[str] = flags.get("mount", [])
        self.network: str = flags.get("network", "default").lower() or "default"
        if self.network not in NETWORKS:
            raise DockerfileError(
                f'invalid network mode "{flags["network"]}"', node=node, word=flags["network"],
                hint="one of default, none, host",
            )  # fmt: skip
        self.security: str = flags.get("security", "sandbox")
        if self.security not in ("sandbox", "insecure"):
            raise DockerfileError(f'security "{self.security}" is not valid', node=node, hint="sandbox is the default")
        self.devices: list[str] = flags.get("device", [])
        for device in self.devices:
            for field in device.split(",")[1:]:
                if "=" not in field and field != "required":
                    raise DockerfileError(f"invalid field '{field}' must be a key=value pair", node=node, word=field)
        for text in self.mount_texts:
            for field in text.split(","):
                key, _, value = field.partition("=")
                if key.lower() == "from" and "$" in value:
                    raise DockerfileError(
                        "'from' doesn't support variable expansion, define alias stage instead", node=node, word=field
                    )

    def check_mounts(self) -> None:
        """Refuse what is wrong whatever variables are, before the steps above are made. Raises DockerfileError."""
        for text in self.mount_texts:
            if "$" not in text:
                mounts.parse(text, self.node, str)


class Words(Instruction):
    """EXPOSE, VOLUME and SHELL: a list of words."""

    __slots__ = ("words",)

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self.words = sorted(node.arguments) if node.keyword == "EXPOSE" else node.arguments


class Text(Instruction):
    """WORKDIR, USER, STOPSIGNAL and MAINTAINER: the rest of the line."""

    __slots__ = ("text",)

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self.text = node.arguments[0]


class Onbuild(Instruction):
    """ONBUILD: the text of an instruction for the images that will be built from this one."""

    __slots__ = ("trigger",)

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self.trigger = node.arguments[0]


class Healthcheck(Instruction):
    """HEALTHCHECK: `document` is what the image configuration has for it."""

    __slots__ = ("document",)

    def __init__(self, node: Node, flags: dict[str, Any]) -> None:
        super().__init__(node)
        kind, *words = node.arguments
        if kind.upper() == "NONE":
            if words and words != [""]:
                raise DockerfileError("HEALTHCHECK NONE takes no arguments", node=node)
            self.document: dict[str, Any] = {"Test": ["NONE"]}
            return
        if kind.upper() != "CMD":
            raise DockerfileError(f'Unknown type "{kind.upper()}" in HEALTHCHECK (try CMD)', node=node, word=kind)
        if not words or words == [""]:
            raise DockerfileError("Missing command after HEALTHCHECK CMD", node=node)
        self.document = {"Test": ["CMD" if node.json else "CMD-SHELL", *words]}
        for flag, key in (
            ("interval", "Interval"), ("timeout", "Timeout"), ("start-period", "StartPeriod"),
            ("start-interval", "StartInterval"),
        ):  # fmt: skip
            if flag in flags and (span := self._span(flag, flags[flag])):
                self.document[key] = span
        if retries := flags.get("retries"):
            if not retries.lstrip("-").isdigit():
                raise DockerfileError(f"--retries is not a number: {retries}", node=node, word=retries)
            if int(retries) < 0:
                raise DockerfileError(f"--retries cannot be negative ({retries})", node=node, word=retries)
            if int(retries):
                self.document["Retries"] = int(retries)

    def _span(self, flag: str, text: str) -> int:
        try:
            span = nanoseconds(text)
        except ValueError as error:
            raise DockerfileError(f'invalid duration "{text}" for --{flag}', node=self.node, word=text) from error
        if 0 < span < 1_000_000 or span < 0:
            raise DockerfileError(f'Interval "{flag}" cannot be less than 1ms', node=self.node, word=text)
        return span


class Stage:
    """What stands between one FROM and the next; `number` counts from 0."""

    __slots__ = ("base", "instructions", "name", "node", "number", "platform")

    def __init__(self, node: Node, number: int, flags: dict[str, Any]) -> None:
        words = node.arguments
        if len(words) not in (1, 3) or (len(words) == 3 and words[1].upper() != "AS"):
            raise DockerfileError(
                "FROM requires either one or three arguments",
                node=node,
                hint="FROM [--platform=PLATFORM] IMAGE [AS NAME]",
            )
        self.node = node
        self.number = number
        self.base = words[0]
        self.name = words[2].lower() if len(words) == 3 else ""
        self.platform: str = flags.get("platform", "")
        self.instructions: list[Instruction] = []
        if self.name and not (self.name[0].isalpha() and all(c.isalnum() or c in "-_." for c in self.name)):
            raise DockerfileError(
                f'invalid name for build stage: "{words[2]}", name can\'t start with a number or contain symbols',
                node=node, word=words[2],
            )  # fmt: skip


class Program:
    """A whole Dockerfile: the ARGs before the first FROM, and the stages."""

    __slots__ = ("arguments", "dockerfile", "stages")

    def __init__(self, dockerfile: Dockerfile) -> None:
        self.dockerfile = dockerfile
        self.arguments: list[Arg] = []
        self.stages: list[Stage] = []


def read(dockerfile: Dockerfile) -> Program:
    """The typed instructions of a parsed Dockerfile. Raises DockerfileError."""
    program = Program(dockerfile)
    for node in dockerfile.nodes:
        if node.keyword == "FROM":
            program.stages.append(Stage(node, len(program.stages), _flags(node)))
            continue
        instruction = instruction_of(node, dockerfile.escape)
        if program.stages:
            program.stages[-1].instructions.append(instruction)
        elif isinstance(instruction, Arg):
            program.arguments.append(instruction)
        else:
            raise DockerfileError(
                "no build stage in current context",
                node=node,
                hint="a Dockerfile begins with FROM; only ARG may precede",
            )
    return program


def instruction_of(node: Node, escape: str) -> Instruction:
    """The typed instruction of one node. Raises DockerfileError."""
    keyword = node.keyword
    if keyword not in KEYWORDS:
        raise _unknown_instruction(node)
    flags = _flags(node)
    count = len(node.arguments)
    if keyword in _EXACTLY_ONE and count != 1:
        raise DockerfileError(f"{keyword} requires exactly one argument", node=node)
    if keyword in _AT_LEAST_ONE and not count:
        raise DockerfileError(f"{keyword} requires at least one argument", node=node)
    if keyword == "SHELL" and not node.json:
        raise DockerfileError(
            "SHELL requires the arguments to be in JSON form", node=node, hint='SHELL ["/bin/bash", "-c"]'
        )
    if keyword == "ONBUILD":
        _check_trigger(node, escape)
    simple = _SIMPLE.get(keyword)
    return simple(node) if simple else _FLAGGED[keyword](node, flags)


_SIMPLE: dict[str, Callable[[Node], Instruction]] = {
    "ARG": Arg, "ENV": Pairs, "LABEL": Pairs, "CMD": Command, "ENTRYPOINT": Command, "EXPOSE": Words, "VOLUME": Words,
    "SHELL": Words, "WORKDIR": Text, "USER": Text, "STOPSIGNAL": Text, "MAINTAINER": Text, "ONBUILD": Onbuild,
}  # fmt: skip
_FLAGGED: dict[str, Callable[[Node, dict[str, Any]], Instruction]] = {
    "ADD": Copy, "COPY": Copy, "RUN": Run, "HEALTHCHECK": Healthcheck
}  # fmt: skip


def _check_trigger(node: Node, escape: str) -> None:
    keyword = node.arguments[0].split(None, 1)[0].upper()
    if keyword == "ONBUILD":
        raise DockerfileError("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed", node=node)
    if keyword in _NO_TRIGGERS:
        raise DockerfileError(f"{keyword} isn't allowed as an ONBUILD trigger", node=node, word=keyword)
    parse_line(node.arguments[0], node, escape)


def _unknown_instruction(node: Node) -> DockerfileError:
    hint = "the instructions are " + " ".join(KEYWORDS)
    if close := _close(node.keyword, KEYWORDS):
        hint = f"did you mean {close}?"
    return DockerfileError(f"unknown instruction: {node.written}", node=node, word=node.written, hint=hint)


def _close(word: str, known: list[str]) -> str:
    from difflib import get_close_matches

    return next(iter(get_close_matches(word, known, 1, 0.5)), "")


def _flags(node: Node) -> dict[str, Any]:
    """The values of the flags. Raises DockerfileError for one that the instruction does not have."""
    allowed = _FLAGS.get(node.keyword, {})
    result: dict[str, Any] = {}
    for flag in node.flags:
        name, equals, value = flag[2:].partition("=")
        kind = allowed.get(name)
        if kind is None:
            close = _close(name, list(allowed))
            hint = f"did you mean --{close}?" if close else f"{node.keyword} has no such flag"
            raise DockerfileError(f"unknown flag: --{name}", node=node, word=f"--{name}", hint=hint)
        if kind == _BOOLEAN:
            if value.lower() not in ("", "true", "false"):
                raise DockerfileError(f"expecting boolean value for flag --{name}, not: {value}", node=node, word=flag)
            parsed: Any = value.lower() != "false"
        elif not equals:
            raise DockerfileError(f"missing a value on flag: --{name}", node=node, word=flag)
        elif kind == _LIST:
            result.setdefault(name, []).append(value)
            continue
        else:
            parsed = value
        if name in result:
            raise DockerfileError(f"duplicate flag specified: --{name}", node=node, word=flag)
        result[name] = parsed
    return result


def nanoseconds(text: str) -> int:
    """A duration such as `1m30s` or `1.5h`. Raises ValueError."""
    if text in ("0", "+0", "-0"):
        return 0
    rest, total = text.lstrip("+-"), 0.0
    if not rest:
        raise ValueError(text)
    while rest:
        cut = next((index for index, letter in enumerate(rest) if letter not in "0123456789."), len(rest))
        end = next((index for index in range(cut, len(rest)) if rest[index] in "0123456789."), len(rest))
        total += float(rest[:cut]) * _UNITS[rest[cut:end]] if rest[cut:end] in _UNITS else _no_unit(text)
        rest = rest[end:]
    return int(-total if text.startswith("-") else total)


def _no_unit(text: str) -> float:
    raise ValueError(text)
