"""What the verbs over specs share: their options, and errors as text, JSON or SARIF."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from specrun.cli.context import Context
from specrun.cli.options import Command, Option, Parsed
from specrun.errors import SpecrunError, UsageError
from specrun.spec.problems import SpecProblems

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.reconcile.changes import Choice
    from specrun.spec.loader import Specs

OPTIONS = [
    Option("--output", "value", "text, json, or sarif for errors and rules"),
    Option("-p --project", "value", "The project's name (default: of the first file or folder)", "name"),
    Option("--set", "list", "A variable of the specs, as NAME=value", "variable"),
    Option("--env-file", "list", "Variables of the specs (default: .env beside the first file)", "file"),
    Option("--profile", "list", "Objects of this profile are there too", "name"),
    Option("--overlay", "list", "Lay the documents of this file or folder on those of the specs", "file"),
]
FORMATS = ("text", "json", "sarif")


def command(name: str, summary: str, examples: list[str], more: list[Option] | None = None) -> Command:
    """The command line of a verb over specs."""
    return Command(name, "[OPTIONS] FILE|FOLDER|- ...", summary, [*OPTIONS, *(more or [])], examples=examples)


def call_of(options: Parsed) -> dict[str, Any]:
    """What the specs are read by, as a saved plan keeps it."""
    return {
        "paths": options.arguments,
        "project": options.project,
        "set": options.set,
        "env_file": options.env_file,
        "profile": options.profile,
        "overlay": options.overlay,
    }


def name_of(call: dict[str, Any]) -> str:
    """The name of the project, without reading the specs."""
    from specrun.spec.naming import project_name

    return project_name(call["paths"], call["project"])


def asked(call: dict[str, Any], chosen: Choice) -> dict[str, Any]:
    """What an empty plan of this command line is known by."""
    return {**call, "target": list(chosen.targets), "prune": chosen.prune}


def specs_of(call: dict[str, Any]) -> Specs:
    """The specs that a command line, or a saved plan, names."""
    from specrun.spec.loader import load
    from specrun.spec.sources import Options, variables_of

    options = Options(
        variables_of(call["set"]),
        env_files=call["env_file"],
        profiles=frozenset(call["profile"]),
        overlays=call["overlay"],
    )
    specs = load(call["paths"], call["project"], options)
    known = {
        profile
        for resource in (*specs.resources.values(), *specs.inactive.values())
        for profile in resource.metadata.profiles or ()
    }
    for profile in call["profile"]:
        if profile not in known:
            hint = f"there are {', '.join(sorted(known))}" if known else "no object of these specs has profiles"
            raise UsageError(f"--profile {profile}: no object has it", hint=hint)
    return specs


def guarded(
    line: Command,
    arguments: list[str],
    context: Context,
    action: Callable[[Parsed, bool], tuple[int, dict[str, Any]]],
    least: int = 1,
) -> int:
    """Parse the command line and do `action`; its document is printed when JSON is asked for, errors too."""
    options = line.parse(arguments)
    line.require(options, least)
    if options.output not in ("", *FORMATS):
        raise UsageError(f"--output {options.output}: expected {', '.join(FORMATS)}")
    form = options.output or "text"
    try:
        status, document = action(options, form != "text")
    except SpecProblems as error:
        _tell_problems(error, form, context)
        return 1
    except SpecrunError as error:
        if form == "text":
            raise
        place = str(error.place) if error.place else None
        fact = {"code": error.code, "message": error.message, "hint": error.hint, "place": place}
        context.out(json.dumps({"errors": [fact]}) + "\n")
        return error.exit_status
    if form == "sarif":
        from specrun.spec.sarif import sarif

        context.out(json.dumps(sarif([], document.get("findings", []))) + "\n")
    elif form == "json":
        context.out(json.dumps(document, ensure_ascii=False) + "\n")
    return status


def _tell_problems(error: SpecProblems, form: str, context: Context) -> None:
    if form == "sarif":
        from specrun.spec.sarif import sarif

        context.out(json.dumps(sarif(error.problems)) + "\n")
    elif form == "json":
        context.out(json.dumps({"errors": [one.document() for one in error.problems]}) + "\n")
    else:
        context.err(f"{error.message}\n{error.summary()}\n")
