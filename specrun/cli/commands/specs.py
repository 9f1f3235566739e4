"""What the verbs over specs share: their options, and errors as text or JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from specrun.cli.context import Context
from specrun.cli.options import Command, Option, Parsed
from specrun.errors import SpecrunError, UsageError
from specrun.spec.problems import SpecProblems

OPTIONS = [
    Option("-o --output", "value", "text or json"),
    Option("-p --project", "value", "The project's name (default: of the first file or folder)", "name"),
]


def command(name: str, summary: str, examples: list[str]) -> Command:
    """The command line of a verb over specs."""
    return Command(name, "[OPTIONS] FILE|FOLDER|- ...", summary, OPTIONS, examples=examples)


def guarded(
    line: Command, arguments: list[str], context: Context, action: Callable[[Parsed, bool], tuple[int, dict[str, Any]]]
) -> int:
    """Parse the command line and do `action`; its document is printed when JSON is asked for, errors too."""
    options = line.parse(arguments)
    line.require(options, 1)
    if options.output not in ("", "text", "json"):
        raise UsageError(f"--output {options.output}: expected text or json")
    as_json = options.output == "json"
    try:
        status, document = action(options, as_json)
    except SpecProblems as error:
        if as_json:
            context.out(json.dumps({"errors": [one.document() for one in error.problems]}) + "\n")
        else:
            context.err(f"{error.message}\n{error.summary()}\n")
        return 1
    except SpecrunError as error:
        if not as_json:
            raise
        place = str(error.place) if error.place else None
        fact = {"code": error.code, "message": error.message, "hint": error.hint, "place": place}
        context.out(json.dumps({"errors": [fact]}) + "\n")
        return error.exit_status
    if as_json:
        context.out(json.dumps(document, ensure_ascii=False) + "\n")
    return status
