"""Doing what a plan says, in the order of its graph, and nothing else.

The record of the project is written before each effect: with the token that the new container will carry, so that
a command that is killed in between leaves nothing that the next one does not know for its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from specrun.errors import SpecrunError
from specrun.reconcile import revisions
from specrun.reconcile.changes import Action, Change, Observed, Plan
from specrun.reconcile.graph import Graph
from specrun.reconcile.kinds import TABLE, kind_of
from specrun.reconcile.kinds.base import Output, Task, View, new_token
from specrun.reconcile.kinds.process import await_condition
from specrun.reconcile.project import Entry, Journal, Project
from specrun.reconcile.rolling import RolledBack
from specrun.reconcile.workers import Pool
from specrun.spec import models
from specrun_runtime.errors import StartFailed

if TYPE_CHECKING:
    from specrun.spec.loader import Resource


class ApplyFailed(SpecrunError):
    """A change could not be made; those before it were."""

    code = "apply-failed"


def default_parallel() -> int:
    """How many operations at once: they mostly wait for the kernel and for each other's processes."""
    return max(2, min(16, 4 * (os.cpu_count() or 1)))


class Applier:
    """Applies one plan."""

    def __init__(
        self,
        view: View,
        graph: Graph,
        observed: Observed,
        output: Output,
        *,
        parallel: int = 1,
        timeout: float = 120.0,
    ) -> None:
        self.view = view
        self.graph = graph
        self.observed = observed
        self.output = output
        self.parallel = parallel
        self.timeout = timeout
        self.entries: dict[str, Entry] = {}
        """What the record is to say when the change has been made."""
        self.before: dict[str, Entry] = {}
        """What it said before, of what is replaced."""
        self.done: list[str] = []

    def apply(self, plan: Plan) -> int:
        """Make the changes; gives their number. Raises ApplyFailed for the first that fails, when all have ended."""
        changes = {change.key: change for change in plan.needed}
        record = self.view.record
        self.entries = {
            key: self._entry(change) for key, change in changes.items() if change.action is not Action.DELETE
        }
        kept = [change.key for change in plan.changes if change.action is Action.KEEP]
        if not changes and not self._adopt(kept):
            return 0
        record.save(self.view.root)
        journal = Journal(self.view.root, record)
        try:
            created = [self.entries[key] for key, change in changes.items() if change.action is Action.CREATE]
            journal.intend(created)
            self._run(changes, journal)
            self._adopt(kept)
            if changes:
                revisions.record(self.view.root, record, self.view.specs, len(self.done))
        finally:
            journal.close()
            record.save(self.view.root)
        return len(self.done)

    def _entry(self, change: Change) -> Entry:
        """The new entry of an object: an update keeps its token, everything else has a new one."""
        resource = self.view.specs.resources[change.key]
        old = self.view.record.entries.get(change.key)
        if old:
            self.before[change.key] = old
        inputs = self.observed.inputs.get(change.key, {})
        if old and change.action is Action.UPDATE:
            return replace(old, values=resource.values, inputs=inputs, made=True)
        earlier = [*old.earlier, old.token][-8:] if old else []
        return Entry(resource.kind, resource.metadata.name, resource.values, new_token(), earlier, inputs, made=False)

    def _adopt(self, kept: list[str]) -> bool:
        """What was there already is known from now on, but not ours: an image, network or volume of somebody else."""
        record = self.view.record
        fresh = [key for key in kept if key not in record.entries and key in self.view.specs.resources]
        for key in fresh:
            resource = self.view.specs.resources[key]
            inputs = self.observed.inputs.get(key, {})
            record.entries[key] = Entry(
                resource.kind, resource.metadata.name, resource.values, "", [], inputs, made=True
            )
        return bool(fresh)

    def _run(self, changes: dict[str, Change], journal: Journal) -> None:
        waiting = _before(changes, self.graph)
        pool = Pool(min(self.parallel, len(changes)) or 1, self._perform(changes))
        failure: dict[str, Any] | None = None
        try:
            while waiting or pool.busy:
                ready = [key for key, before in waiting.items() if not before]
                for key in ready[: pool.free] if failure is None else []:
                    del waiting[key]
                    if changes[key].action is Action.REPLACE:
                        journal.intend([self.entries[key]])
                    pool.submit({"key": key})
                if not pool.busy:
                    break
                result = pool.next()
                if "error" in result:
                    failure = failure or result
                    if result["status"] == RolledBack.exit_status:
                        self._restore(result["key"], journal)
                    continue
                self._finish(changes[result["key"]], result, journal)
                for before in waiting.values():
                    before.discard(result["key"])
        finally:
            pool.close()
        if failure is not None:
            self._fail(failure, len(changes))

    def _perform(self, changes: dict[str, Change]) -> Callable[[dict[str, Any]], dict[str, Any]]:
        return lambda task: _attempt(task["key"], lambda: self._change(changes[task["key"]]))

    def _change(self, change: Change) -> str:
        """The effect of one change; gives a remark."""
        if change.action is Action.DELETE:
            entry = self.view.record.entries[change.key]
            return _remove(self.view, entry)
        resource = self.view.specs.resources[change.key]
        for key, condition in self.graph.edges[change.key].items():
            if condition == "healthy":
                entry = self.entries.get(key) or self.view.record.entries[key]
                await_condition(self.view, entry, condition, self.timeout)
        kind_of(resource.kind).apply(Task(change, resource, self.entries[change.key], self.view, self.output))
        return ""

    def _finish(self, change: Change, result: dict[str, Any], journal: Journal) -> None:
        self.done.append(change.key)
        if change.action is Action.DELETE:
            journal.forget(change.key)
            self.output.news(_news(change.key, result["remark"]))
            return
        journal.done(replace(self.entries[change.key], earlier=[], made=True))
        self.output.news(f"{change.action.value} {change.key}   {change.action.past}")

    def _restore(self, key: str, journal: Journal) -> None:
        """What was rolled back is as the record said before."""
        journal.done(self.before[key])

    def _fail(self, failure: dict[str, Any], total: int) -> None:
        key = failure["key"]
        resource = self.view.specs.resources.get(key)
        error = ApplyFailed(
            f"{key}: {failure['error']}",
            hint=failure["hint"] or f"{len(self.done)} of {total} changes were made",
            place=resource.place("spec") if resource else None,
        )
        error.exit_status = failure["status"] if failure["status"] == RolledBack.exit_status else 1
        raise error

    def wait(self) -> None:
        """Wait until every container that has a health check is healthy. Raises Unhealthy."""
        for key, entry in self.view.record.entries.items():
            resource = self.view.specs.resources.get(key)
            if resource and isinstance(resource.spec, models.ContainerSpec) and _is_checked(resource):
                await_condition(self.view, entry, "healthy", self.timeout)


def _is_checked(resource: Resource) -> bool:
    check = getattr(resource.spec, "healthcheck", None)
    return bool(check and check.test and not check.disable and check.test not in (["NONE"], "NONE"))


def _attempt(key: str, effect: Callable[[], str]) -> dict[str, Any]:
    """The remark of an effect, or why there was none, as plain values."""
    try:
        return {"key": key, "remark": effect()}
    except (SpecrunError, StartFailed) as error:
        status = getattr(error, "exit_status", 1)
        return {"key": key, "error": error.message, "hint": getattr(error, "hint", ""), "status": status}
    except OSError as error:
        return {"key": key, "error": str(error), "hint": "", "status": 1}


def _rank(key: str) -> int:
    """Deletions go by it: first what runs, then what it was given, then images, that containers may be made of."""
    kind = key.partition("/")[0]
    return 2 if kind in ("image", "build") else 0 if kind in ("container", "job", "registry", "push", "check") else 1


def _before(changes: dict[str, Change], graph: Graph) -> dict[str, set[str]]:
    """What each change has to wait for. Deletions come last, by their rank."""
    waiting: dict[str, set[str]] = {}
    gone = [key for key, change in changes.items() if change.action is Action.DELETE]
    makers = changes.keys() - set(gone)
    for key, change in changes.items():
        if change.action is Action.DELETE:
            waiting[key] = {*makers, *(other for other in gone if _rank(other) < _rank(key))}
        else:
            waiting[key] = _nearest(key, changes, graph)
    return waiting


def _nearest(key: str, changes: dict[str, Change], graph: Graph) -> set[str]:
    """The changes that must come first: those needed directly, and those that what is kept needs."""
    found: set[str] = set()
    seen: set[str] = set()
    look = list(graph.edges[key])
    while look:
        one = look.pop()
        if one in seen:
            continue
        seen.add(one)
        if one in changes:
            found.add(one)
        else:
            look += graph.edges.get(one, {})
    return found


def _remove(view: View, entry: Entry) -> str:
    """Remove an object; what was there before the project adopted it, and so has no token, stays."""
    if not entry.token:
        return "kept: it was there before"
    return kind_of(entry.kind).remove(view, entry)


def _news(key: str, remark: str) -> str:
    if remark == "-":
        return f"  {key}   was gone already"
    return f"  {key}   {remark}" if remark else f"- {key}   deleted"


def delete(view: View, record: Project, news: Callable[[str], None], parallel: int) -> int:
    """Remove everything that the project has made; gives the number of objects removed.

    An image that a container of somebody else uses stays, and is said to. Raises ApplyFailed for what can't be removed,
    when what was begun beside it has ended.
    """
    keys = [key for key in reversed(record.entries) if record.entries[key].kind in TABLE]
    entries = dict(record.entries)
    journal = Journal(view.root, record)
    removed = 0
    try:
        for rank in range(3):
            chosen = [key for key in keys if _rank(key) == rank]
            pool = Pool(
                min(parallel, len(chosen)) or 1,
                lambda task: _attempt(task["key"], lambda: _remove(view, entries[task["key"]])),
            )
            failure: dict[str, Any] | None = None
            try:
                while pool.busy or (chosen and failure is None):
                    while chosen and pool.free and failure is None:
                        pool.submit({"key": chosen.pop(0)})
                    result = pool.next()
                    if "error" in result:
                        failure = failure or result
                        continue
                    journal.forget(result["key"])
                    if result["remark"] != "-":
                        news(_news(result["key"], result["remark"]))
                        removed += not result["remark"]
            finally:
                pool.close()
            if failure is not None:
                raise ApplyFailed(f"{failure['key']}: {failure['error']}", hint=failure["hint"])
    finally:
        journal.close()
    record.remove(view.root)
    revisions.forget(view.root, record.name)
    return removed
