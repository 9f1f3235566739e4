"""Starting a monitor: a fresh, bare interpreter from a sealed copy, so that no container can reach the host's."""

from __future__ import annotations

import fcntl
import json
import os
import sys

from specrun_runtime.constants import F_ADD_SEALS, F_SEAL_ALL
from specrun_runtime.errors import IsolationError, StartFailed
from specrun_runtime.fds import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SOURCE_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_MFD_EXEC = 0x10
_BOOT = "import sys; sys.path.append({path!r}); from specrun_runtime.monitor import main; main()"


class Monitor:
    """A monitor that waits for its request, and then reports. The caller owns both descriptors and the child."""

    __slots__ = ("_buffer", "asked", "pid", "reports", "requests")

    def __init__(self, pid: int, requests: int, reports: int) -> None:
        self.pid = pid
        self.requests = requests
        self.reports = reports
        self.asked = False
        """Whether it was sent its request."""
        self._buffer = b""

    def begin(self, request: dict[str, Any]) -> None:
        """Send the request; the monitor starts the container."""
        self.asked = True
        try:
            write_all(self.requests, json.dumps(request).encode())
        except BrokenPipeError:
            pass  # it ended already; its report, or the lack of one, says more than this would
        os.close(self.requests)
        self.requests = -1

    def next_report(self) -> dict[str, Any] | None:
        """The next report, waited for; None when the monitor has ended."""
        while b"\n" not in self._buffer:
            part = os.read(self.reports, 65536)
            if not part:
                return None
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        report: dict[str, Any] = json.loads(line)
        return report

    def has_report(self) -> bool:
        """Whether a whole report was read already."""
        return b"\n" in self._buffer

    def await_start(self) -> dict[str, Any]:
        """The report of a successful start: its `pid` and `start_time`. Raises StartFailed."""
        report = self.next_report()
        if report is None:
            raise StartFailed("start the monitor", "the monitor ended without a word", 0, 125)
        if report["event"] == "failed":
            raise StartFailed(report["step"], report["message"], report["number"], report["status"])
        return report

    def abandon(self) -> None:
        """Take the request back: a monitor that gets none ends by itself."""
        if self.requests >= 0:
            os.close(self.requests)
            self.requests = -1

    def reap(self) -> None:
        """Wait for the monitor to end, and close what is open."""
        self.abandon()
        os.close(self.reports)
        try:
            os.waitpid(self.pid, 0)
        except ChildProcessError:
            pass


def spawn(stdin: int, stdout: int, stderr: int) -> Monitor:
    """Start a monitor whose descriptors 0, 1 and 2 are the given ones.

    It is worth doing early: the interpreter takes some milliseconds to be ready, in which the caller can prepare
    the request.
    """
    request_reader, request_writer = os.pipe2(os.O_CLOEXEC)
    report_reader, report_writer = os.pipe2(os.O_CLOEXEC)
    given = [request_reader, report_writer]
    image = sealed_interpreter()
    try:
        arguments = [base_interpreter(), "-I", "-S", "-X", "utf8", "-c", _BOOT.format(path=_SOURCE_ROOT)]
        moves = [(stdin, 0), (stdout, 1), (stderr, 2), (request_reader, 3), (report_writer, 4)]
        # Copies above all targets first, so that no move overwrites the source of a later one.
        high = [fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, 20) for source, _ in moves]
        given += high
        pid = os.posix_spawn(
            f"/proc/self/fd/{image}",
            arguments,
            {},
            file_actions=[(os.POSIX_SPAWN_DUP2, copy, to) for copy, (_, to) in zip(high, moves, strict=True)],
            setsid=True,
        )
    except OSError as error:
        os.close(request_writer)
        os.close(report_reader)
        raise IsolationError.of(error.errno or 5, "posix_spawn", base_interpreter()) from error
    finally:
        for descriptor in [*given, image]:
            os.close(descriptor)
    return Monitor(pid, request_writer, report_reader)


def base_interpreter() -> str:
    """The interpreter's own file, without the virtual environment in front of it."""
    return os.path.realpath(sys.executable)


def sealed_interpreter() -> int:
    """A copy of the interpreter in memory that nobody can write to (memfd_create(2), CVE-2019-5736).

    The descriptor is close-on-exec and numbered 20 or more.
    """
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        memory = os.memfd_create("specrun-monitor", flags | _MFD_EXEC)
    except OSError:  # before Linux 6.3 the flag is unknown
        memory = os.memfd_create("specrun-monitor", flags)
    with open(base_interpreter(), "rb", buffering=0) as source:
        left = os.fstat(source.fileno()).st_size
        while left:
            left -= os.sendfile(memory, source.fileno(), None, left)
    fcntl.fcntl(memory, F_ADD_SEALS, F_SEAL_ALL)
    high = fcntl.fcntl(memory, fcntl.F_DUPFD_CLOEXEC, 20)
    os.close(memory)
    return high
