"""One look at one project: its specs, its record, what is there, and the plan of it. What the verbs begin with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from specrun.errors import SpecrunError
from specrun.paths import Root
from specrun.reconcile import project
from specrun.reconcile.apply import Applier
from specrun.reconcile.changes import Choice, Observed, Plan
from specrun.reconcile.graph import Graph, graph
from specrun.reconcile.kinds import check_supported
from specrun.reconcile.kinds.base import Output, View
from specrun.reconcile.observe import observe
from specrun.reconcile.plan import plan
from specrun.reconcile.project import Project

if TYPE_CHECKING:
    from specrun.spec.loader import Specs


@dataclass(frozen=True)
class Session:
    """A project as it was looked at."""

    specs: Specs
    record: Project
    graph: Graph
    observed: Observed
    plan: Plan


EVERYTHING = Choice()


def look(root: Root | None, specs: Specs, choice: Choice = EVERYTHING, *, salt: str = "") -> Session:
    """Observe and plan; writes nothing. Raises SpecrunError for what can't be done.

    `salt` is that of a saved plan, for a project that has no record yet.
    """
    check_supported(specs)
    for target in choice.targets:
        if target not in specs.resources:
            raise SpecrunError(f"--target {target}: there is no such object in these specs", hint=_known(specs))
    record = project.load(root, specs.project)
    if salt and not record.entries:
        record.salt = salt
    ordered = graph(specs)
    observed = observe(root, specs, record)
    made = plan(specs, observed, record, targets=list(choice.targets), prune=choice.prune, made=ordered)
    return Session(specs, record, ordered, observed, made)


def _known(specs: Specs) -> str:
    return f"targets are {', '.join(list(specs.resources)[:8])}"


def applier(root: Root, session: Session, output: Output, *, parallel: int, timeout: float) -> Applier:
    """What makes the session's plan true."""
    view = View(root, session.specs, session.record)
    return Applier(view, session.graph, session.observed, output, parallel=parallel, timeout=timeout)
