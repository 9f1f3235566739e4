"""What a specrun could leave behind on the machine, told by its root's id, which every kernel object of ours carries.

Tests run several at a time, so what is looked for is named by its owner: the state folder and the id of one root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path


def marks_of(root: Path) -> tuple[str, ...]:
    """What the names of everything of the root at `root` contain: its folder, and its id once it has one."""
    try:
        return str(root.parent), (root / "id").read_text().strip()
    except FileNotFoundError:
        return (str(root.parent),)


def present(marks: tuple[str, ...]) -> dict[str, set[str]]:
    """What has one of `marks` in its name, by kind: mounts, control groups, processes, links, tables, records."""
    found = {
        "mounts": _mounts(),
        "cgroups": _cgroups(),
        "processes": _processes(marks),
        "links": set(os.listdir("/sys/class/net")),
        "tables": _tables(),
        "forwarding": _forwarding(),
    }
    marked = {kind: {thing for thing in things if _is_marked(thing, marks)} for kind, things in found.items()}
    return {kind: things for kind, things in marked.items() if things}


def left(marks: tuple[str, ...], grace: float = 5.0) -> dict[str, set[str]]:
    """The same after up to `grace` seconds of waiting for it to go; {} when all is gone."""
    deadline = time.monotonic() + grace
    while (found := present(marks)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def _is_marked(thing: str, marks: tuple[str, ...]) -> bool:
    return any(mark in thing for mark in marks)


def _mounts() -> set[str]:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return {" ".join(line.split()[3:5]) for line in file}


def _cgroups() -> set[str]:
    return {os.path.join(folder, name) for folder, names, _ in os.walk("/sys/fs/cgroup") for name in names}


def _forwarding() -> set[str]:
    # Not by pathlib, whose glob fails where a folder goes meanwhile.
    return {f"{folder}/{name}" for folder, _, names in os.walk("/run/specrun/forwarding") for name in names}


def _tables() -> set[str]:
    if shutil.which("nft") is None:
        return set()
    return set(
        subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout.splitlines()
    )


_MODULES = ("specrun_runtime", "specrun.registry", "specrun.cli")
"""What is named in the command line of whatever outlives a command."""


def _processes(marks: tuple[str, ...]) -> set[str]:
    """Monitors and registries have the root's id or folder among their arguments, containers in their groups."""
    here = os.readlink("/proc/self/ns/pid")
    found = set()
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            words = Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            ours = any(module in words for module in _MODULES) or os.readlink(f"/proc/{name}/ns/pid") != here
            text = f"{name} {words} {Path(f'/proc/{name}/cgroup').read_text()}"
        except OSError:
            continue
        if ours and _is_marked(text, marks):
            found.add(text)
    return found
