"""`specrun plan`: what apply would do, and why. Writes nothing at all, save the file that it is told to."""

from __future__ import annotations

from typing import Any

from specrun.cli.commands.specs import FORMATS, asked, call_of, command, guarded, name_of, specs_of
from specrun.cli.context import Context
from specrun.cli.options import Option, Parsed
from specrun.errors import UsageError
from specrun.paths import peek_root
from specrun.reconcile.changes import Choice

CHOICE = [
    Option("--target", "list", "Only this object and what it needs, as container/web", "object"),
    Option("--prune", "flag", "Delete what the project has and the specs no longer have"),
]
COMMAND = command(
    "plan",
    "Show what apply would change, and why. Exits with 0 for no change, 2 for changes, 1 for an error.",
    ["plan specs/workshop/01-hello-world.yaml", "plan -o web.plan web.yaml && specrun apply web.plan"],
    [
        *CHOICE,
        Option("-o --out", "value", "Save the plan, for `specrun apply FILE`", "file"),
        Option("--strict", "flag", "Exit with 1 when a rule of the policy is broken without a waiver"),
    ],
)


def run(arguments: list[str], context: Context) -> int:
    """Exit with 0 for no change, 2 for changes, 1 for an error."""
    from datetime import date

    from specrun.reconcile import render, settled

    def action(options: Parsed, quiet: bool) -> tuple[int, dict[str, Any]]:
        if options.out in FORMATS:
            hint = f"the format is --output {options.out}; write ./{options.out} for a file of that name"
            raise UsageError(f"-o {options.out}: -o names the file that the plan is saved in", hint=hint)
        call = call_of(options)
        root = peek_root(context.root_path)
        if not options.out and (known := settled.recall(root, name_of(call), asked(call, choice(options)), clean=True)):
            if not quiet:
                context.out(render.text(known, colour=render.use_colour(1)))
            return 0, {**render.document(known), "findings": []}
        from specrun.reconcile.policy import findings
        from specrun.reconcile.session import look

        session = look(root, specs_of(call), choice(options))
        if options.out:
            from specrun.reconcile import saved

            saved.save(options.out, session, {**call, "target": options.target, "prune": options.prune})
        found = findings(session.specs, date.today())
        if not quiet:
            context.out(render.text(session.plan, colour=render.use_colour(1)))
            context.out(render.policy(found))
        document = {**render.document(session.plan), "findings": [one.document() for one in found]}
        if options.strict and any(not one.waived for one in found):
            return 1, document
        return (2 if session.plan.needed else 0), document

    return guarded(COMMAND, arguments, context, action)


def choice(options: Parsed) -> Choice:
    """What --target and --prune say."""
    return Choice(tuple(options.target), options.prune)
