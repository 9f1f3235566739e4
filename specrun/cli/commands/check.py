"""`specrun check`: whether the claims of specs, or of files of container-structure-test, hold."""

from __future__ import annotations

import signal
import sys
from typing import Any

from specrun.checks.check import Result
from specrun.checks.subjects import TIMEOUT
from specrun.cli.commands.specs import OPTIONS, call_of, guarded, specs_of
from specrun.cli.context import Context
from specrun.cli.options import Command, Option, Parsed
from specrun.errors import SpecrunError, UsageError
from specrun.spec.models import CheckSpec
from specrun.spec.problems import Problem, SpecProblems

COMMAND = Command(
    "check",
    "[OPTIONS] FILE|FOLDER|- ... | --cst FILE --image IMAGE",
    "Look whether the claims of Check specs hold; exits with 1 when one does not.",
    [
        *OPTIONS,
        Option("--cst", "list", "A file of container-structure-test (schema 2.0.0)", "file"),
        Option("--image", "value", "The image that such files are about"),
        Option("--timeout", "number", "Seconds that a command of such a file may take (default 60; 0 is no limit)"),
    ],
    examples=["check specs/workshop/12-inspecting.yaml", "check --cst tests.yaml --image busybox"],
)


def run(arguments: list[str], context: Context) -> int:
    """Exit with 0 when all holds."""

    def action(options: Parsed, quiet: bool) -> tuple[int, dict[str, Any]]:
        if options.cst and not options.image:
            raise UsageError("--cst needs --image", hint="a file of container-structure-test is about one image")
        if options.timeout is not None and (options.timeout < 0 or not options.cst):
            reason = (
                "expected 0 or more" if options.cst else "it is about --cst; claims of specs say `timeout` themselves"
            )
            raise UsageError(f"--timeout {options.timeout}: {reason}")
        timeout = TIMEOUT if options.timeout is None else float(options.timeout)
        groups = [*_of_specs(options), *((path, _of_file(path, options.image, timeout)) for path in options.cst)]
        if not groups:
            raise SpecrunError("there are no Check specs in these files", hint="see 'specrun explain Check'")
        # As Ctrl-C does: a command of a claim that still runs is killed, which nobody else would do.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        engine = context.engine()
        if options.image:
            engine.images.resolve(options.image)
        failed, document = 0, []
        for title, checks in groups:
            if not quiet:
                context.out(f"{title}\n")
            for check in checks:
                result: Result = check.run(engine)
                failed += bool(result.problem)
                document.append({"of": title, **result.document()})
                if not quiet:
                    context.out(_line(result))
        engine.mend()
        if not quiet:
            context.out(f"{len(document) - failed} hold, {failed} do not.\n")
        return int(bool(failed)), {"checks": document}

    return guarded(COMMAND, arguments, context, action, least=0)


def _of_specs(options: Parsed) -> list[tuple[str, list[Any]]]:
    if not options.arguments:
        if not options.cst:
            COMMAND.require(options, 1)
        return []
    specs = specs_of(call_of(options))
    found = [(resource.key, resource.spec) for resource in specs.resources.values()]
    return [(key, [claim.check() for claim in spec.claims]) for key, spec in found if isinstance(spec, CheckSpec)]


def _of_file(path: str, image: str, timeout: float) -> list[Any]:
    from specrun.checks.cst import BadTest, checks_of
    from specrun.spec.yamltext import parse, read

    documents = parse(*read(path))
    if len(documents) != 1:
        raise SpecrunError(f"{path}: found {len(documents)} documents, expected one")
    try:
        return list(checks_of(documents[0].value, image, timeout))
    except BadTest as error:
        place = documents[0].place(error.path, key=bool(error.path) and isinstance(error.path[-1], str))
        raise SpecProblems([Problem(place, str(error), "bad-test")]) from error


def _line(result: Result) -> str:
    lines = [f"  {'no' if result.problem else 'ok'}  {result.name}"]
    return "\n".join(lines + [f"        {row}" for row in result.problem.splitlines()]) + "\n"
