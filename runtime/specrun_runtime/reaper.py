"""A small first process in front of the command (Docker's `--init`): it passes signals on and reaps orphans."""

from __future__ import annotations

import _signal
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from specrun_runtime.channel import Channel


def stand_before(channel: Channel) -> None:
    """Fork: the child returns, to become the command in a process group of its own; this process stays as the first.

    `channel` is closed here, so that its end still says that the command executes.
    """
    everything = _signal.valid_signals()
    _signal.pthread_sigmask(_signal.SIG_BLOCK, everything)  # none is lost between the fork and the first wait
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        if os.isatty(0):
            os.tcsetpgrp(0, os.getpid())
        _signal.pthread_sigmask(_signal.SIG_SETMASK, [])
        return
    channel.close()
    os.closerange(0, 3)
    _attend(child)


def _attend(child: int) -> NoReturn:
    while True:
        number = _signal.sigwaitinfo(_signal.valid_signals()).si_signo
        if number == _signal.SIGCHLD:
            _reap(child)
            continue
        try:
            os.kill(child, number)
        except ProcessLookupError:
            pass  # its end is the next signal


def _reap(child: int) -> None:
    """Collect all that have ended; the end of the command is ours."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            os._exit(128 - code if code < 0 else code)
