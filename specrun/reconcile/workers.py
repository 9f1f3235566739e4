"""Several operations at once: processes that are forked when they are needed, and do one task after the other.

Processes and not threads: starting a container forks, and a fork of a process with threads may hang for ever. A
worker dies with the command that has made it, so that nobody goes on in its name.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
from collections.abc import Callable
from typing import Any

from specrun_runtime import libc
from specrun_runtime.constants import Prctl

Perform = Callable[[dict[str, Any]], dict[str, Any]]
"""Does a task and gives its result; both are plain values. Raises nothing."""


class Pool:
    """At most `size` tasks at once; with one, everything is done in this process."""

    def __init__(self, size: int, perform: Perform) -> None:
        self._size = size
        self._perform = perform
        self._workers: list[_Worker] = []
        self._done: list[dict[str, Any]] = []

    @property
    def free(self) -> int:
        """How many more tasks may be given now."""
        return self._size - sum(worker.busy for worker in self._workers) - len(self._done)

    @property
    def busy(self) -> bool:
        """Whether results are to come."""
        return bool(self._done) or any(worker.busy for worker in self._workers)

    def submit(self, task: dict[str, Any]) -> None:
        """Begin a task."""
        if self._size == 1:
            self._done.append(self._perform(task))
            return
        worker = next((one for one in self._workers if not one.busy), None)
        if worker is None:
            gc.freeze()  # what the worker never writes to is not copied
            worker = _Worker(self._perform, [other for one in self._workers for other in one.descriptors])
            self._workers.append(worker)
        worker.begin(task)

    def next(self) -> dict[str, Any]:
        """Wait for a result. Raises ChildProcessError for a worker that died of its task."""
        if self._done:
            return self._done.pop(0)
        poll = select.poll()
        for worker in self._workers:
            if worker.busy:
                poll.register(worker.results, select.POLLIN)
        ready = {descriptor for descriptor, _ in poll.poll()}
        worker = next(one for one in self._workers if one.results in ready)
        return worker.result()

    def close(self) -> None:
        """End all workers, and wait for them."""
        for worker in self._workers:
            worker.close()
        self._workers = []


class _Worker:
    def __init__(self, perform: Perform, others: list[int]) -> None:
        reader, self.tasks = os.pipe2(os.O_CLOEXEC)
        self.results, writer = os.pipe2(os.O_CLOEXEC)
        self.busy = False
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                libc.prctl(Prctl.SET_PDEATHSIG, signal.SIGKILL)
                if os.getppid() != parent:
                    os._exit(1)
                for descriptor in (*others, self.tasks, self.results):
                    os.close(descriptor)
                _work(reader, writer, perform)
            finally:
                os._exit(1)
        os.close(reader)
        os.close(writer)

    @property
    def descriptors(self) -> tuple[int, int]:
        """What a sister process must not hold."""
        return self.tasks, self.results

    def begin(self, task: dict[str, Any]) -> None:
        self.busy = True
        os.write(self.tasks, json.dumps(task).encode() + b"\n")

    def result(self) -> dict[str, Any]:
        data = b""
        while not data.endswith(b"\n"):
            piece = os.read(self.results, 1 << 16)
            if not piece:
                raise ChildProcessError(f"a worker (pid {self.pid}) died of its task")
            data += piece
        self.busy = False
        found: dict[str, Any] = json.loads(data)
        return found

    def close(self) -> None:
        os.close(self.tasks)
        os.close(self.results)
        os.waitpid(self.pid, 0)


def _work(reader: int, writer: int, perform: Perform) -> None:
    """The whole life of a worker: until nobody has tasks any more."""
    data = b""
    while True:
        while b"\n" not in data:
            piece = os.read(reader, 1 << 16)
            if not piece:
                os._exit(0)
            data += piece
        line, _, data = data.partition(b"\n")
        os.write(writer, json.dumps(perform(json.loads(line))).encode() + b"\n")
