"""A container that this command has just started: its input is pumped, signals are forwarded, its end awaited."""

from __future__ import annotations

import _signal
import os
import select

from specrun.errors import SpecrunError
from specrun_runtime.fds import open_process, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun_runtime.launch import Monitor

_CHUNK = 65536


class Feed:
    """The writing end of a container's stdin: `number`, or -1 when there is none or it is closed."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def pump(self, source: int) -> bool:
        """Pass on one chunk of `source`; False, with the container's stdin closed, at the end of either side."""
        try:
            data = os.read(source, _CHUNK)
            if data:
                write_all(self.number, data)
                return True
        except OSError:
            pass  # our input is gone, or the container reads no more
        self.close()
        return False

    def close(self) -> None:
        """Close it, once."""
        if self.number >= 0:
            os.close(self.number)
            self.number = -1


class Running:
    """The command's end of a started container.

    `feed` is the writing end of the container's stdin, or -1. A signal that arrives before the container's first
    process is known is kept for it.
    """

    __slots__ = ("_feed", "_handle", "_monitor", "_pending", "container_id", "terminal")

    def __init__(self, container_id: str, monitor: Monitor, feed: int) -> None:
        self.container_id = container_id
        self._monitor = monitor
        self._feed = Feed(feed)
        self._handle = -1
        self.terminal = -1
        """The master of the container's terminal; -1 when it has none."""
        self._pending: list[int] = []

    def await_start(self) -> None:
        """Wait until the command executes. Raises specrun_runtime.errors.StartFailed."""
        report, self.terminal = self._monitor.await_start()
        self._handle = open_process(report["pid"], report["start_time"]) or -1
        for number in self._pending:
            self.forward(number)

    def forward(self, number: int) -> None:
        """Send a signal to the container's first process."""
        if self._handle < 0:
            self._pending.append(number)
            return
        try:
            _signal.pidfd_send_signal(self._handle, number)
        except ProcessLookupError:
            pass

    def detach(self) -> None:
        """Leave the container to its monitor."""
        self._feed.close()
        self._monitor.reports.close()
        for descriptor in (self._handle, self.terminal):
            if descriptor >= 0:
                os.close(descriptor)

    def reports(self) -> int:
        """The descriptor that becomes readable when the container has ended."""
        return self._monitor.reports.fileno()

    def wait(self, source: int | None = None) -> int:
        """Pump `source` into the container's stdin until the container ends; gives its exit status."""
        poll = select.poll()
        poll.register(self.reports(), select.POLLIN)
        pumping = source is not None and self._feed.number >= 0 and _register(poll, source)
        while pumping:
            ready = {number for number, _ in poll.poll()}
            if self.reports() in ready:
                break
            if source is not None and not self._feed.pump(source):
                poll.unregister(source)
                pumping = False
        return self.result()

    def relay(self, output: int, keys: bytes, *, typing: bool) -> int:
        """Between the caller's terminal and the container's until it ends or is left by `keys`; gives the exit status.

        `output` is what the container shows. Leaving it is success.
        """
        from specrun_runtime.relay import relay

        left = relay(0, self.terminal if typing else -1, output, 1, self.reports(), keys if typing else b"")
        os.close(output)
        if left:
            self.detach()
            return 0
        return self.result()

    def result(self) -> int:
        """Wait for the container's end; gives its exit status. Raises SpecrunError when nobody knows it."""
        report, _ = self._monitor.next_report()
        self._feed.close()
        self._monitor.reap()
        if report is None:
            raise SpecrunError(
                "the container's monitor was killed", hint="the next specrun command clears what it has left"
            )
        if report["event"] == "failed":
            raise SpecrunError(report["message"])
        return int(report["status"])

    def give_up(self) -> None:
        """After a failed start: let the monitor finish its clean-up."""
        self._feed.close()
        self._monitor.reap()


def _register(poll: select.poll, source: int) -> bool:
    try:
        poll.register(source, select.POLLIN)
    except OSError:
        return False
    return True
