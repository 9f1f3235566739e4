"""The stages of a build, independent ones at the same time: each in a process of its own, forked when it can begin.

Processes and not threads: a step starts a container, which forks. A worker tells what it does over a channel; what it
has made is a file in the build's folder. The first failure ends the others. Where only one stage can be made it is
made in the build's own process, so that a build of one stage forks nothing.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import sys
import time

from specrun.build.errors import BuildFailed
from specrun.build.layering import StageState
from specrun.build.progress import Progress, Spool
from specrun.build.stage import StageBuilder, Work
from specrun.errors import Place, SpecrunError
from specrun_runtime import libc
from specrun_runtime.channel import Channel
from specrun_runtime.constants import Prctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any, NoReturn

    from specrun.build.executor import Build, Plan

MOST = max(4, 2 * (os.cpu_count() or 1))
"""How many stages are made at once."""
_GRACE = 10.0
"""Seconds that a worker has to remove its container."""
_CHUNK = 1 << 16
_LAST = ("removed", "failed")
"""What is told when a command has ended: it writes nothing more."""
_LONGEST = 16 << 10
"""Letters of a text that is only shown: a message has to fit into the channel's buffer."""


class Crew:
    """Makes the stages of `plans`, which are in an order in which each comes after what it needs."""

    def __init__(self, build: Build, plans: list[Plan], progress: Progress) -> None:
        self._build = build
        self._progress = progress
        self._waiting = list(plans)
        self._workers: list[_Worker] = []
        self._turns = [plan.stage.number for plan in plans]
        """The stages whose output is not shown to its end yet, in order; the first one's is shown as it comes."""
        self._spools: dict[int, Spool] = {}

    def run(self) -> None:
        """Make all of them; `build` has their states and keys afterwards. Raises the first SpecrunError of any."""
        try:
            while self._waiting or self._workers:
                ready = [plan for plan in self._waiting if self._can_begin(plan)]
                live = self._progress.interval is not None
                if not self._workers and not live and len(ready) == 1:
                    self._make_here(ready[0])
                    continue
                for plan in ready[: MOST - len(self._workers)]:
                    self._start(plan)
                self._listen()
        except BaseException:
            self._end()
            raise

    def _can_begin(self, plan: Plan) -> bool:
        return all(number in self._build.states for number in self._build.graph.needs[plan.stage.number])

    def _make_here(self, plan: Plan) -> None:
        self._waiting.remove(plan)
        self._build.make(plan)
        self._turns.remove(plan.stage.number)

    def _start(self, plan: Plan) -> None:
        self._waiting.remove(plan)
        number = plan.stage.number
        spool = self._spools[number] = Spool(self._progress.write, self._build.folder)
        if number == self._turns[0]:
            spool.take_turn()
        progress = self._progress.beside(spool.write, plan.stage.name or str(number))
        others = [descriptor for worker in self._workers for descriptor in worker.descriptors]
        self._workers.append(_Worker(self._build, plan, progress, spool, others))

    def _listen(self) -> None:
        """Wait for the next thing that is told, and pass it on."""
        poll = select.poll()
        for worker in self._workers:
            for descriptor in worker.descriptors:
                poll.register(descriptor, select.POLLIN)
        interval = self._progress.interval
        ready = {descriptor for descriptor, _ in poll.poll(None if interval is None else interval * 1000)}
        for worker in list(self._workers):
            if worker.reader in ready:
                worker.pass_on()
            if worker.channel.fileno() in ready and worker.hear():
                self._finish(worker)
        self._progress.tick()

    def _finish(self, worker: _Worker) -> None:
        build, number = self._build, worker.plan.stage.number
        self._workers.remove(worker)
        document = worker.result()
        build.states[number] = StageState.recall(document["state"])
        build.keys[number] = document["keys"]
        build.scope.declared.update(document["declared"])
        build.explainer.seen.update(document["seen"])
        while self._turns and self._turns[0] in build.states:
            self._spools.pop(self._turns.pop(0)).take_turn()
        if self._turns and (head := self._spools.get(self._turns[0])):
            head.take_turn()

    def _end(self) -> None:
        """End all workers. They remove their containers; what one that had to be killed has left is removed here."""
        for worker in self._workers:
            worker.signal(signal.SIGTERM)
        deadline = time.monotonic() + _GRACE
        for worker in self._workers:
            while not worker.has_ended() and time.monotonic() < deadline:
                time.sleep(0.01)
            worker.signal(signal.SIGKILL)
            worker.close()
        if self._workers:
            from specrun.build.running import remove_containers, written_down

            remove_containers(self._build.root, written_down(self._build.folder))
        for spool in self._spools.values():
            spool.close()
        self._workers = []


class _Worker:
    """A process that makes one stage, seen from the build's."""

    def __init__(self, build: Build, plan: Plan, progress: Progress, spool: Spool, others: list[int]) -> None:
        self.plan = plan
        self.progress = progress
        self.spool = spool
        self.reader = -1
        """Where the output of its running command comes from; -1 while none runs."""
        self._folder = f"{build.folder}/stage{plan.stage.number}"
        os.mkdir(self._folder, 0o700)
        self.channel, far = Channel.pair()
        sys.stdout.flush()
        gc.freeze()  # what the worker never writes to is not copied
        parent = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                libc.prctl(Prctl.SET_PDEATHSIG, signal.SIGTERM)
                if os.getppid() == parent:
                    for descriptor in (*others, self.channel.fileno()):
                        os.close(descriptor)
                    _work(build, plan, self._folder, far)
            finally:
                os._exit(1)
        far.close()

    @property
    def descriptors(self) -> list[int]:
        """What is listened to."""
        return [self.channel.fileno(), *([self.reader] if self.reader >= 0 else [])]

    def pass_on(self) -> bool:
        """Pass on what its command has written; False when that is nothing more."""
        try:
            data = os.read(self.reader, _CHUNK)
        except BlockingIOError:
            return False
        if data:
            self.progress.output(data)
            return True
        os.close(self.reader)
        self.reader = -1
        return False

    def hear(self) -> bool:
        """Pass on what it tells; whether it is done. Raises what it has failed of."""
        message, descriptor = self.channel.receive()
        while self.reader >= 0 and self.pass_on():
            continue  # what was written before it told this
        event = message["event"] if message else "end"
        if event == "output":
            self.reader = descriptor
            os.set_blocking(descriptor, False)
            return False
        if event in _LAST and self.reader >= 0:
            os.close(self.reader)
            self.reader = -1
        if event == "error" and message:
            self.spool.take_turn()
            raise _recall(message)
        if event == "end":
            raise SpecrunError(
                f"the process that made stage {self.plan.stage.name or self.plan.stage.number} was killed"
            )
        if event == "done":
            return True
        if message:
            getattr(self.progress, event)(*message["with"])
        return False

    def result(self) -> dict[str, Any]:
        """What it has made."""
        self.close()
        with open(f"{self._folder}/result.json", encoding="ascii") as file:
            document: dict[str, Any] = json.load(file)
        return document

    def signal(self, number: int) -> None:
        """Send it a signal, if it has not ended."""
        if self._pid:
            os.kill(self._pid, number)

    def has_ended(self) -> bool:
        """Whether it has ended; then it is reaped."""
        if self._pid and os.waitpid(self._pid, os.WNOHANG)[0]:
            self._pid = 0
        return not self._pid

    def close(self) -> None:
        """Wait for its end, and close what is open."""
        if self._pid:
            os.waitpid(self._pid, 0)
            self._pid = 0
        self.channel.close()
        self.progress.close()
        if self.reader >= 0:
            os.close(self.reader)
            self.reader = -1


class _Ended(BaseException):
    """The build wants no more of this worker."""


def _ended(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _Ended


def _work(build: Build, plan: Plan, folder: str, channel: Channel) -> None:
    """The whole life of a worker."""
    signal.signal(signal.SIGTERM, _ended)
    signal.signal(signal.SIGINT, lambda *_: None)  # of a terminal; the build decides what comes of it
    try:
        needed = {stage.number for stage in build.graph.order(plan.stage)}
        states = {number: state for number, state in build.states.items() if number in needed}
        build.explainer.seen = {}
        work = Work(build, folder, states, mounting=build.mounting)
        builder = StageBuilder(work, plan, _Reporter(channel))
        try:
            state = builder.run()
        finally:
            work.close()
        document = {
            "state": state.document_for_recall(),
            "keys": builder.keys,
            "declared": sorted(build.scope.declared),
            "seen": build.explainer.seen,
        }
        with open(f"{folder}/result.json", "x", encoding="ascii") as file:
            json.dump(document, file)
        channel.send({"event": "done"})
    except _Ended:
        pass
    except BrokenPipeError:
        pass  # the build is gone
    except Exception as error:
        channel.send(_facts(error))
    os._exit(0)


class _Reporter(Progress):
    """What a worker tells: every call becomes a message. A command's output goes through a pipe of its own."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(lambda _: None)
        self._channel = channel
        self._writer = -1

    def _tell(self, name: str, arguments: tuple[Any, ...]) -> None:
        if name in _LAST:
            self._close()
        clipped = [text[:_LONGEST] if isinstance(text, str) else text for text in arguments]
        self._channel.send({"event": name, "with": clipped})

    def streams(self) -> tuple[int, int]:
        """A new pipe, whose other end goes to the build."""
        self._close()
        reader, self._writer = os.pipe2(os.O_CLOEXEC)
        try:
            self._channel.send({"event": "output"}, reader)
        finally:
            os.close(reader)
        return self._writer, self._writer

    def _close(self) -> None:
        if self._writer >= 0:
            os.close(self._writer)
            self._writer = -1


def _telling(name: str) -> Callable[..., None]:
    def tell(self: _Reporter, *arguments: Any) -> None:
        self._tell(name, arguments)

    return tell


for _name in ("step", "note", "cached", "running", "removed", "made", "explain", "failed"):
    setattr(_Reporter, _name, _telling(_name))


def _facts(error: Exception) -> dict[str, Any]:
    """An error as plain values."""
    known = isinstance(error, SpecrunError)
    place = getattr(error, "place", None)
    return {
        "event": "error",
        "known": known,
        "message": error.message if isinstance(error, SpecrunError) else f"{type(error).__name__}: {error}",
        "code": getattr(error, "code", ""),
        "hint": getattr(error, "hint", ""),
        "status": getattr(error, "exit_status", 1),
        "place": [place.file, place.line, place.column, place.source[:_LONGEST], place.width] if place else None,
        "trace": "" if known else _trace(error),
    }


def _trace(error: Exception) -> str:
    import traceback

    return "".join(traceback.format_exception(error))[-_LONGEST:]


def _recall(facts: dict[str, Any]) -> Exception:
    """The error that the facts are of."""
    if not facts["known"]:
        unknown = RuntimeError(facts["message"])
        unknown.add_note(facts["trace"])
        return unknown
    error = BuildFailed(facts["message"], hint=facts["hint"], exit_status=facts["status"])
    error.code = facts["code"]
    error.place = Place(*facts["place"]) if facts["place"] else None
    return error
