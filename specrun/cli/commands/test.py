"""`specrun test`: run features on one or more engines, and report."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from specrun.cli.commands import report
from specrun.cli.context import Context
from specrun.cli.options import Command, Option, Parsed
from specrun.errors import NotFound, SpecrunError, UsageError
from specrun_runtime import libc
from specrun_runtime.constants import Prctl

ENGINES = ("specrun", "docker", "podman")
_HINT = "name files that end in .feature, or folders of such"
OPTIONS = [
    Option("--engine", "list", "Engine to run on: specrun, docker or podman (default: specrun)", "engine"),
    Option("-k --match", "value", "Only scenarios whose names match this expression of pytest", "expression"),
    Option("-n --workers", "number", "How many scenarios to run at once (needs pytest-xdist)"),
    Option("--retries", "number", "Run what fails again, this often; what then passes is called flaky"),
    *report.OPTIONS,
]
COMMAND = Command(
    "test",
    "[OPTIONS] [FILE|FOLDER...]",
    "Run features and write a conformance report. Without arguments: the workshop's.",
    OPTIONS,
    examples=["test", "test --engine specrun --engine docker", "test features -n 2 --out build/report"],
)


def run(arguments: list[str], context: Context) -> int:
    """Exit with 0 when all holds, 1 when not."""
    options = COMMAND.parse(arguments)
    try:
        import pytest_bdd  # noqa: F401
    except ImportError as error:
        raise SpecrunError("features need pytest-bdd", hint="pip install 'specrun[bdd]'") from error
    engines = options.engine or ["specrun"]
    for engine in engines:
        if engine not in ENGINES:
            raise UsageError(f"--engine {engine}: expected one of {', '.join(ENGINES)}")
    for option, number in (("--workers", options.workers), ("--retries", options.retries)):
        if number is not None and number < 0:
            raise UsageError(f"{option} {number}: expected 0 or more")
    for path in options.arguments:
        if not os.path.exists(path.partition("::")[0]):
            raise NotFound(f"{path}: No such file or directory", hint=_HINT)
    report.known(options)  # a mistake in it is better said before the features run
    runs: list[dict[str, Any]] = []
    for engine in engines:
        runs += _run_on(engine, options, context)
    if not any(one["scenarios"] for one in runs):
        raise SpecrunError("no scenario was found", hint=_HINT)
    return report.publish(runs, options, context)


def _run_on(engine: str, options: Parsed, context: Context) -> list[dict[str, Any]]:
    """All attempts on one engine."""
    from specrun.bdd.workshop import features

    paths = options.arguments or [str(features())]
    context.err(f"features on {engine}\n")
    runs = [_pytest(engine, paths, options)]
    for _ in range(options.retries or 0):
        failed = [scenario["id"] for scenario in runs[-1]["scenarios"] if scenario["status"] == "failed"]
        if not failed:
            break
        context.err(f"again on {engine}: {len(failed)} that failed\n")
        runs.append(_pytest(engine, _located(failed, paths), options))
    return runs


def _located(identities: list[str], paths: list[str]) -> list[str]:
    """The scenarios' names for pytest's command line, which counts from the folder that the first run was given."""
    base = _base(paths)
    return [str(base / identity) for identity in identities]


def _base(paths: list[str]) -> Path:
    first = Path(paths[0].partition("::")[0]).resolve()
    return first if first.is_dir() else first.parent


def _pytest(engine: str, paths: list[str], options: Parsed) -> dict[str, Any]:
    """One run of pytest in a process of its own; gives what it recorded."""
    from specrun.bdd.scene import run_folder

    parent = os.getpid()

    def end_with_us() -> None:
        libc.prctl(Prctl.SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    with run_folder() as folder:
        results = folder / "results.json"
        words = [sys.executable, "-m", "pytest", "-q", "--rootdir", str(_base(paths)), "-c", "/dev/null"]
        words += ["--engine", engine, "--results", str(results), "-p", "no:cacheprovider", "-o", "addopts="]
        words += ["--basetemp", str(folder / "pytest")]
        words += ["-n", str(options.workers)] if options.workers else []
        words += ["-k", options.match] if options.match else []
        done = subprocess.run([*words, *paths], stdin=subprocess.DEVNULL, check=False, preexec_fn=end_with_us)
        status = done.returncode
        if status not in (0, 1, 5) or not results.exists():  # passed, failed, and nothing found
            raise SpecrunError(f"pytest ended with status {status} before the features were through")
        run: dict[str, Any] = json.loads(results.read_text(encoding="utf-8"))["runs"][0]
        return run
