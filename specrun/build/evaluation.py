"""What a stage's instructions come to, without running any: variables expanded, the configuration after each step.

Pure: the base image's configuration, build arguments and platform are arguments. The texts of `created_by` are
those of BuildKit's Dockerfile front end, because tools read them.
"""

from __future__ import annotations

import posixpath

from specrun.build import mounts
from specrun.build.errors import DockerfileError
from specrun.build.expansion import ExpansionError, Lexer
from specrun.build.instructions import (
    Arg,
    Command,
    Copy,
    Healthcheck,
    Instruction,
    Onbuild,
    Pairs,
    Run,
    Text,
    Words,
    instruction_of,
)  # fmt: skip
from specrun.build.parser import parse_line
from specrun_runtime import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from specrun.build.instructions import Program, Stage
    from specrun.build.parser import Node

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PROXIES = frozenset(
    name
    for lower in ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
    for name in (lower, lower.upper())
)
"""Arguments that need no ARG and stand in no history."""
PIPES = "/dev/pipes"
"""Where a here-document of RUN that begins with `#!` is found, and run as a program."""
SHELL = ["/bin/sh", "-c"]


class Step:
    """One instruction with all its words expanded; `config` is the image configuration's `config` after it."""

    __slots__ = (
        "argv", "arguments", "chmod", "chown", "config", "created_by", "destination", "environment", "exclude", "files",
        "instruction", "kind", "mounts", "sources", "workdir",
    )  # fmt: skip

    def __init__(self, instruction: Instruction) -> None:
        self.instruction = instruction
        self.kind = "meta"
        """What has to be done: "meta" (nothing), "run", "copy" or "workdir"."""
        self.created_by = ""
        self.config: dict[str, Any] = {}
        self.argv: list[str] = []
        self.environment: list[str] = []
        self.arguments: list[str] = []
        """`name=value` of every declared argument, as they were declared."""
        self.mounts: list[mounts.Mount] = []
        self.workdir = "/"
        self.sources: list[str] = []
        self.files: list[tuple[str, str]] = []
        """Name and content of files that the Dockerfile itself holds."""
        self.destination = ""
        self.chown = ""
        self.chmod = ""
        self.exclude: list[str] = []

    @property
    def node(self) -> Node:
        """Where it was written."""
        return self.instruction.node

    @property
    def empty(self) -> bool:
        """Whether the step makes no layer."""
        return self.kind == "meta"


class Platform:
    """What the image is for: `linux/amd64`, `linux/arm/v7`."""

    __slots__ = ("architecture", "os", "variant")

    def __init__(self, text: str) -> None:
        self.os, _, rest = text.partition("/")
        self.architecture, _, self.variant = rest.partition("/")

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    def arguments(self, prefix: str) -> dict[str, str]:
        """The automatic arguments that begin with TARGET or BUILD."""
        return {
            f"{prefix}PLATFORM": str(self),
            f"{prefix}OS": self.os,
            f"{prefix}OSVERSION": "",
            f"{prefix}ARCH": self.architecture,
            f"{prefix}VARIANT": self.variant,
        }


class Scope:
    """The arguments of a build: what was given, what the platforms are, and what the global ARGs say."""

    def __init__(
        self, program: Program, given: Mapping[str, str], target: Platform, build: Platform, stage: str = "default"
    ) -> None:
        self.given = given
        self.escape = program.dockerfile.escape
        self.automatic = {**build.arguments("BUILD"), **target.arguments("TARGET"), "TARGETSTAGE": stage}
        self.globals: dict[str, str] = {}
        self.declared: set[str] = set()
        """Every name that an ARG of the file has, for the warning about arguments that nothing consumes."""
        self.unset_in_from: list[tuple[Node, str]] = []
        for instruction in program.arguments:
            for pair in instruction.pairs:
                self.declared.add(pair.name)
                value = given.get(pair.name)
                if value is None and pair.value is not None:
                    value = self.expand(pair.value, {**self.automatic, **self.globals}, instruction.node)
                if value is not None:
                    self.globals[pair.name] = value
        self.epoch = given.get("SOURCE_DATE_EPOCH", self.globals.get("SOURCE_DATE_EPOCH", ""))
        """SOURCE_DATE_EPOCH in seconds, or ""."""
        if self.epoch and not (self.epoch.isascii() and self.epoch.isdigit()):
            raise DockerfileError(f"invalid SOURCE_DATE_EPOCH: {self.epoch}", hint="seconds since 1970, as digits")

    def expand(self, text: str, env: Mapping[str, str], node: Node) -> str:
        """`text` with variables replaced; a mistake gets the node's place."""
        try:
            return Lexer(self.escape).word(text, env)
        except ExpansionError as error:
            raise DockerfileError(f'failed to process "{text}": {error.message}', node=node, word=text) from error

    def base_of(self, stage: Stage) -> str:
        """The name of the stage's base. Raises DockerfileError when nothing is left of it."""
        name = self.expand(stage.base, {**self.automatic, **self.globals}, stage.node)
        if not name:
            raise DockerfileError(
                f"base name ({stage.base}) should not be blank", node=stage.node, word=stage.base,
                hint="give the argument a default: ARG NAME=VALUE before FROM",
            )  # fmt: skip
        return name

    def platform_of(self, stage: Stage) -> str:
        """The platform that the stage's FROM asks for; "" when it asks for none."""
        if not stage.platform:
            return ""
        found = self.expand(stage.platform, {**self.automatic, **self.globals}, stage.node)
        if not found:
            raise DockerfileError(
                f"empty platform value from expression {stage.platform}", node=stage.node, word=stage.platform
            )
        return found


class Evaluator:
    """Goes through the instructions of one stage; `step` gives what each comes to."""

    def __init__(self, scope: Scope, config: dict[str, Any], *, scratch: bool = False) -> None:
        self.scope = scope
        self.config = _copied(config)
        self.config.pop("OnBuild", None)
        if scratch:
            self.config.setdefault("WorkingDir", "/")
        if not any(entry.startswith("PATH=") for entry in self.config.get("Env") or []):
            self.config["Env"] = [PATH, *(self.config.get("Env") or [])]
        self.arguments: dict[str, str | None] = {}
        self.author = ""
        self.command_set = False
        self.unset: list[tuple[Node, str]] = []
        """Variables that were used and that nothing sets."""

    @property
    def environment(self) -> dict[str, str]:
        """What `$name` means now: arguments, and over them the image's own environment."""
        known = {name: value for name, value in self.arguments.items() if value is not None}
        for entry in self.config.get("Env") or []:
            name, _, value = entry.partition("=")
            known[name] = value
        return known

    def triggers(self, config: dict[str, Any], node: Node) -> list[Instruction]:
        """The instructions that the base image's ONBUILD left for this build; they have the place of its FROM."""
        return [
            instruction_of(parse_line(text, node, self.scope.escape), self.scope.escape)
            for text in config.get("OnBuild") or []
        ]

    def step(self, instruction: Instruction) -> Step:
        """Evaluate one instruction. Raises DockerfileError."""
        step = Step(instruction)
        step.workdir = self.config.get("WorkingDir") or "/"
        known = self.environment
        step.arguments = [f"{name}={known.get(name, '')}" for name in self.arguments]
        step.created_by = getattr(self, f"_{instruction.keyword.lower()}")(instruction, step)
        step.environment = self._run_environment()
        step.config = _copied(self.config)
        return step

    def _run_environment(self) -> list[str]:
        env = {f"{name}={value}" for name, value in self.scope.given.items() if name in PROXIES}
        own = [entry.partition("=")[0] for entry in self.config.get("Env") or []]
        known = [f"{name}={value}" for name, value in self.arguments.items() if value is not None and name not in own]
        return [*sorted(env), *known, *(self.config.get("Env") or [])]

    def _expand(self, text: str, node: Node) -> str:
        lexer = Lexer(self.scope.escape)
        try:
            result = lexer.word(text, self.environment)
        except ExpansionError as error:
            raise DockerfileError(f'failed to process "{text}": {error.message}', node=node, word=text) from error
        self.unset += [(node, name) for name in sorted(lexer.unset)]
        return result

    def _expand_words(self, texts: list[str], node: Node) -> list[str]:
        try:
            return [word for text in texts for word in Lexer(self.scope.escape).words(text, self.environment)]
        except ExpansionError as error:
            raise DockerfileError(error.message, node=node) from error

    def _arg(self, instruction: Arg, _: Step) -> str:
        words = []
        for pair in instruction.pairs:
            name = self._expand(pair.name, instruction.node)
            self.scope.declared.add(name)
            default = self._expand(pair.value, instruction.node) if pair.value is not None else None
            value = self.scope.given.get(name)
            if value is None:
                value = default
            if value is None:
                value = self.scope.globals.get(name, self.scope.automatic.get(name))
            self.arguments[name] = value
            words.append(name if value is None else f"{name}={value}")
        return f"ARG {' '.join(words)}"

    def _env(self, instruction: Pairs, _: Step) -> str:
        known = self.environment  # all words of one instruction see the values from before it
        entries: dict[str, str] = {e.partition("=")[0]: e for e in self.config.get("Env") or []}
        words = []
        for pair in instruction.pairs:
            name, value = self._pair(pair.name, pair.value or "", known, instruction.node)
            entries[name] = f"{name}={value}"
            words.append(entries[name])
        self.config["Env"] = list(entries.values())
        return f"ENV {' '.join(words)}"

    def _pair(self, name: str, value: str, known: Mapping[str, str], node: Node) -> tuple[str, str]:
        result = []
        for text in (name, value):
            lexer = Lexer(self.scope.escape)
            try:
                result.append(lexer.word(text, known))
            except ExpansionError as error:
                raise DockerfileError(f'failed to process "{text}": {error.message}', node=node, word=text) from error
            self.unset += [(node, missing) for missing in sorted(lexer.unset)]
        return result[0], result[1]

    def _label(self, instruction: Pairs, _: Step) -> str:
        known, words = self.environment, []
        labels = dict(self.config.get("Labels") or {})
        for pair in instruction.pairs:
            name, value = self._pair(pair.name, pair.value or "", known, instruction.node)
            labels[name] = value
            words.append(f"{name}={value}")
        self.config["Labels"] = labels
        return f"LABEL {' '.join(words)}"

    def _maintainer(self, instruction: Text, _: Step) -> str:
        self.author = instruction.text
        return f"MAINTAINER {instruction.text}"

    def _workdir(self, instruction: Text, step: Step) -> str:
        path = self._expand(instruction.text, instruction.node)
        joined = posixpath.normpath(posixpath.join("/", self.config.get("WorkingDir") or "", path))
        self.config["WorkingDir"] = "/" + joined.lstrip("/")
        step.destination = self.config["WorkingDir"]
        step.kind = "meta" if step.destination == "/" else "workdir"
        return f"WORKDIR {step.destination}"

    def _user(self, instruction: Text, _: Step) -> str:
        self.config["User"] = self._expand(instruction.text, instruction.node)
        if not self.config["User"]:
            del self.config["User"]
        return f"USER {self.config.get('User', '')}"

    def _stopsignal(self, instruction: Text, _: Step) -> str:
        name = self._expand(instruction.text, instruction.node)
        from specrun.engine.signals import signal_number
        from specrun.errors import SpecrunError

        try:
            signal_number(name)
        except SpecrunError as error:
            raise DockerfileError(
                f"invalid signal: {name}", node=instruction.node, word=instruction.text, hint="such as SIGTERM or 15"
            ) from error
        self.config["StopSignal"] = name
        return f"STOPSIGNAL {name}"

    def _expose(self, instruction: Words, _: Step) -> str:
        ports = []
        for word in self._expand_words(instruction.words, instruction.node):
            ports += _ports(word, instruction.node)
        self.config["ExposedPorts"] = dict.fromkeys(sorted({*(self.config.get("ExposedPorts") or {}), *ports}), {})
        for port in ports:
            self.config["ExposedPorts"][port] = {}
        return f"EXPOSE [{' '.join(ports)}]"

    def _volume(self, instruction: Words, _: Step) -> str:
        words = [self._expand(word, instruction.node) for word in instruction.words]
        if any(not word for word in words):
            raise DockerfileError("VOLUME specified can not be an empty string", node=instruction.node)
        self.config["Volumes"] = {**(self.config.get("Volumes") or {}), **{word: {} for word in words}}
        return f"VOLUME [{' '.join(words)}]"

    def _shell(self, instruction: Words, _: Step) -> str:
        self.config["Shell"] = list(instruction.words)
        return f"SHELL [{' '.join(instruction.words)}]"

    def _cmd(self, instruction: Command, _: Step) -> str:
        self.config["Cmd"] = self._argv(instruction)
        self.command_set = True
        return f"CMD {_quoted(self.config['Cmd'])}"

    def _entrypoint(self, instruction: Command, _: Step) -> str:
        self.config["Entrypoint"] = self._argv(instruction)
        if not self.command_set:
            self.config.pop("Cmd", None)  # a base image's command was meant for its own entrypoint
        return f"ENTRYPOINT {_quoted(self.config['Entrypoint'])}"

    def _argv(self, instruction: Command) -> list[str]:
        if not instruction.shell:
            return list(instruction.words)
        return [*(self.config.get("Shell") or SHELL), *(instruction.words or [""])]

    def _healthcheck(self, instruction: Healthcheck, _: Step) -> str:
        self.config["Healthcheck"] = instruction.document
        spans = " ".join(
            f"{key}:{_go_duration(instruction.document.get(key, 0))}"
            for key in ("Interval", "Timeout", "StartPeriod", "StartInterval")
        )
        test = " ".join(instruction.document["Test"])
        return f"HEALTHCHECK {{Test:[{test}] {spans} Retries:{instruction.document.get('Retries', 0)}}}"

    def _onbuild(self, instruction: Onbuild, _: Step) -> str:
        self.config["OnBuild"] = [*(self.config.get("OnBuild") or []), instruction.trigger]
        return ""

    def _run(self, instruction: Run, step: Step) -> str:
        step.kind = "run"
        if instruction.devices:
            raise DockerfileError("RUN --device is not supported", node=instruction.node, hint="mount what is needed")
        if instruction.security == "insecure":
            raise DockerfileError(
                "RUN --security=insecure is not allowed", node=instruction.node, word="--security=insecure",
                hint="a build step never has more rights than `specrun run`",
            )  # fmt: skip
        step.mounts = [
            mounts.parse(text, instruction.node, lambda value: self._expand(value, instruction.node))
            for text in instruction.mount_texts
        ]
        words = list(instruction.words)
        if instruction.shell:
            words = words or [""]
        if instruction.node.heredocs and instruction.shell:
            text = _with_heredocs(instruction)
            if text.startswith("#!"):
                step.files = [(instruction.node.heredocs[0].name, text)]
                text = f"{PIPES}/{instruction.node.heredocs[0].name}"
            words = [text]
        step.argv = [*(self.config.get("Shell") or SHELL), *words] if instruction.shell else words
        if not step.argv:
            raise DockerfileError("RUN without a command", node=instruction.node)
        shown = " ".join(step.argv)
        if step.arguments:
            shown = f"|{len(step.arguments)} {' '.join(step.arguments)} {shown}"
        return f"RUN {shown} # buildkit"

    def _copy(self, instruction: Copy, step: Step) -> str:
        node = instruction.node
        step.kind = "copy"
        if "$" in instruction.source:
            raise DockerfileError(
                "variable expansion is not supported for --from", node=node, word=instruction.source,
                hint="define a new stage with FROM, using an ARG from before the first FROM",
            )  # fmt: skip
        step.sources = [self._expand(word, node) for word in instruction.sources]
        step.destination = self._expand(instruction.destination, node)
        step.chown = self._expand(instruction.chown, node)
        step.chmod = self._expand(instruction.chmod, node)
        step.exclude = [self._expand(word, node) for word in instruction.exclude]
        if step.chmod:
            _check_mode(step.chmod, node)
        for heredoc in instruction.inline:
            text = heredoc.text
            if heredoc.expand:
                try:
                    text = Lexer(self.scope.escape, raw_quotes=True).word(text, self.environment)
                except ExpansionError as error:
                    raise DockerfileError(error.message, node=node) from error
            step.files.append((heredoc.name, text))
        if instruction.checksum and not all(is_url(source) or is_git(source) for source in step.sources):
            raise DockerfileError("checksum requires HTTP(S) or Git sources", node=node, word="--checksum")
        if node.keyword == "COPY" and any(is_url(source) for source in step.sources):
            raise DockerfileError("source can't be a URL for COPY", node=node, hint="use ADD")
        shown = ["--parents"] if instruction.parents else []
        if step.chown:
            shown.append(f"--chown={step.chown}")
        if step.chmod:
            shown.append(f"--chmod={step.chmod}")
        shown += [*step.sources, *(f"<<{name}" for name, _ in step.files), step.destination]
        return f"{node.keyword} {' '.join(shown)} # buildkit"

    _add = _copy


def _copied(value: Any) -> Any:
    """A copy of what JSON has a form of."""
    if isinstance(value, dict):
        return {key: _copied(inner) for key, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, list) else value


def is_url(text: str) -> bool:
    """Whether ADD fetches it."""
    return text.startswith(("http://", "https://"))


def is_git(text: str) -> bool:
    """Whether ADD clones it: `git://`, `git@host:`, `ssh://`, or a web address whose path ends with `.git`."""
    if text.startswith(("git://", "git@", "ssh://")):
        return True
    return is_url(text) and text.partition("#")[0].partition("?")[0].endswith(".git")


def _check_mode(text: str, node: Node) -> None:
    if text[0].isdigit():
        if not all(letter in "01234567" for letter in text) or int(text, 8) > 0o7777:
            raise DockerfileError(
                f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777",
                node=node, word=text,
            )  # fmt: skip
        return
    from specrun.build.modes import ModeError, parse

    try:
        parse(text)
    except ModeError as error:
        raise DockerfileError(f"invalid chmod parameter: '{text}'. {error}", node=node, word=text) from error


def _with_heredocs(instruction: Run) -> str:
    """The text for the shell. A lone here-document is the script itself, else the shell reads it as its own."""
    heredocs = instruction.node.heredocs
    command = instruction.words[0] if instruction.words else ""
    if len(heredocs) == 1 and command.replace(" ", "").strip("'\"").lstrip("<-").strip("'\"") == heredocs[0].name:
        return heredocs[0].text
    parts = [command]
    for heredoc in heredocs:
        parts.append(f"\n{heredoc.content}{heredoc.name}")
    return "".join(parts)


def _ports(word: str, node: Node) -> list[str]:
    """`80/tcp` of `80`, `8000-8002/udp`, or the container's part of `8080:80`."""
    number, _, protocol = word.rpartition("/") if "/" in word else (word, "", "tcp")
    protocol = protocol.lower() or "tcp"
    number = number.rpartition(":")[2]
    first, _, last = number.partition("-")
    good = all(part.isascii() and part.isdigit() and int(part) <= 65535 for part in (first, last or first))
    if not good or protocol not in ("tcp", "udp", "sctp") or (last and int(last) < int(first)):
        raise DockerfileError(
            f"invalid containerPort: {word}", node=node, word=word, hint="a port such as 80, 80/udp or 8000-8010"
        )
    return [f"{port}/{protocol}" for port in range(int(first), int(last or first) + 1)]


def _quoted(words: list[str]) -> str:
    return f"[{' '.join(_as_json(word) for word in words)}]"


def _as_json(word: str) -> str:
    if word.isascii():
        return jsontext.dumps(word)
    import json

    return json.dumps(word, ensure_ascii=False)


def _go_duration(span: int) -> str:
    if span == 0:
        return "0s"
    if span < 1_000_000_000:
        return f"{span / 1_000_000:g}ms"
    seconds = span / 1_000_000_000
    hours, minutes = int(seconds // 3600), int(seconds % 3600 // 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{seconds % 60:g}s"
