"""What this machine has that a container could leave behind: listed before and after, and compared."""

from __future__ import annotations

import os
import time


def snapshot(marks: tuple[str, ...] = ("specrun",)) -> dict[str, set[str]]:
    """Mounts, control groups, processes and network links, by kind."""
    return {"mounts": _mounts(), "cgroups": _cgroups(marks), "processes": _processes(), "links": _links()}


def leaked(before: dict[str, set[str]], grace: float = 5.0) -> dict[str, set[str]]:
    """What is there now and was not before; {} when it is gone within `grace` seconds."""
    deadline = time.monotonic() + grace
    while True:
        now = snapshot()
        found = {kind: things for kind in now if (things := now[kind] - before[kind])}
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def _mounts() -> set[str]:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return {" ".join(line.split()[3:5]) for line in file}


def _cgroups(marks: tuple[str, ...]) -> set[str]:
    found = set()
    for folder, names, _ in os.walk("/sys/fs/cgroup"):
        found.update(os.path.join(folder, name) for name in names if any(mark in name for mark in marks))
    return found


def _processes() -> set[str]:
    """Monitors, and processes in other pid namespaces than ours; our own pytest's children are not counted."""
    here = os.readlink("/proc/self/ns/pid")
    found = set()
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                words = file.read()
            if b"specrun_runtime.monitor" in words or os.readlink(f"/proc/{name}/ns/pid") != here:
                found.add(name)
        except OSError:
            continue
    return found


def _links() -> set[str]:
    return set(os.listdir("/sys/class/net"))
