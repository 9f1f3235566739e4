"""`specrun check`: whether the claims of specs, or of files of container-structure-test, hold."""

from __future__ import annotations

import json
from typing import Any

from specrun.cli.context import Context
from specrun.cli.options import Command, Option
from specrun.errors import SpecrunError, UsageError
from specrun.spec.problems import Problem, SpecProblems

COMMAND = Command(
    "check",
    "[OPTIONS] --cst FILE --image IMAGE",
    "Look whether claims hold; exits with 1 when one does not.",
    [
        Option("--cst", "list", "A file of container-structure-test (schema 2.0.0)", "file"),
        Option("--image", "value", "The image that such files are about"),
        Option("-o --output", "value", "text or json"),
    ],
    examples=["check --cst tests.yaml --image busybox"],
)


def run(arguments: list[str], context: Context) -> int:
    """Exit with 0 when all holds."""
    options = COMMAND.parse(arguments)
    if options.output not in ("", "text", "json"):
        raise UsageError(f"--output {options.output}: expected text or json")
    if not options.cst:
        raise COMMAND.wrong("nothing to check was named")
    if not options.image:
        raise UsageError("--cst needs --image", hint="a file of container-structure-test is about one image")
    engine = context.engine()
    engine.images.resolve(options.image)
    try:
        checks = [one for path in options.cst for one in _from_cst(path, options.image)]
    except SpecProblems as error:
        context.err(f"{error.message}\n{error.summary()}\n")
        return 1
    results = [one.run(engine) for one in checks]
    engine.mend()
    if options.output == "json":
        context.out(json.dumps({"checks": [result.document() for result in results]}) + "\n")
    else:
        context.out("".join(_line(result) for result in results))
    return 1 if any(result.problem for result in results) else 0


def _from_cst(path: str, image: str) -> list[Any]:
    from specrun.checks.cst import BadTest, checks_of
    from specrun.spec.yamltext import parse, read

    name, text = read(path)
    documents = parse(name, text)
    if len(documents) != 1:
        raise SpecrunError(f"{path}: found {len(documents)} documents, expected one")
    try:
        return list(checks_of(documents[0].value, image))
    except BadTest as error:
        place = documents[0].place(error.path, key=bool(error.path) and isinstance(error.path[-1], str))
        raise SpecProblems([Problem(place, str(error), "bad-test")]) from error


def _line(result: Any) -> str:
    lines = [f"{'no' if result.problem else 'ok'}  {result.name}"]
    return "\n".join(lines + [f"      {row}" for row in result.problem.splitlines()]) + "\n"
