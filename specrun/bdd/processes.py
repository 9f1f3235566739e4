"""Processes of a scenario, told by a variable that is in the environment of all that its steps start."""

from __future__ import annotations

import os
from pathlib import Path

from specrun_runtime import families

_MARK = "SPECRUN_SCENE"


def mark(folder: Path) -> dict[str, str]:
    """What to put into the environment of what belongs to the scenario in `folder`."""
    return {_MARK: str(folder)}


def end(folder: Path) -> None:
    """Kill what the scenario in `folder` has started and still runs, with its children, and wait until it is gone.

    Children count whatever their environment is: sudo gives them another.
    """
    wanted = os.fsencode(f"{_MARK}={folder}")

    def belongs(process: families.Process) -> bool:
        return wanted in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")

    families.kill(lambda: [int(name) for name in os.listdir("/proc") if name.isdigit()], belongs)
