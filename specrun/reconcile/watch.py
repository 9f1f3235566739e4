"""A controller in the foreground: looks again and again, and mends what is not as the specs say.

What fails, or has to be mended again at once, is tried with growing patience: nothing is hammered.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from specrun.errors import Conflict, SpecrunError
from specrun.paths import Root
from specrun.reconcile.changes import Choice, Plan
from specrun.reconcile.kinds.base import Output
from specrun.reconcile.project import locked
from specrun.reconcile.session import applier, look

if TYPE_CHECKING:
    from specrun.spec.loader import Specs

LONGEST = 60.0
"""Seconds between two tries of something that does not succeed."""


@dataclass
class Patience:
    """When each object may be touched again."""

    first: float
    tries: dict[str, int] = field(default_factory=dict)
    until: dict[str, float] = field(default_factory=dict)

    def admits(self, key: str, now: float) -> bool:
        """Whether it is its turn."""
        return now >= self.until.get(key, 0.0)

    def tried(self, key: str, now: float) -> None:
        """It was touched: twice the time until the next."""
        count = self.tries[key] = self.tries.get(key, 0) + 1
        self.until[key] = now + min(LONGEST, self.first * 2 ** (count - 1))

    def calm(self, key: str, now: float) -> None:
        """Nothing had to be done; after as long a time as it was held back, it is as if nothing had been."""
        if key in self.tries and now > self.until[key] + self.first * 2 ** self.tries[key]:
            del self.tries[key], self.until[key]

    def rest(self, now: float) -> None:
        """Nothing at all had to be done."""
        for key in list(self.tries):
            self.calm(key, now)


def watch(
    root: Root,
    is_settled: Callable[[], bool],
    read: Callable[[], Specs],
    choice: Choice,
    output: Output,
    *,
    interval: float,
    parallel: int,
    timeout: float,
    over: Callable[[float], bool],
) -> None:
    """Until `over` (which waits that many seconds) says so.

    Specs are read anew each time, unless `is_settled` knows that nothing would come of it.
    """
    patience = Patience(interval)
    said = ""
    while True:
        try:
            if is_settled():
                patience.rest(time.monotonic())
            else:
                _round(root, read(), choice, output, patience, parallel, timeout)
            said = ""
        except (SpecrunError, OSError) as error:
            message = getattr(error, "message", "") or str(error)
            if message != said:  # once is enough
                output.news(f"! {message}")
            said = message
        if over(interval):
            return


def _round(
    root: Root, specs: Specs, choice: Choice, output: Output, patience: Patience, parallel: int, timeout: float
) -> None:
    if not look(root, specs, choice).plan.needed:  # without the lock: looking disturbs nobody
        patience.rest(time.monotonic())
        return
    try:
        with locked(root, specs.project):
            session = look(root, specs, choice)
            now = time.monotonic()
            changes = [change for change in session.plan.changes if patience.admits(change.key, now)]
            plan = Plan(session.plan.project, changes)
            for change in plan.needed:
                output.news(f"{change.action.value} {change.key}   {change.action.word}: {change.reason}")
                patience.tried(change.key, now)
            applier(root, session, output, parallel=parallel, timeout=timeout).apply(plan)
    except Conflict as error:
        if "is being changed by" not in error.message:
            raise  # otherwise somebody else is at it; the next round sees what became of it
