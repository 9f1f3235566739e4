"""Processes of a scenario.

They are told by a variable in the environment, which what outlives its command may have thrown away, and by a control
group, which only root can leave. Monitors of containers are in the group alone.
"""

from __future__ import annotations

import os
import shlex
import signal
from pathlib import Path

from specrun_runtime import cgroups, families
from specrun_runtime.cgroups import Cgroup, Hierarchy
from specrun_runtime.errors import IsolationError

_MARK = "SPECRUN_SCENE"
_NOTE = "group"
"""The file that names the group of the scenario's folder, written before it is made."""


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

    families.kill(_all, belongs)


def _all() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def make_group(folder: Path) -> str:
    """Make a control group for the scenario in `folder`; gives what brings a shell into it, "" where none can be made.

    It is below our own group, in one hierarchy, and limits nothing.
    """
    hierarchy = _hierarchy()
    if hierarchy is None:
        return ""
    base = cgroups.own_groups().get(",".join(hierarchy.controllers), "")
    group = Cgroup(f"{base}/{folder.name}", [hierarchy])
    (folder / _NOTE).write_text(f"{group.name}\n")
    path = group.folder(hierarchy)
    try:
        os.mkdir(path)
    except OSError:
        (folder / _NOTE).unlink()
        return ""
    return f"{{ echo 0 > {shlex.quote(path)}/cgroup.procs; }} 2>/dev/null; "


def end_group(folder: Path) -> None:
    """Kill all that is in the group of the scenario in `folder`, with its children, and remove the group."""
    hierarchy, note = _hierarchy(), folder / _NOTE
    if hierarchy is None or not note.exists():
        return
    group = Cgroup(note.read_text().strip(), [hierarchy])
    if os.path.basename(group.name) != folder.name:
        return
    members: set[int] = set()

    def look() -> list[int]:
        members.clear()
        members.update(group.pids())
        return _all() if members else []

    families.kill(look, lambda process: process.pid in members and process.pid in group.pids())
    try:
        group.remove()
    except IsolationError:  # we are in it ourselves: a scenario had started what now clears up
        pass


def _hierarchy() -> Hierarchy | None:
    """That of version 2, or else one in which a new group limits nothing."""
    present = cgroups.hierarchies()
    found = [one for one in present if one.unified]
    found += [one for one in present if any(name.startswith("name=") for name in one.controllers)]
    found += [one for one in present if one.controllers == ("pids",)]
    return found[0] if found else None
