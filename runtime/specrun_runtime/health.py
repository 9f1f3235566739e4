"""Health checks: a command that the monitor runs in the container again and again, and what its results mean.

The record is `health.json` in the container's folder: `Status`, `FailingStreak` and the last five results as `Log`,
by the names of Docker's inspect. It is about a running process, so a power cut may take it.
"""

from __future__ import annotations

import os
import time

from specrun_runtime import jsontext
from specrun_runtime.files import write_atomic

TYPE_CHECKING = False
if TYPE_CHECKING:
    import select
    from collections.abc import Callable
    from typing import Any

STARTING, HEALTHY, UNHEALTHY = "starting", "healthy", "unhealthy"
FILE = "health.json"
UNKNOWN = {"Status": STARTING, "FailingStreak": 0, "Log": []}
"""Of a container that has never run."""

_KEPT_RESULTS = 5
_LONGEST_OUTPUT = 4096


class Health:
    """The checks of one running container, as a part of its monitor's loop.

    `start` begins a probe that writes to the given descriptor and gives its pid; `tell` hears of a change of status;
    while the container `is_paused` nothing is done.
    Times of `settings` are in nanoseconds, as Docker's Healthcheck has them.
    """

    def __init__(
        self,
        settings: dict[str, Any],
        folder: str,
        poll: select.poll,
        start: Callable[[int], int],
        tell: Callable[[str], None],
        is_paused: Callable[[], bool],
    ) -> None:
        self.interval = (settings.get("Interval") or 30e9) / 1e9
        self.patience = (settings.get("Timeout") or 30e9) / 1e9
        self.start_period = (settings.get("StartPeriod") or 0) / 1e9
        self.start_interval = (settings.get("StartInterval") or 0) / 1e9 or self.interval
        self.retries = settings.get("Retries") or 3
        self.path = f"{folder}/{FILE}"
        self.poll = poll
        self.start = start
        self.tell = tell
        self.is_paused = is_paused
        self.status = STARTING
        self.failing = 0
        self.results: list[dict[str, Any]] = []
        self.began = time.monotonic()
        self.next = self.began + self._pause()
        self.probe: Probe | None = None
        self._save()

    def go_on(self, before: Health) -> None:
        """Other times for the same command: what `before` has found still holds."""
        self.began, self.status, self.failing, self.results = (
            before.began,
            before.status,
            before.failing,
            before.results,
        )
        self.next = before.next - before._pause() + self._pause()
        self._save()

    def timeout(self) -> float:
        """Milliseconds until `tick` has something to do."""
        return max(0.0, (self.probe.deadline if self.probe else self.next) - time.monotonic()) * 1000 + 1

    def tick(self) -> None:
        """Begin a probe when it is time to, and end one that takes too long."""
        now = time.monotonic()
        if now < (self.probe.deadline if self.probe else self.next):
            return
        if self.is_paused():  # nothing in the container moves: not even a killed probe would end
            if self.probe:
                self.probe.deadline = now + 1.0
            else:
                self.next = now + 1.0
        elif self.probe:
            seconds = f"{self.patience:g}s"
            self._judge(-1, f"Health check exceeded timeout ({seconds})", self._end(kill=True))
        else:
            try:
                self.probe = Probe(self.start, self.patience)
            except Exception as error:  # the container ends, or lacks the command
                self._judge(-1, str(error), _stamp())
                return
            self.poll.register(self.probe.handle, 1)
            self.poll.register(self.probe.output, 1)

    def heed(self, number: int) -> bool:
        """React to a descriptor that became readable; False when it is none of ours."""
        probe = self.probe
        if not probe or number not in (probe.handle, probe.output):
            return False
        if number == probe.output:
            if not probe.read():
                self.poll.unregister(number)
        else:
            while probe.read():
                continue
            began = self._end(kill=False)
            code = os.waitstatus_to_exitcode(probe.status)
            self._judge(128 - code if code < 0 else code, probe.text(), began)
        return True

    def stop(self) -> None:
        """End the checks with their container."""
        if self.probe:
            self._end(kill=True)

    def _end(self, *, kill: bool) -> str:
        """Let the probe go; gives when it began."""
        probe = self.probe
        assert probe is not None  # noqa: S101
        self.probe = None
        for number in (probe.handle, probe.output):
            try:
                self.poll.unregister(number)
            except KeyError:
                pass
        probe.close(kill=kill)
        return probe.began

    def _judge(self, code: int, output: str, began: str) -> None:
        """Docker's rules: failures of the start period do not count, unless the container was well already."""
        self.results = [
            *self.results[1 - _KEPT_RESULTS :],
            {"Start": began, "End": _stamp(), "ExitCode": code, "Output": output},
        ]
        before = self.status
        if code == 0:
            self.failing, self.status = 0, HEALTHY
        elif not (self.status == STARTING and time.monotonic() - self.began < self.start_period):
            self.failing += 1
            if self.failing >= self.retries:
                self.status = UNHEALTHY
        self.next = time.monotonic() + self._pause()
        self._save()
        if self.status != before:
            self.tell(self.status)

    def _pause(self) -> float:
        starting = self.status == STARTING and time.monotonic() - self.began < self.start_period
        return self.start_interval if starting else self.interval

    def _save(self) -> None:
        document = {"Status": self.status, "FailingStreak": self.failing, "Log": self.results}
        try:
            write_atomic(self.path, jsontext.dumps(document).encode(), durable=False)
        except OSError:
            pass  # a full disk must not end the container


class Probe:
    """One run of the command: its process by handle, and what it has written so far."""

    def __init__(self, start: Callable[[int], int], patience: float) -> None:
        self.began = _stamp()
        self.output, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            os.set_blocking(writer, True)
            self.pid = start(writer)
            self.handle = os.pidfd_open(self.pid)
        except BaseException:
            os.close(self.output)
            raise
        finally:
            os.close(writer)
        self.deadline = time.monotonic() + patience
        self.status = 0
        self._data = b""

    def read(self) -> bool:
        """Take what there is; False at the end, or when there is no more for now."""
        try:
            data = os.read(self.output, 65536)
        except OSError:
            return False
        self._data = (self._data + data)[:_LONGEST_OUTPUT]
        return bool(data)

    def text(self) -> str:
        """What it has written."""
        return self._data.decode("utf-8", "replace")

    def close(self, *, kill: bool) -> None:
        """End it if it has not ended, and reap it."""
        if kill:
            try:
                os.kill(self.pid, 9)
            except ProcessLookupError:
                pass
        try:
            self.status = os.waitpid(self.pid, 0)[1]
        except ChildProcessError:
            pass
        os.close(self.handle)
        os.close(self.output)


def load(folder: str) -> dict[str, Any] | None:
    """The record of the container in `folder`; None when there is none that can be read."""
    try:
        with open(f"{folder}/{FILE}", "rb") as file:
            document: dict[str, Any] = jsontext.loads(file.read())
    except (OSError, ValueError):
        return None
    return document


def _stamp() -> str:
    now = time.time()
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now % 1 * 1e9):09d}Z"
