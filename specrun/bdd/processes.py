"""Processes of a scenario, told by a variable that is in the environment of all that its steps start."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from specrun_runtime import families

_MARK = "SPECRUN_SCENE"


def mark(folder: Path) -> dict[str, str]:
    """What to put into the environment of what belongs to the scenario in `folder`."""
    return {_MARK: str(folder)}


def heed_sigterm() -> None:
    """Let SIGTERM end this run as Ctrl-C does, with what it has left; a second one, as timeout(1) sends it, is ignored.

    Whoever has decided otherwise is left alone.
    """

    def interrupt(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, interrupt)


def end(folder: Path) -> None:
    """Kill what the scenario in `folder` has started and still runs, with its children, and wait until it is gone.

    Children count whatever their environment is: sudo gives them another.
    """
    wanted = os.fsencode(f"{_MARK}={folder}")

    def belongs(process: families.Process) -> bool:
        return wanted in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")

    families.kill(lambda: [int(name) for name in os.listdir("/proc") if name.isdigit()], belongs)
