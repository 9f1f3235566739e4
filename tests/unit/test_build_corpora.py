"""The front end of builds against what BuildKit and moby answer, case by case."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from specrun.build import lint, mounts
from specrun.build.errors import DockerfileError
from specrun.build.evaluation import Evaluator, Platform, Scope
from specrun.build.expansion import ExpansionError, Lexer
from specrun.build.ignore import BadPattern, Patterns, patterns_of
from specrun.build.instructions import (
    KEYWORDS,
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
    read,
)
from specrun.build.parser import Dockerfile, Node, parse, parse_line
from specrun.build.stages import Graph
from specrun.errors import SpecrunError
from specrun.oci.reference import Reference
from tests.support.corpora import cases

BASE = {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["/bin/sh"]}


def _arguments(node: Node, escape: str) -> Any:
    if node.keyword == "ONBUILD" and node.arguments:
        inner = parse_line(node.arguments[0], node, escape)
        inner.line = inner.end = 0
        return [_document(inner, escape)]
    return node.arguments if node.keyword in KEYWORDS else [""]


def _document(node: Node, escape: str) -> dict[str, Any]:
    return {
        "args": _arguments(node, escape),
        "end": node.end,
        "original": node.original,
        "start": node.line,
        "value": node.written,
        **({"attributes": {"json": True}} if node.json else {}),
        **({"comments": node.comments} if node.comments else {}),
        **({"flags": node.flags} if node.flags else {}),
        **({"heredocs": [one.content for one in node.heredocs]} if node.heredocs and node.line else {}),
    }


def _check_tree(identity: str, text: str, expected: dict[str, Any]) -> None:
    try:
        found: Dockerfile | None = parse(text)
    except DockerfileError:
        found = None
    assert (found is None) == bool(expected.get("error")), identity
    if found is None:
        return
    for node in expected["nodes"]:
        if "heredocs" in node:
            node["heredocs"] = [one.get("content", one.get("Content")) for one in node["heredocs"]]
    assert [_document(node, found.escape) for node in found.nodes] == expected["nodes"], identity
    assert found.escape == expected["escape"], identity
    assert len(found.warnings) == len(expected.get("warnings") or []), identity


def test_lines_become_the_same_nodes() -> None:
    for case in cases("dockerfile_parser"):
        _check_tree(case["id"], case["input"], case["expected"])
    for case in cases("dockerfile_instructions"):
        if "ast" in case["expected"]:
            _check_tree(case["id"], case["input"], case["expected"]["ast"])


def test_variables_become_the_same_text() -> None:
    for case in cases("dockerfile_shell"):
        env = dict(entry.split("=", 1) for entry in case["env"])
        try:
            found: Any = {"result": getattr(Lexer(), case["op"])(case["input"], env)}
        except ExpansionError:
            found = "error"
        assert found == case["expected"], case["id"]


def _instruction(one: Instruction) -> dict[str, Any]:
    if isinstance(one, Arg):
        return {"Args": [{"Key": pair.name, "Value": pair.value} for pair in one.pairs]}
    if isinstance(one, Pairs):
        pairs = [{"Key": pair.name, "Value": pair.value, "NoDelim": pair.old} for pair in one.pairs]
        return {"Env" if one.keyword == "ENV" else "Labels": pairs}
    if isinstance(one, Copy):
        inline = [{"Path": doc.name, "Data": doc.text, "Expand": doc.expand} for doc in one.inline]
        common = {
            "DestPath": one.destination,
            "SourcePaths": one.sources or None,
            "SourceContents": inline or None,
            "Chown": one.chown,
            "Chmod": one.chmod,
            "Link": one.link,
            "ExcludePatterns": one.exclude or None,
        }
        if one.keyword == "COPY":
            return {**common, "From": one.source, "Parents": one.parents}
        return {**common, "KeepGitDir": one.keep_git_dir, "Checksum": one.checksum, "Unpack": one.unpack}
    if isinstance(one, Run):
        files = [{"Name": doc.name, "Data": doc.content, "Chomp": doc.chomp} for doc in one.node.heredocs]
        return {"CmdLine": one.words, "Files": files or None, "PrependShell": one.shell, "network": one.network}
    if isinstance(one, Command):
        words = one.words or (None if one.keyword == "ENTRYPOINT" else [])
        return {"CmdLine": words, "Files": None, "PrependShell": one.shell}
    if isinstance(one, Words):
        return {{"EXPOSE": "Ports", "VOLUME": "Volumes", "SHELL": "Shell"}[one.keyword]: one.words}
    if isinstance(one, Text):
        keys = {"WORKDIR": "Path", "USER": "User", "STOPSIGNAL": "Signal", "MAINTAINER": "Maintainer"}
        return {keys[one.keyword]: one.text}
    if isinstance(one, Onbuild):
        return {"Expression": one.trigger}
    assert isinstance(one, Healthcheck)
    return {"Health": one.document}


def _plain(value: Any) -> Any:
    """A reference's answer without what we do not keep."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items() if key not in ("DocComment", "FlagsUsed")}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def test_nodes_become_the_same_instructions_and_mistakes_have_the_same_line() -> None:
    for case in cases("dockerfile_instructions"):
        expected = case["expected"]["instr"]
        try:
            program = read(parse(case["input"]))
        except DockerfileError as error:
            assert "stages" not in expected, (case["id"], error.message)
            if "on line" in expected["error"] and error.place:
                assert f"on line {error.place.line}:" in expected["error"], case["id"]
            continue
        if "panic" in expected.get("error", ""):
            continue  # the reference's own tool fell over
        assert "stages" in expected, case["id"]
        for stage, wanted in zip(program.stages, expected["stages"], strict=True):
            assert (stage.base, stage.name, stage.platform) == (wanted["base"], wanted["name"], wanted["platform"])
            for one, command in zip(stage.instructions, wanted["commands"] or [], strict=True):
                document = {**command["cmd"], **({"network": command["network"]} if "network" in command else {})}
                assert (one.keyword, _instruction(one)) == (command["name"].upper(), _plain(document)), case["id"]
                if isinstance(one, Run):
                    _check_mounts(case["id"], one, command["mounts"])


def _check_mounts(identity: str, run: Run, expected: list[dict[str, Any]]) -> None:
    found = []
    for text in run.mount_texts:
        if "$" in text:
            return
        try:
            found.append(mounts.parse(text, run.node, lambda value: value))
        except DockerfileError:
            return  # the reference refuses these where it builds
    documents = [
        {
            "Type": one.type,
            "From": one.source,
            "Source": one.source_path,
            "Target": one.target,
            "ReadOnly": one.readonly,
            "SizeLimit": one.size,
            "CacheID": one.id,
            "CacheSharing": one.sharing,
            "Required": one.required,
            "Env": one.env,
            "Mode": one.mode,
            "UID": one.uid,
            "GID": one.gid,
        }
        for one in found
    ]
    assert documents == expected, identity


def _image(text: str) -> tuple[dict[str, Any], list[tuple[str, bool]], list[tuple[list[str], str, list[str]]]]:
    """Configuration, history, and each RUN's words, folder and environment, over a stub base image."""
    platform = Platform("linux/amd64")
    program = read(parse(text))
    scope = Scope(program, {}, platform, platform)
    graph = Graph(program, scope)
    target = graph.target("")
    made: dict[int, tuple[dict[str, Any], list[tuple[str, bool]]]] = {}
    runs: list[tuple[list[str], str, list[str]]] = []
    for stage in program.stages:
        scope.platform_of(stage)
        base = graph.bases[stage.number]
        above = graph.stage(base, stage.number) if not base.isdigit() else None
        if above:
            config, history = made[above.number]
        else:
            if base != "scratch":
                Reference.parse(base)
            config, history = ({}, []) if base == "scratch" else (BASE, [])
        evaluator = Evaluator(scope, config, scratch=base == "scratch")
        history, runs = list(history), []
        for one in [*evaluator.triggers(config, stage.node), *stage.instructions]:
            step = evaluator.step(one)
            if step.created_by:
                history.append((step.created_by, step.empty))
            if step.kind == "run":
                runs.append((step.argv, step.workdir, sorted(step.environment)))
        made[stage.number] = (evaluator.config, history)
    if lint.is_error(program, {}) and lint.check(program):
        raise SpecrunError("lint violation found")
    return *made[target.number], runs


ALLOWED_HERE_ALONE = "RUN --security=insecure is not allowed"
"""A step never has more rights than `run`: docs/differences.md."""


def test_instructions_come_to_the_same_image() -> None:
    refused = 0
    for case in cases("dockerfile_image"):
        expected = case["expected"]
        try:
            config, history, runs = _image(case["input"])
        except SpecrunError as error:
            if error.message == ALLOWED_HERE_ALONE:
                refused += 1
                continue
            assert "error" in expected, (case["id"], error.message)
            continue
        assert "error" not in expected, case["id"]
        wanted = {key: value for key, value in expected["image"]["config"].items() if key != "ArgsEscaped"}
        kept = {key: value for key, value in config.items() if value not in ([], {}, None, "")}
        assert kept == {key: value for key, value in wanted.items() if value}, case["id"]
        wanted_history = [
            (one["created_by"], one.get("empty_layer", False)) for one in expected["image"].get("history", [])
        ]
        assert history == wanted_history, case["id"]
        _check_runs(case["id"], runs, expected["ops"])
    assert refused == 3


def _check_runs(identity: str, runs: list[tuple[list[str], str, list[str]]], operations: list[dict[str, Any]]) -> None:
    """Each RUN of the target's own stage is among those that BuildKit would do."""
    wanted = [
        (meta["args"], meta["cwd"], sorted(entry for entry in meta["env"] if not entry.startswith("SSH_AUTH_SOCK=")))
        for one in operations
        if isinstance(one.get("Op"), dict) and "exec" in one["Op"]
        for meta in [one["Op"]["exec"]["meta"]]
    ]
    for argv, workdir, environment in runs:
        close = [one for one in wanted if one[0] == argv]
        assert close, (identity, argv)
        assert any((one[1], one[2]) == (workdir, environment) for one in close), (identity, argv)


CONTRADICTORY = frozenset(
    "testUndeclaredArg:55 testUndeclaredArg:56 testUnmatchedVars:63 testUnmatchedVars:64 testUnmatchedVars:65 "
    "testInvalidDefaultArgInFrom:78 testBaseImagePlatformMismatch:86".split()
)
"""Cases whose text is not the one that was checked (equal inputs with unlike answers), or that name a registry."""
ERROR_FIRST = frozenset(["testWarningsBeforeError:47"])
"""We tell a mistake alone, and the warnings when it is mended."""


def test_checks_warn_of_the_same_lines() -> None:
    for case in cases("dockerfile_lint"):
        if case["id"] in CONTRADICTORY | ERROR_FIRST:
            continue
        expected = [
            (lint.MULTIPLE_INSTRUCTIONS.name, one["args"][1]) if "$call" in one else (one["RuleName"], one["Line"])
            for one in case["expected"] or []
        ]
        prefix = "build-arg:"
        given = {key[len(prefix) :]: text for key, text in (case["attrs"] or {}).items() if key.startswith(prefix)}
        ignored = Patterns(patterns_of(case["dockerignore"])) if case["dockerignore"] else None
        found = lint.check(read(parse(case["input"])), arguments=given, ignored=ignored)
        assert [(one.rule.name, one.line) for one in found] == expected, case["id"]


def test_checks_warn_of_the_same_lines_of_all_other_files() -> None:
    for case in cases("dockerfile_image"):
        if "warnings" in case["expected"]:
            expected = sorted((one["rule"], one["line"]) for one in case["expected"]["warnings"])
            found = lint.check(read(parse(case["input"])), base_config=lambda _: BASE)
            assert sorted((one.rule.name, one.line) for one in found) == expected, case["id"]


def test_patterns_of_dockerignore_match_the_same_paths() -> None:
    for case in cases("dockerignore_match"):
        found: Any = "error"
        with contextlib.suppress(BadPattern):
            found = Patterns(case["patterns"]).matches(case["path"])
        assert found == case["expected_builder"], case["id"]
    for case in cases("dockerignore_file"):
        assert patterns_of(case["input"]) == (case["expected"]["result"] or []), case["id"]


def test_every_check_has_a_section() -> None:
    page = (Path(__file__).parents[2] / "docs" / "build-checks.md").read_text()
    assert [line[3:] for line in page.splitlines() if line.startswith("## ")] == [rule.name for rule in lint.RULES]
