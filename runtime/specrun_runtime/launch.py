"""Starting a monitor: a fresh, bare interpreter from a sealed file, so that no container can write to the host's."""

from __future__ import annotations

import fcntl
import os
import select
import sys

from specrun_runtime import jsontext
from specrun_runtime.channel import Channel, connect
from specrun_runtime.constants import F_ADD_SEALS, F_SEAL_ALL
from specrun_runtime.errors import IsolationError, StartFailed
from specrun_runtime.fds import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SOURCE_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_MFD_EXEC = 0x10
_BOOT = (
    "import gc, sys; gc.disable(); sys.path.append({path!r}); from specrun_runtime.{module} import {entry}; {entry}()"
)
FIRST_PRESERVED = 10
"""Where a monitor finds the descriptors that it is to hand on."""


class Monitor:
    """A monitor that waits for its request, and then reports. The caller owns both ends, and mostly the process."""

    __slots__ = ("asked", "pid", "reports", "requests")

    def __init__(self, pid: int, requests: int, reports: Channel) -> None:
        self.pid = pid
        """0 when it is another process's child."""
        self.requests = requests
        self.reports = reports
        self.asked = False
        """Whether it was sent its request."""

    def is_ready(self, patience: float) -> bool:
        """Whether a borrowed monitor waits for its request; False, and it is given up, after `patience` seconds."""
        poll = select.poll()
        poll.register(self.reports.fileno(), select.POLLIN)
        if poll.poll(patience * 1000) and self.next_report()[0]:
            return True
        self.reap()
        return False

    def begin(self, request: dict[str, Any]) -> None:
        """Send the request; the monitor starts to work on it."""
        self.asked = True
        try:
            write_all(self.requests, jsontext.dumps(request).encode())
        except BrokenPipeError:
            pass  # it ended already; its report, or the lack of one, says more than this would
        os.close(self.requests)
        self.requests = -1

    def next_report(self) -> tuple[dict[str, Any] | None, int]:
        """The next report, waited for, and the descriptor that came with it or -1; None when the monitor has ended."""
        return self.reports.receive()

    def await_start(self) -> tuple[dict[str, Any], int]:
        """The report of a successful start, with its `pid` and `start_time`, and the master of its terminal or -1.

        Raises StartFailed.
        """
        report, descriptor = self.next_report()
        if report is None:
            raise StartFailed("start the monitor", "the monitor ended without a word", 0, 125)
        if report["event"] == "failed":
            raise StartFailed(report["step"], report["message"], report["number"], report["status"])
        return report, descriptor

    def abandon(self) -> None:
        """Take the request back: a monitor that gets none ends by itself."""
        if self.requests >= 0:
            os.close(self.requests)
            self.requests = -1

    def reap(self) -> None:
        """Wait for the monitor to end, and close what is open."""
        self.abandon()
        self.reports.close()
        if self.pid:
            try:
                os.waitpid(self.pid, 0)
            except ChildProcessError:
                pass


def spawn(
    stdin: int,
    stdout: int,
    stderr: int,
    preserved: list[int] | None = None,
    *,
    label: str = "",
    supervisor: bool = False,
) -> Monitor:
    """Start a monitor whose descriptors 0, 1 and 2 are the given ones, and which can hand on the `preserved`.

    A `supervisor` (`specrun_runtime.supervise`) stays with a container of the engine; any other one does one of the
    errands of `specrun_runtime.errands`. `label` is among its arguments, so that `ps` and a test can tell whose it is.

    It is worth doing early: the interpreter takes some milliseconds to be ready, in which the caller can prepare
    the request.
    """
    request_reader, request_writer = os.pipe2(os.O_CLOEXEC)
    reports, far = Channel.pair()
    try:
        moves = [(stdin, 0), (stdout, 1), (stderr, 2), (request_reader, 3), (far.fileno(), 4)]
        moves += [(source, FIRST_PRESERVED + index) for index, source in enumerate(preserved or ())]
        pid = _start("supervise" if supervisor else "errands", "main", moves, label)
    except BaseException:
        os.close(request_writer)
        reports.close()
        raise
    finally:
        os.close(request_reader)
        far.close()
    return Monitor(pid, request_writer, reports)


def borrow(path: str, stdin: int, stdout: int, stderr: int) -> Monitor | None:
    """A monitor for one errand, as `spawn` gives it, forked from the one that listens at `path`; None where none does.

    Use it when it `is_ready`: the other one may be held up, by a terminal that takes no more output for example.
    """
    request_reader, request_writer = os.pipe2(os.O_CLOEXEC)
    reports, far = Channel.pair()
    try:
        lender = connect(path, wait=False)
        lender.send_many({"event": "lend"}, [stdin, stdout, stderr, request_reader, far.fileno()])
        lender.close()
    except OSError:
        os.close(request_writer)
        reports.close()
        return None
    finally:
        os.close(request_reader)
        far.close()
    return Monitor(0, request_writer, reports)


class Launcher:
    """Keeps a sealed interpreter ready, of which each monitor is a fork: for a program that starts many containers."""

    def __init__(self, label: str = "") -> None:
        self._orders, far = Channel.pair()
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._pid = _start("errands", "serve", [(null, 0), (null, 1), (2, 2), (far.fileno(), 3)], label)
        finally:
            os.close(null)
            far.close()

    def __enter__(self) -> Launcher:
        return self

    def __exit__(self, *_: object) -> None:
        """End the interpreter; monitors that it has forked go on."""
        self._orders.close()
        os.waitpid(self._pid, 0)

    def spawn(self, stdin: int, stdout: int, stderr: int) -> Monitor:
        """A new monitor, as `spawn` gives it."""
        request_reader, request_writer = os.pipe2(os.O_CLOEXEC)
        reports, far = Channel.pair()
        try:
            self._orders.send_many({"event": "spawn"}, [stdin, stdout, stderr, request_reader, far.fileno()])
        finally:
            os.close(request_reader)
            far.close()
        return Monitor(0, request_writer, reports)


def _start(module: str, entry: str, moves: list[tuple[int, int]], label: str) -> int:
    """A fresh interpreter that calls `entry` of `module`, with descriptors moved as told; gives its pid."""
    # Copies above all targets first, so that no move overwrites the source of a later one.
    floor = FIRST_PRESERVED + len(moves) + 10
    image = sealed_interpreter(floor)
    boot = _BOOT.format(path=_SOURCE_ROOT, module=module, entry=entry)
    high = [fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, floor) for source, _ in moves]
    try:
        return os.posix_spawn(
            f"/proc/self/fd/{image}",
            [base_interpreter(), "-I", "-S", "-X", "utf8", "-c", boot, label],
            {},
            file_actions=[(os.POSIX_SPAWN_DUP2, copy, to) for copy, (_, to) in zip(high, moves, strict=True)],
            setsid=True,
        )
    except OSError as error:
        raise IsolationError.of(error.errno or 5, "posix_spawn", base_interpreter()) from error
    finally:
        for descriptor in [*high, image]:
            os.close(descriptor)


def base_interpreter() -> str:
    """The interpreter's own file, without the virtual environment in front of it."""
    return os.path.realpath(sys.executable)


def sealed_interpreter(floor: int = 20) -> int:
    """The interpreter, as a file that nobody can write to, whatever their rights (CVE-2019-5736).

    The descriptor is close-on-exec and numbered `floor` or more.
    """
    try:
        sealed = _seen_through_overlay()
    except OSError:  # overlays may not be nested as deep as this, or not be made without the host's root
        sealed = _copied_to_memory()
    high = fcntl.fcntl(sealed, fcntl.F_DUPFD_CLOEXEC, floor)
    os.close(sealed)
    return high


def _seen_through_overlay() -> int:
    """The file in an overlay that is attached nowhere, and has no writable layer.

    Nothing is copied, and all monitors share the pages of the one file. Raises IsolationError.
    """
    from specrun_runtime import mounts  # not for those who only borrow

    folder, name = os.path.split(base_interpreter())
    with mounts.new_view([folder, os.path.dirname(os.__file__)]) as view:
        return os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=view.number)


def _copied_to_memory() -> int:
    """A sealed copy in memory (memfd_create(2))."""
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
    return memory
