"""Jobs side by side: a few threads, each of which takes the next job when it is done with one."""

from __future__ import annotations

import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Self


class Lanes:
    """Use as a context, whose end drops the jobs that have not begun, and waits for the others."""

    def __init__(self, jobs: Iterable[Callable[[], None]], most: int) -> None:
        self._waiting = list(jobs)
        self._changed = threading.Condition()
        self._undone = len(self._waiting)
        self._failure: BaseException | None = None
        self._threads = [threading.Thread(target=self._work) for _ in range(min(most, self._undone))]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._waiting.clear()
        for thread in self._threads:
            thread.join()

    def wait(self) -> None:
        """Until all are done, or one has failed; raises what that has raised."""
        with self._changed:
            while self._undone and self._failure is None:
                self._changed.wait()
            if self._failure is not None:
                raise self._failure

    def _work(self) -> None:
        while job := self._next():
            failure = None
            try:
                job()
            except BaseException as error:
                failure = error
            with self._changed:
                self._undone -= 1
                if self._failure is None:
                    self._failure = failure
                self._changed.notify_all()

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            return self._waiting.pop(0) if self._waiting else None
