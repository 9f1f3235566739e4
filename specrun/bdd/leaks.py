"""What specrun has left on the machine, told by its root's id, which every kernel object of ours carries."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from specrun.network import forwarding

if TYPE_CHECKING:
    from specrun.paths import Root


def orphans(root: Root) -> list[str]:
    """Control groups of containers that are no more, a sentence each."""
    prefix = f"specrun-{root.id}-"
    known = {name.lstrip(".") for name in os.listdir(root.containers)}
    found = {Path(path).name for path in _groups(prefix)}
    return [f"the control group {name} belongs to no container" for name in found if name[len(prefix) :] not in known]


def left(identity: str, grace: float = 5.0) -> list[str]:
    """Mounts, control groups, processes, links and records of the root `identity`, after up to `grace` seconds."""
    deadline = time.monotonic() + grace
    while (found := _present(identity)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def _present(identity: str) -> list[str]:
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    found = [f"mount {line.split()[4]}" for line in mounts if identity in line]
    found += [f"control group {path}" for path in _groups(f"specrun-{identity}-")]
    found += [f"link {name}" for name in os.listdir("/sys/class/net") if identity in name]
    found += [f"record {path}" for path in forwarding.records(identity)]
    return found + [f"process {text}" for text in _processes(identity)]


def _groups(prefix: str) -> list[str]:
    found = []
    for folder, names, _ in os.walk("/sys/fs/cgroup"):
        found += [os.path.join(folder, name) for name in names if name.startswith(prefix)]
    return found


def _processes(identity: str) -> list[str]:
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            words = Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            groups = Path(f"/proc/{name}/cgroup").read_text()
        except OSError:
            continue
        if f"specrun-{identity}-" in groups or (identity in words and "specrun_runtime" in words):
            found.append(f"{name} {words}")
    return found
