"""Between a person's terminal and a container's: what is typed, what is shown, and the size of the window."""

from __future__ import annotations

import os
import select
import signal

from specrun_runtime import terminal
from specrun_runtime.fds import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CHUNK = 65536


def relay(keyboard: int, into: int, output: int, screen: int, ended: int, keys: bytes = b"") -> bool:
    """Copy `keyboard` into the terminal `into` and `output` to `screen` until the output ends; True when detached.

    `into` is the master of the container's terminal, or -1 when nothing is to be typed; `output` may be the same
    one, or a pipe. When `ended` becomes readable the container has ended, and what is left of its output is copied.
    `keys` are those that detach. A `keyboard` that is a terminal is in raw mode while this runs, and the container's
    terminal gets the size of its window, also when that changes.
    """
    if not os.isatty(keyboard):
        return _copy(keyboard, into, output, screen, ended, terminal.DetachKeys(keys))

    def resize(*_: object) -> None:
        try:
            terminal.set_size(into, *terminal.size(keyboard))
        except OSError:
            pass  # one of the two has just gone

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)  # by way of the end of raw mode

    # Whoever forwards these to the container goes on doing so.
    ends = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) == signal.SIG_DFL]
    handlers: dict[int, Any] = dict.fromkeys(ends, leave)
    if into >= 0:
        handlers[signal.SIGWINCH] = resize
        resize()
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        with terminal.RawMode(keyboard):
            return _copy(keyboard, into, output, screen, ended, terminal.DetachKeys(keys))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _copy(keyboard: int, into: int, output: int, screen: int, ended: int, keys: terminal.DetachKeys) -> bool:
    poll = select.poll()
    poll.register(output, select.POLLIN)
    poll.register(ended, select.POLLIN)
    if into >= 0:
        poll.register(keyboard, select.POLLIN)
    while True:
        ready = {number for number, _ in poll.poll()}
        if output in ready and not _show(output, screen):
            return False
        if ended in ready and output not in ready:
            os.set_blocking(output, False)
            while _show(output, screen):
                continue
            return False
        if keyboard in ready:
            data = _read(keyboard)
            data, detached = keys.feed(data) if data else (b"\x04", False)  # the end of a file is typed as ctrl-d
            if data == b"\x04":
                poll.unregister(keyboard)
            try:
                write_all(into, data)
            except OSError:
                poll.unregister(keyboard)
            if detached:
                return True


def _show(output: int, screen: int) -> bool:
    data = _read(output)
    if data:
        write_all(screen, data)
    return bool(data)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, _CHUNK)
    except OSError:  # EIO: nobody uses the terminal any more; EAGAIN: no more for now
        return b""
