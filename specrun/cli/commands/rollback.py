"""`specrun rollback`: back to what a project was."""

from __future__ import annotations

from specrun.cli.commands.revisions import project_of
from specrun.cli.context import Context
from specrun.cli.options import Command, Option
from specrun.reconcile import project, render, revisions
from specrun.reconcile.apply import default_parallel
from specrun.reconcile.changes import Choice
from specrun.reconcile.kinds.base import Output
from specrun.reconcile.session import applier, look

COMMAND = Command(
    "rollback",
    "[OPTIONS] PROJECT|FILE|FOLDER [REVISION]",
    "Apply an earlier revision of a project: the one before the newest, or the one of that number.",
    [Option("--plan", "flag", "Show what would change, and change nothing")],
    examples=["rollback web.yaml", "rollback --plan web.yaml 3"],
)


def run(arguments: list[str], context: Context) -> int:
    """Exit with 0 when all is as it was then; with --plan, as `plan` does."""
    options = COMMAND.parse(arguments)
    COMMAND.require(options, 1, 2)
    number = options.arguments[1] if len(options.arguments) > 1 else None
    if number is not None and not (number.isascii() and number.isdigit()):
        raise COMMAND.wrong(f"{number!r} is not the number of a revision")
    root = context.root()
    record = project.load(root, project_of(options.arguments[0]))
    chosen, specs = revisions.specs_of(root, record, int(number) if number else None)
    everything = Choice(prune=True)
    context.out(f"revision {chosen} of project {specs.project}:\n")
    if options.plan:
        session = look(root, specs, everything)
        context.out(render.text(session.plan, colour=render.use_colour(1)))
        return 2 if session.plan.needed else 0
    with project.locked(root, specs.project):
        session = look(root, specs, everything)
        context.out(render.text(session.plan, colour=render.use_colour(1)))
        output = Output(1, 2, lambda text: context.out(f"{text}\n"))
        applier(root, session, output, parallel=default_parallel(), timeout=120.0).apply(session.plan)
    return 0
