"""What every kind of monitor begins with: its manners, its one request, and its reports to whoever asked.

The request is read from a pipe on descriptor 3. Reports go to a channel on descriptor 4: `ready` (only of a fork that
was borrowed), `started` with `pid` and `start_time` (and the master of a terminal), `failed` with `step`, `message`,
`number` and `status`, and `exited` with `status`.
"""

from __future__ import annotations

import _signal
import os

from specrun_runtime import jsontext, libc
from specrun_runtime.channel import Channel
from specrun_runtime.errors import SpecError, StartFailed
from specrun_runtime.fds import read_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

REQUESTS, REPORTS = 3, 4


def settle() -> None:
    """Leave all that the caller's shell and session have to do with this process."""
    for number in (_signal.SIGHUP, _signal.SIGINT, _signal.SIGTERM):
        _signal.signal(number, _signal.SIG_IGN)
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)  # a caller that ignores it would have us wait in vain
    for descriptor in range(REPORTS + 1):
        os.set_inheritable(descriptor, False)
    os.umask(0o077)
    os.chdir("/")
    try:
        os.setpriority(os.PRIO_PROCESS, 0, 0)  # a container does not run slower for the shell that started it
    except PermissionError:
        pass  # without CAP_SYS_NICE nobody gets faster


def take_places(descriptors: list[int]) -> None:
    """In a fork: make the given five the descriptors 0 to 4, and let go of every other one."""
    high = list(descriptors)
    while min(high) <= REPORTS:
        high = [os.dup(descriptor) for descriptor in high]
    for target, source in enumerate(high):
        os.dup2(source, target)
    libc.close_range(REPORTS + 1)


def read_request() -> dict[str, Any] | None:
    """Wait for the request; None when the caller has taken it back."""
    text = read_all(REQUESTS, 8 << 20)
    os.close(REQUESTS)
    if not text:
        return None
    request: dict[str, Any] = jsontext.loads(text)
    return request


def say(report: dict[str, Any], descriptor: int = -1) -> None:
    """Send a report, if anybody still listens."""
    try:
        Channel.at(os.dup(REPORTS)).send(report, descriptor)
    except OSError:
        pass  # the command has ended, as it may


def explain(error: BaseException, step: str) -> dict[str, Any]:
    """What a report says of a failure: `step`, where the error does not know better, `number`, `status`, `message`."""
    number, status, message = getattr(error, "errno", 0) or 0, 125, str(error)
    if isinstance(error, StartFailed):
        step, number, status, message = error.step, error.number, error.status, error.message
    elif isinstance(error, SpecError):
        step = "read the configuration"
    elif not isinstance(error, OSError):
        frame = error.__traceback__
        while frame and frame.tb_next:
            frame = frame.tb_next
        where = f" (line {frame.tb_lineno} of {frame.tb_frame.f_code.co_filename})" if frame else ""
        message = f"{type(error).__name__}: {error}{where}"
    return {"step": step, "number": number, "status": status, "message": message}
