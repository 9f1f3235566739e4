"""`specrun apply`: make it as the specs say."""

from __future__ import annotations

from typing import Any

from specrun.cli.commands.specs import command, guarded
from specrun.cli.context import Context
from specrun.cli.options import Parsed
from specrun.engine.containers import Engine
from specrun.reconcile import project, render
from specrun.reconcile.apply import Applier, Output
from specrun.reconcile.observe import observe
from specrun.reconcile.plan import plan
from specrun.spec.loader import load

COMMAND = command("apply", "Make it as the specs say.", ["apply specs/workshop/01-hello-world.yaml"])


def run(arguments: list[str], context: Context) -> int:
    """Exit with 0 when all is as the specs say, 1 when something failed."""

    def action(options: Parsed, as_json: bool) -> tuple[int, dict[str, Any]]:
        specs = load(options.arguments, options.project)
        root = context.root()
        news = (lambda text: None) if as_json else (lambda text: context.out(f"{text}\n"))
        with project.exclusive(root, specs.project):
            Engine(root).mend()
            record = project.load(root, specs.project)
            made = plan(specs, observe(root), record)
            if not as_json:
                context.out(render.text(made, colour=render.use_colour(1)))
            output = Output(None, None, news) if as_json else Output(1, 2, news)
            count = Applier(root, specs, record, output).apply(made)
        return 0, {**render.document(made), "applied": count}

    return guarded(COMMAND, arguments, context, action)
