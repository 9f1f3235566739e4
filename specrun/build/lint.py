"""The checks of `build --check`: BuildKit's rules as declared values, each with a section in docs/build-checks.md."""

from __future__ import annotations

import os

from specrun.build.evaluation import Evaluator, Platform, Scope
from specrun.build.expansion import ExpansionError, Lexer
from specrun.build.instructions import Arg, Command, Copy, Pairs, Stage, Text, Words
from specrun.build.stages import Graph
from specrun.errors import SpecrunError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from specrun.build.ignore import Patterns
    from specrun.build.instructions import Instruction, Program
    from specrun.build.parser import Node
    from specrun.build.request import BuildRequest


class Rule:
    """One check: its name, what it says in general, and whether it must be asked for."""

    __slots__ = ("experimental", "name", "summary")

    def __init__(self, name: str, summary: str, *, experimental: bool = False) -> None:
        self.name = name
        self.summary = summary
        self.experimental = experimental


class Warning:
    """A rule that a line breaks."""

    __slots__ = ("detail", "line", "rule")

    def __init__(self, rule: Rule, detail: str, line: int) -> None:
        self.rule = rule
        self.detail = detail
        self.line = line


STAGE_NAME_CASING = Rule("StageNameCasing", "Stage names should be lowercase")
FROM_AS_CASING = Rule("FromAsCasing", "The 'as' keyword should match the case of the 'from' keyword")
NO_EMPTY_CONTINUATION = Rule("NoEmptyContinuation", "Empty continuation lines will become errors in a future release")
INSTRUCTION_CASING = Rule(
    "ConsistentInstructionCasing", "All instructions of a Dockerfile should be in the same case, upper or lower"
)
DUPLICATE_STAGE_NAME = Rule("DuplicateStageName", "Stage names should be unique")
RESERVED_STAGE_NAME = Rule("ReservedStageName", "Reserved words should not be used as stage names")
JSON_ARGS = Rule(
    "JSONArgsRecommended", "JSON arguments keep a shell from standing between CMD or ENTRYPOINT and signals"
)
MAINTAINER = Rule("MaintainerDeprecated", "MAINTAINER is deprecated, use a label to name an image's author")
UNDEFINED_ARG_IN_FROM = Rule("UndefinedArgInFrom", "FROM must use declared ARGs")
WORKDIR_RELATIVE = Rule(
    "WorkdirRelativePath", "A relative WORKDIR without an absolute one before it depends on the base image"
)
UNDEFINED_VAR = Rule("UndefinedVar", "Variables should be defined before their use")
MULTIPLE_INSTRUCTIONS = Rule(
    "MultipleInstructionsDisallowed", "Of several CMD, ENTRYPOINT or HEALTHCHECK in one stage only the last counts"
)
LEGACY_KEY_VALUE = Rule("LegacyKeyValueFormat", "The old form with a blank between key and value should not be used")
REDUNDANT_PLATFORM = Rule("RedundantTargetPlatform", "FROM --platform=$TARGETPLATFORM says what is the default")
SECRETS = Rule("SecretsUsedInArgOrEnv", "Sensitive data should not be in ARG or ENV, which images keep")
INVALID_DEFAULT_ARG = Rule(
    "InvalidDefaultArgInFrom", "The default of a global ARG should give a valid name of a base image"
)
PLATFORM_CONSTANT = Rule("FromPlatformFlagConstDisallowed", "FROM --platform should not be a constant")
COPY_IGNORED = Rule("CopyIgnoredFile", "A file that .dockerignore excludes cannot be copied")
DEFINITION_DESCRIPTION = Rule(
    "InvalidDefinitionDescription", "A comment above ARG or FROM should be `# <name> <description>`", experimental=True
)
EXPOSE_CASING = Rule("ExposeProtoCasing", "The protocol of EXPOSE should be lowercase")
EXPOSE_FORMAT = Rule("ExposeInvalidFormat", "EXPOSE takes no address and no port of the host")
BASE_PLATFORM = Rule("InvalidBaseImagePlatform", "The base image should be of the platform that is built for")
RULES = (
    STAGE_NAME_CASING, FROM_AS_CASING, NO_EMPTY_CONTINUATION, INSTRUCTION_CASING, DUPLICATE_STAGE_NAME,
    RESERVED_STAGE_NAME, JSON_ARGS, MAINTAINER, UNDEFINED_ARG_IN_FROM, WORKDIR_RELATIVE, UNDEFINED_VAR,
    MULTIPLE_INSTRUCTIONS, LEGACY_KEY_VALUE, REDUNDANT_PLATFORM, SECRETS, INVALID_DEFAULT_ARG, PLATFORM_CONSTANT,
    COPY_IGNORED, DEFINITION_DESCRIPTION, EXPOSE_CASING, EXPOSE_FORMAT, BASE_PLATFORM,
)  # fmt: skip

_RESERVED = ("scratch", "context")
_SECRET_WORDS = ("apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token")
_CHECK = "BUILDKIT_DOCKERFILE_CHECK"


class Options:
    """`# check=skip=A,B;error=true;experimental=C` of a Dockerfile, or the build argument that overrides it."""

    __slots__ = ("error", "experimental", "skip")

    def __init__(self, text: str) -> None:
        fields = dict(part.strip().partition("=")[::2] for part in text.split(";") if part.strip())
        self.skip = [name.strip().lower() for name in fields.get("skip", "").split(",")]
        self.experimental = [name.strip().lower() for name in fields.get("experimental", "").split(",")]
        self.error = fields.get("error", "").strip().lower() in ("true", "1")

    def wants(self, rule: Rule) -> bool:
        """Whether the rule's warnings are told."""
        name = rule.name.lower()
        if rule.experimental:
            return "all" in self.experimental or name in self.experimental
        return "all" not in self.skip and name not in self.skip


def check(
    program: Program, *, arguments: dict[str, str] | None = None, target: str = "", ignored: Patterns | None = None,
    base_config: Callable[[str], dict[str, Any]] = lambda _: {}, platform: str = "linux/amd64",
) -> list[Warning]:  # fmt: skip
    """All warnings about a Dockerfile, by line. Raises DockerfileError for what cannot be read at all."""
    given = arguments or {}
    options = Options(given.get(_CHECK) or program.dockerfile.directives.get("check", ""))
    found = list(_form(program))
    scope = Scope(program, given, Platform(platform), Platform(platform))
    found += _froms(program, scope)
    try:
        graph = Graph(program, scope)
        needed = graph.order(graph.target(target))
    except SpecrunError:
        needed = program.stages
        graph = None
    configs: dict[int, dict[str, Any]] = {}
    absolute: dict[int, bool] = {}
    for stage in needed:
        found += _Stage(program, scope, graph, stage, configs, absolute, ignored, base_config).run()
    skipped = _skipped(program)
    kept = (one for one in found if options.wants(one.rule) and not _has(skipped.get(one.line, []), one.rule))
    return sorted(kept, key=lambda one: one.line)


def _skipped(program: Program) -> dict[int, list[str]]:
    """The rules that a comment above an instruction turns off for it: `# check=skip=RULE // reason`."""
    result = {}
    for node in program.dockerfile.nodes:
        for comment in node.comments:
            if comment.replace(" ", "").startswith("check="):
                text = comment.partition("//")[0].partition("=")[2]
                result[node.line] = Options(text).skip
    return result


def _has(names: list[str], rule: Rule) -> bool:
    return "all" in names or rule.name.lower() in names


def is_error(program: Program, arguments: dict[str, str]) -> bool:
    """Whether the Dockerfile wants a build with warnings to fail (`# check=error=true`)."""
    text = arguments.get(_CHECK) or program.dockerfile.directives.get("check", "")
    return Options(text).error


def _form(program: Program) -> Iterator[Warning]:
    """What can be seen without a variable's value."""
    dockerfile = program.dockerfile
    for _, line in dockerfile.warnings:
        yield Warning(NO_EMPTY_CONTINUATION, "Empty continuation line", line)
    yield from _casing(dockerfile.nodes)
    names: set[str] = set()
    for stage in program.stages:
        words = stage.node.arguments
        if len(words) == 3:
            name = words[2]
            if name != name.lower():
                yield Warning(STAGE_NAME_CASING, f"Stage name '{name}' should be lowercase", stage.node.line)
            if _case(words[1]) != _case(stage.node.written) and _case(stage.node.written):
                detail = f"'{words[1]}' and '{stage.node.written}' keywords' casing do not match"
                yield Warning(FROM_AS_CASING, detail, stage.node.line)
            if stage.name in _RESERVED:
                detail = f'Stage name should not use the same name as reserved stage "{stage.name}"'
                yield Warning(RESERVED_STAGE_NAME, detail, stage.node.line)
            if stage.name in names:
                detail = f'Duplicate stage name "{name}", stage names should be unique'
                yield Warning(DUPLICATE_STAGE_NAME, detail, stage.node.line)
            names.add(stage.name)
        for instruction in stage.instructions:
            if instruction.keyword == "MAINTAINER":
                detail = "Maintainer instruction is deprecated in favor of using label"
                yield Warning(MAINTAINER, detail, instruction.node.line)
    yield from _descriptions(program)


def _descriptions(program: Program) -> Iterator[Warning]:
    for instruction in [*program.arguments, *(one for stage in program.stages for one in stage.instructions)]:
        if isinstance(instruction, Arg) and (text := instruction.node.description):
            names = [pair.name for pair in instruction.pairs]
            if not any(text.startswith(f"{name} ") for name in names):
                detail = f"Comment for ARG should follow the format: `# {names[0]} <description>`"
                if len(names) > 1:
                    detail = "Comment for ARG should follow the format: `# <arg_key> <description>`"
                yield Warning(DEFINITION_DESCRIPTION, detail, instruction.node.line)
    for stage in program.stages:
        text = stage.node.description
        if stage.name and text and not text.startswith(f"{stage.node.arguments[2]} "):
            detail = f"Comment for FROM should follow the format: `# {stage.node.arguments[2]} <description>`"
            yield Warning(DEFINITION_DESCRIPTION, detail, stage.node.line)


def _casing(nodes: list[Node]) -> Iterator[Warning]:
    cases = [_case(node.written) for node in nodes]
    lower, upper = cases.count("lower"), cases.count("upper")
    wanted = "lower" if lower > upper else "upper"
    for node, case in zip(nodes, cases, strict=True):
        if case != wanted:
            detail = f"Command '{node.written}' should match the case of the command majority ({wanted}case)"
            yield Warning(INSTRUCTION_CASING, detail, node.line)


def _case(word: str) -> str:
    return "lower" if word == word.lower() else "upper" if word == word.upper() else ""


def _froms(program: Program, scope: Scope) -> Iterator[Warning]:
    """The words of FROM: what they use, and what the defaults alone would make of them."""
    known = {**scope.automatic, **scope.globals}
    declared = {pair.name for instruction in program.arguments for pair in instruction.pairs}
    defaults = _defaults(program, scope)
    for stage in program.stages:
        line = stage.node.line
        for text in (stage.base, stage.platform):
            lexer = Lexer(scope.escape)
            try:
                lexer.word(text, known)
            except ExpansionError:
                continue
            for name in sorted(lexer.unset - declared):
                close = _close(name, [*declared, *scope.automatic])
                hint = f" (did you mean {close}?)" if close else ""
                yield Warning(UNDEFINED_ARG_IN_FROM, f"FROM argument '{name}' is not declared{hint}", line)
        if "$" in stage.base and not _is_reference(stage.base, defaults, scope.escape):
            detail = f"Default value for ARG {stage.base} results in empty or invalid base image name"
            yield Warning(INVALID_DEFAULT_ARG, detail, line)
        if not stage.platform:
            continue
        if "$" not in stage.platform:
            parts = Platform(stage.platform)
            if not (stage.name and (parts.os in stage.name or parts.architecture in stage.name)):
                detail = f'FROM --platform flag should not use constant value "{stage.platform}"'
                yield Warning(PLATFORM_CONSTANT, detail, line)
        elif stage.platform in ("$TARGETPLATFORM", "${TARGETPLATFORM}"):
            detail = (
                f"Setting platform to predefined {stage.platform} in FROM is redundant as this is the default behavior"
            )
            yield Warning(REDUNDANT_PLATFORM, detail, line)


def _defaults(program: Program, scope: Scope) -> dict[str, str]:
    """The global ARGs as they are when nothing is given."""
    known: dict[str, str] = dict(scope.automatic)
    for instruction in program.arguments:
        for pair in instruction.pairs:
            if pair.value is not None:
                try:
                    known[pair.name] = Lexer(scope.escape).word(pair.value, known)
                except ExpansionError:
                    continue
    return known


def _is_reference(text: str, known: dict[str, str], escape: str) -> bool:
    from specrun.oci.reference import Reference

    try:
        Reference.parse(Lexer(escape).word(text, known))
    except SpecrunError:
        return False
    return True


def _close(word: str, known: list[str]) -> str:
    from difflib import get_close_matches

    return next(iter(get_close_matches(word, known, 1, 0.7)), "")


class _Stage:
    """The checks of one stage that is built."""

    def __init__(
        self, program: Program, scope: Scope, graph: Graph | None, stage: Stage, configs: dict[int, dict[str, Any]],
        absolute: dict[int, bool], ignored: Patterns | None, base_config: Callable[[str], dict[str, Any]],
    ) -> None:  # fmt: skip
        self.scope = scope
        self.stage = stage
        self.configs = configs
        self.absolute = absolute
        self.ignored = ignored
        base = graph.bases[stage.number] if graph else stage.base
        above = graph.stage(base, stage.number) if graph else None
        if above is not None and above.number in configs:
            self.config, self.is_absolute = configs[above.number], absolute[above.number]
        else:
            self.config = {} if base == "scratch" else base_config(base)
            self.is_absolute = False
        self.evaluator = Evaluator(scope, self.config)

    def run(self) -> Iterator[Warning]:
        """All of them."""
        last: dict[str, Instruction] = {}
        for instruction in self.stage.instructions:
            keyword, node = instruction.keyword, instruction.node
            if keyword in ("CMD", "ENTRYPOINT", "HEALTHCHECK"):
                if keyword in last:
                    detail = (
                        f"Multiple {keyword} instructions should not be used in the same stage because only the last "
                        "one will be used"
                    )
                    yield Warning(MULTIPLE_INSTRUCTIONS, detail, last[keyword].node.line)
                last[keyword] = instruction
            yield from self._about(instruction)
            before = len(self.evaluator.unset)
            try:
                self.evaluator.step(instruction)
            except SpecrunError:
                continue
            for _, name in self.evaluator.unset[before:]:
                if name not in self.evaluator.arguments:
                    close = _close(name, list(self.evaluator.environment))
                    hint = f" (did you mean ${close}?)" if close else ""
                    yield Warning(UNDEFINED_VAR, f"Usage of undefined variable '${name}'{hint}", node.line)
        self.configs[self.stage.number] = self.evaluator.config
        self.absolute[self.stage.number] = self.is_absolute

    def _about(self, instruction: Instruction) -> Iterator[Warning]:
        node = instruction.node
        if isinstance(instruction, Command) and instruction.keyword in ("CMD", "ENTRYPOINT"):
            if instruction.shell and not self.evaluator.config.get("Shell"):
                detail = (
                    f"JSON arguments recommended for {instruction.keyword} to prevent unintended behavior related to "
                    "OS signals"
                )
                yield Warning(JSON_ARGS, detail, node.line)
        elif isinstance(instruction, Text) and instruction.keyword == "WORKDIR":
            if instruction.text.startswith(("/", "$")):
                self.is_absolute = True
            elif not self.is_absolute:
                detail = f'Relative workdir "{instruction.text}" can have unexpected results if the base image changes'
                yield Warning(WORKDIR_RELATIVE, detail, node.line)
        elif isinstance(instruction, Pairs):
            yield from self._pairs(instruction)
        elif isinstance(instruction, Arg):
            for pair in instruction.pairs:
                if _is_secret(pair.name):
                    yield _secret("ARG", pair.name, node)
        elif isinstance(instruction, Words) and instruction.keyword == "EXPOSE":
            yield from self._ports(instruction)
        elif isinstance(instruction, Copy) and self.ignored and not instruction.source:
            yield from self._ignored(instruction, self.ignored)

    def _pairs(self, instruction: Pairs) -> Iterator[Warning]:
        keyword, node = instruction.keyword, instruction.node
        for pair in instruction.pairs:
            if keyword == "ENV" and _is_secret(pair.name):
                yield _secret("ENV", pair.name, node)
        if any(pair.old for pair in instruction.pairs):
            detail = f'"{keyword} key=value" should be used instead of legacy "{keyword} key value" format'
            yield Warning(LEGACY_KEY_VALUE, detail, node.line)

    def _ports(self, instruction: Words) -> Iterator[Warning]:
        for word in instruction.words:
            port, _, protocol = word.partition("/")
            if protocol != protocol.lower():
                detail = f"Defined protocol '{word}' in EXPOSE instruction should be lowercase"
                yield Warning(EXPOSE_CASING, detail, instruction.node.line)
            if ":" in port and "$" not in word:
                detail = f"EXPOSE instruction should not define an IP address or host-port mapping, found '{word}'"
                yield Warning(EXPOSE_FORMAT, detail, instruction.node.line)

    def _ignored(self, instruction: Copy, ignored: Patterns) -> Iterator[Warning]:
        if ignored.has_exceptions:
            return
        for source in instruction.sources:
            if "$" in source or "://" in source:
                continue
            path = os.path.normpath(source).lstrip("/")
            if ignored.matches("any name" if path in (".", "") else path):
                verb = instruction.keyword.capitalize()
                detail = f'Attempting to {verb} file "{source}" that is excluded by .dockerignore'
                yield Warning(COPY_IGNORED, detail, instruction.node.line)


def _secret(keyword: str, name: str, node: Node) -> Warning:
    detail = f'Do not use ARG or ENV instructions for sensitive data ({keyword} "{name}")'
    return Warning(SECRETS, detail, node.line)


def _is_secret(name: str) -> bool:
    words = name.lower().split("_")
    if words[-1] in ("file", "version") or "public" in words:
        return False
    return any(word in words for word in _SECRET_WORDS)


def check_request(request: BuildRequest, out: Callable[[str], None]) -> int:
    """`build --check`: print the warnings; gives the exit status."""
    from specrun.build.executor import load
    from specrun.build.trees import read_ignored

    program, _ = load(request)
    ignored = read_ignored(os.path.join(request.context, ".dockerignore")) if request.context else None
    found = check(program, arguments=request.arguments, target=request.target, ignored=ignored)
    if not found:
        out("Check complete, no warnings found.\n")
        return 0
    count = f"{len(found)} warning{'s have' if len(found) > 1 else ' has'} been found!"
    out(f"Check complete, {count}\n")
    lines = program.dockerfile.lines
    for warning in found:
        out(f"\nWARNING: {warning.rule.name} - docs/build-checks.md#{warning.rule.name.lower()}\n")
        out(f"{warning.rule.summary}\n{warning.detail}\n")
        out(f"{program.dockerfile.file}:{warning.line}\n  {warning.line:>4} | {lines[warning.line - 1]}\n")
    return 1
