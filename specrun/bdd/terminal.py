"""A command in a real terminal: typed into, and read from."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from specrun.bdd.world import World


class Terminal:
    """A pseudoterminal of 24 lines and 80 columns with a command on it."""

    def __init__(self, world: World, line: str) -> None:
        self.line = line
        self.shown = ""
        """All that was printed so far, line ends as `\\n`."""
        self._master, other = pty.openpty()
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        try:
            self.process = subprocess.Popen(
                [*world.engine.prefix, "setsid", "--ctty", "--wait", "bash", "-c", world.engine.enter + line],
                env={**world.engine.environment, "TERM": "xterm"},
                cwd=world.current,
                stdin=other,
                stdout=other,
                stderr=other,
            )
        finally:
            os.close(other)

    def type(self, text: str) -> None:
        """Send keys."""
        os.write(self._master, text.encode())

    def await_text(self, text: str, seconds: float) -> bool:
        """Whether `text` is printed within `seconds`."""
        return self._read(lambda: text in self.shown, seconds)

    def await_end(self, seconds: float) -> int | None:
        """The exit status, or None when the command still runs after `seconds`."""
        self._read(lambda: self.process.poll() is not None, seconds)
        try:
            return self.process.wait(seconds)  # its terminal ends a moment before it does
        except subprocess.TimeoutExpired:
            return None

    def _read(self, done: Callable[[], bool], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while True:
            ready, _, _ = select.select([self._master], [], [], 0.05)
            if ready:
                try:
                    data = os.read(self._master, 65536)
                except OSError:  # EIO: nobody has the other side any more
                    return done()
                self.shown += data.decode("utf-8", "replace").replace("\r\n", "\n")
            elif done():
                return True
            elif time.monotonic() > deadline:
                return False
            if done() and ready:
                return True

    def close(self) -> None:
        """Hang up."""
        os.close(self._master)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
