"""Control groups, in a folder of the container's own in each hierarchy: version 1, hybrid and version 2.

Every folder that we make carries the container's id in its name and is removed when the container ends. The
hierarchies themselves are the host's: nothing here mounts, unmounts or removes one.
"""

from __future__ import annotations

import os
import time

from specrun_runtime.errors import IsolationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOUNTS = "/proc/self/mountinfo"


class Hierarchy:
    """One mounted hierarchy: `controllers` of version 1 (with `name=systemd` as it is), or "" for version 2."""

    __slots__ = ("controllers", "path", "unified")

    def __init__(self, path: str, controllers: tuple[str, ...], unified: bool) -> None:
        self.path = path
        self.controllers = controllers
        self.unified = unified


def hierarchies() -> list[Hierarchy]:
    """The hierarchies that this host has mounted, in the order of their mounting; each once."""
    found: list[Hierarchy] = []
    seen = set()
    with open(MOUNTS, encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            left, _, right = line.partition(" - ")
            kind = right.split(" ", 1)[0]
            if kind not in ("cgroup", "cgroup2"):
                continue
            fields = left.split()
            device, root, path = fields[2], fields[3], fields[4]
            if root != "/" or device in seen:
                continue
            seen.add(device)
            options = right.split()[2].split(",")
            controllers = tuple(option for option in options if option in CONTROLLERS or option.startswith("name="))
            found.append(Hierarchy(path, controllers, kind == "cgroup2"))
    return found


CONTROLLERS = frozenset(
    "cpu cpuacct cpuset memory devices freezer blkio pids hugetlb net_cls net_prio perf_event rdma misc".split()
)


class Cgroup:
    """The control group called `name` in every hierarchy of this host."""

    __slots__ = ("name", "where")

    def __init__(self, name: str, where: list[Hierarchy] | None = None) -> None:
        self.name = name
        self.where = hierarchies() if where is None else where

    def folder(self, hierarchy: Hierarchy) -> str:
        """The group's folder in `hierarchy`."""
        return f"{hierarchy.path}/{self.name}"

    def find(self, controller: str) -> str | None:
        """The group's folder in the hierarchy of version 1 that has `controller`; None where there is none."""
        for hierarchy in self.where:
            if controller in hierarchy.controllers:
                return self.folder(hierarchy)
        return None

    @property
    def unified(self) -> str | None:
        """The group's folder in the hierarchy of version 2."""
        for hierarchy in self.where:
            if hierarchy.unified:
                return self.folder(hierarchy)
        return None

    def create(self) -> None:
        """Make the folders; one that exists already is taken over."""
        for hierarchy in self.where:
            folder = self.folder(hierarchy)
            try:
                os.mkdir(folder, 0o755)
            except FileExistsError:
                pass
            if "cpuset" in hierarchy.controllers:
                _seed_cpuset(hierarchy.path, folder)

    def limit(self, resources: dict[str, Any]) -> None:
        """Apply `linux.resources` of the runtime specification; what can't be applied raises IsolationError."""
        if devices := resources.get("devices"):
            self._limit_devices(devices)

    def _limit_devices(self, rules: list[dict[str, Any]]) -> None:
        folder = self.find("devices")
        if folder is None:
            raise IsolationError.of(95, "cgroup", "devices: no controller, and no device program of our own yet")
        for rule in rules:
            kind = rule.get("type", "a")
            major, minor = (_star(rule.get(part)) for part in ("major", "minor"))
            line = "a" if kind == "a" else f"{kind} {major}:{minor} {rule.get('access', 'rwm')}"
            _write(f"{folder}/devices.{'allow' if rule['allow'] else 'deny'}", line)

    def join(self) -> None:
        """Move the calling, single-threaded process into the group, in every hierarchy."""
        for hierarchy in self.where:
            # A thread that moves itself by `tasks` spares the kernel a wait for all other CPUs
            # (cgroup_procs_write_start), which by `cgroup.procs` costs 5 ms.
            file = "cgroup.procs" if hierarchy.unified else "tasks"
            _write(f"{self.folder(hierarchy)}/{file}", "0")

    def pids(self) -> list[int]:
        """The processes in the group."""
        found: set[int] = set()
        for hierarchy in self.where:
            try:
                with open(f"{self.folder(hierarchy)}/cgroup.procs", "rb") as file:
                    found.update(int(line) for line in file)
            except (FileNotFoundError, OSError):
                continue
        found.discard(0)  # processes of a pid namespace that we do not see
        return sorted(found)

    def kill(self) -> None:
        """SIGKILL to every process of the group; when it returns, none is left or is left unkilled."""
        if self.unified is not None:
            try:
                _write(f"{self.unified}/cgroup.kill", "1")
            except IsolationError as error:
                if error.errno not in (2, 95):  # ENOENT: gone already, or a kernel before 5.14
                    raise
        for _ in range(50):
            pids = self.pids()
            if not pids:
                return
            for pid in pids:
                try:
                    os.kill(pid, 9)
                except ProcessLookupError:
                    pass
            time.sleep(0.01)

    def remove(self, patience: float = 1.0) -> None:
        """Remove the folders; waits up to `patience` seconds for the last process to be gone."""
        deadline = time.monotonic() + patience
        for hierarchy in self.where:
            folder = self.folder(hierarchy)
            while True:
                try:
                    os.rmdir(folder)
                except FileNotFoundError:
                    pass
                except OSError as error:
                    if error.errno != 16 or time.monotonic() > deadline:  # EBUSY: a task is still in it
                        raise IsolationError.of(error.errno or 5, "rmdir", folder) from error
                    time.sleep(0.005)
                    continue
                break


def existing(prefix: str) -> list[str]:
    """The names of the groups of this host that begin with `prefix`, in whichever hierarchy."""
    names: set[str] = set()
    for hierarchy in hierarchies():
        try:
            names.update(name for name in os.listdir(hierarchy.path) if name.startswith(prefix))
        except OSError:
            continue
    return sorted(names)


def _star(value: int | None) -> str:
    return "*" if value is None or value < 0 else str(value)


def _seed_cpuset(parent: str, folder: str) -> None:
    """A new cpuset of version 1 has no CPU and no memory node, and takes no process until it has."""
    for file in ("cpuset.cpus", "cpuset.mems"):
        with open(f"{parent}/{file}", encoding="ascii") as source:
            _write(f"{folder}/{file}", source.read().strip())


def _write(path: str, text: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise IsolationError.of(error.errno or 5, "write", f"{path} ({text})") from error
