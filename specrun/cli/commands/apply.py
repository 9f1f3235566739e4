"""`specrun apply`: make it as the specs say."""

from __future__ import annotations

import os
import time
from typing import Any

from specrun.cli.commands.plan import CHOICE, choice
from specrun.cli.commands.specs import asked, call_of, command, guarded, name_of, specs_of
from specrun.cli.context import Context
from specrun.cli.options import Option, Parsed
from specrun.errors import SpecrunError, UsageError
from specrun.paths import Root
from specrun.reconcile import project, render, saved, settled
from specrun.reconcile.changes import Choice
from specrun.reconcile.kinds.base import Output

COMMAND = command(
    "apply",
    "Make it as the specs say. FILE may also be a plan that `specrun plan -o` has saved.",
    ["apply specs/workshop/01-hello-world.yaml", "apply --prune --wait --timeout 30 web/"],
    [
        *CHOICE,
        Option("--parallel", "number", "How many changes at once (default: by the number of processors)"),
        Option("--wait", "flag", "Return when all that have a health check are healthy"),
        Option("--watch", "flag", "Stay in the foreground, and mend what drifts until SIGTERM or ^C"),
        Option("--interval", "number", "Seconds between two looks of --watch (default 5)"),
        Option("--timeout", "number", "Seconds to wait for health, here and before dependents (default 120)"),
    ],
)


def run(arguments: list[str], context: Context) -> int:
    """Exit with 0 when all is as the specs say, 1 when something failed."""

    def action(options: Parsed, quiet: bool) -> tuple[int, dict[str, Any]]:
        if options.parallel is not None and not 1 <= options.parallel <= 64:
            raise UsageError(f"--parallel {options.parallel}: expected 1 to 64")
        if options.interval is not None and options.interval < 1:
            raise UsageError(f"--interval {options.interval}: expected at least 1 second")
        if options.timeout is not None and options.timeout < 0:
            raise UsageError(f"--timeout {options.timeout}: expected seconds")
        root = context.root()
        plan = _saved_plan(options)
        if options.watch:
            if plan is not None or "-" in options.arguments:
                raise UsageError("--watch reads the specs again and again: give files or folders")
            return _watch(options, context, root, quiet)
        if plan is not None:
            return _apply_saved(plan, options, context, root, quiet)
        return _apply(call_of(options), choice(options), options, context, root, quiet, None)

    return guarded(COMMAND, arguments, context, action)


def _watch(options: Parsed, context: Context, root: Root, quiet: bool) -> tuple[int, dict[str, Any]]:
    """Mend until a signal comes. A change that is being made is finished first."""
    import signal

    from specrun.reconcile.apply import default_parallel
    from specrun.reconcile.watch import watch

    ended: list[bool] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.append(True))

    def over(seconds: float) -> bool:
        _sleep(seconds, ended)
        return bool(ended)

    news = (lambda text: None) if quiet else (lambda text: context.out(f"{text}\n"))
    call, chosen = call_of(options), choice(options)
    watch(
        root,
        lambda: settled.recall(root, name_of(call), asked(call, chosen)) is not None,
        lambda: specs_of(call),
        chosen,
        Output(None, None, news),
        interval=float(options.interval or 5),
        parallel=options.parallel or default_parallel(),
        timeout=120.0 if options.timeout is None else float(options.timeout),
        over=over,
    )
    return 0, {"project": specs_of(call).project}


def _sleep(seconds: float, asked: list[bool]) -> None:
    """In short pieces, so that a signal is heeded soon."""
    end = time.monotonic() + seconds
    while not asked and time.monotonic() < end:
        time.sleep(0.2)


def _saved_plan(options: Parsed) -> dict[str, Any] | None:
    """The plan that the only argument is, if it is one."""
    plans = [path for path in options.arguments if path != "-" and saved.is_saved(path)]
    if not plans:
        return None
    if len(options.arguments) > 1 or options.target or options.prune or options.set or options.overlay:
        raise UsageError("a saved plan is applied as it is: alone, without options that choose what is planned")
    return saved.load(plans[0])


def _apply_saved(
    plan: dict[str, Any], options: Parsed, context: Context, root: Root, quiet: bool
) -> tuple[int, dict[str, Any]]:
    call = plan["call"]
    try:
        os.chdir(call["folder"])  # the specs' paths are relative to where the plan was made
    except OSError as error:
        raise saved.StalePlan(f"the folder of the plan is gone: {call['folder']}") from error
    return _apply(call, Choice(tuple(call["target"]), call["prune"]), options, context, root, quiet, plan)


def _apply(
    call: dict[str, Any],
    chosen: Choice,
    options: Parsed,
    context: Context,
    root: Root,
    quiet: bool,
    plan: dict[str, Any] | None,
) -> tuple[int, dict[str, Any]]:
    name, key = name_of(call), asked(call, chosen)
    with project.locked(root, name):
        if plan is None and not options.wait and (found := settled.recall(root, name, key)):
            if not quiet:
                context.out(render.text(found, colour=render.use_colour(1)))
            return 0, {**render.document(found), "applied": 0}
        from specrun.reconcile.apply import default_parallel
        from specrun.reconcile.session import applier, look

        specs = specs_of(call)
        session = look(root, specs, chosen, salt=plan["salt"] if plan else "")
        if plan is not None:
            saved.require_fresh(plan, session)
        if not quiet:
            context.out(render.text(session.plan, colour=render.use_colour(1)))
        news = (lambda text: None) if quiet else (lambda text: context.out(f"{text}\n"))
        work = applier(
            root,
            session,
            Output(None, None, news) if quiet else Output(1, 2, news),
            parallel=options.parallel or default_parallel(),
            timeout=120.0 if options.timeout is None else float(options.timeout),
        )
        count = work.apply(session.plan)
        if options.wait:
            work.wait()
        try:
            settled.remember(root, look(root, specs, chosen) if count else session, key)
        except SpecrunError:
            pass  # something has changed already; the next look says what
    return 0, {**render.document(session.plan), "applied": count}
