"""One claim: a subject, what is expected of it, and how long to wait until it holds."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from specrun.checks.matchers import BadExpectation, Matcher
from specrun.errors import SpecrunError

if TYPE_CHECKING:
    from specrun.checks.subjects import Subject
    from specrun.engine.containers import Engine


class Result:
    """What came of a check; `problem` is "" when it holds."""

    __slots__ = ("name", "problem", "seconds")

    def __init__(self, name: str, problem: str, seconds: float) -> None:
        self.name = name
        self.problem = problem
        self.seconds = seconds

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "holds": not self.problem,
            "problem": self.problem,
            "seconds": round(self.seconds, 3),
        }


class Check:
    """A claim with a name. Raises BadExpectation for a fact that the subject does not have."""

    def __init__(self, name: str, subject: Subject, expected: dict[str, Any], eventually: float = 0.0) -> None:
        self.name = name
        self.subject = subject
        self.eventually = eventually
        """Seconds to wait for it; 0 for no wait."""
        if not expected:
            raise BadExpectation("nothing is expected, so this claim can't fail")
        for fact in expected:
            if fact not in subject.facts:
                raise BadExpectation(f"{fact}: unknown fact, expected one of {', '.join(subject.facts)}", (fact,))
        self.matchers = {fact: Matcher.parse(wanted, (fact,)) for fact, wanted in expected.items()}

    def run(self, engine: Engine) -> Result:
        """Look until it holds, the time is over, or waiting is in vain."""
        began = time.monotonic()
        while True:
            problem = self._problem(engine)
            passed = time.monotonic() - began
            if not problem or passed >= self.eventually:
                late = f"not within {self.eventually:g} s: " if problem and self.eventually else ""
                return Result(self.name, f"{late}{problem}" if problem else "", passed)
            if why := self.subject.ended(engine):
                return Result(self.name, f"{problem}\n{why}", passed)
            time.sleep(min(0.1, self.eventually))

    def _problem(self, engine: Engine) -> str:
        try:
            found = self.subject.look(engine, set(self.matchers))
        except SpecrunError as error:
            return error.message
        except OSError as error:
            return str(error)
        for fact, matcher in self.matchers.items():
            if fact not in found:
                return f"{self.subject.describe()}: {fact} is not known, because it does not exist"
            if problem := matcher.problem(found[fact]):
                return f"{self.subject.describe()}: {fact}: {problem}"
        return ""
