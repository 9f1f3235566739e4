"""Control groups, in a folder of the container's own in each hierarchy: version 1, hybrid and version 2.

Every folder that we make carries the container's id in its name and is removed when the container ends. The
hierarchies themselves are the host's: nothing here mounts, unmounts or removes one.
"""

from __future__ import annotations

import errno
import os
import time

from specrun_runtime import resources
from specrun_runtime.errors import IsolationError
from specrun_runtime.fds import Fd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOUNTS = "/proc/self/mountinfo"


class Hierarchy:
    """One mounted hierarchy: `controllers` of version 1 (with `name=systemd` as it is), or none for version 2."""

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
    """The control group called `name` in every hierarchy of this host.

    `name` may have several parts. It is counted from the root of each hierarchy, or from the group that `bases` has
    for its controllers (joined by commas, "" for version 2), as `own_groups` gives it.
    """

    __slots__ = ("bases", "born", "name", "where")

    def __init__(self, name: str, where: list[Hierarchy] | None = None, *, bases: dict[str, str] | None = None) -> None:
        self.name = os.path.normpath(f"/{name}").strip("/")
        self.where = hierarchies() if where is None else where
        self.bases = bases or {}
        self.born = False
        """Whether this process was made in the group of version 2."""

    def folder(self, hierarchy: Hierarchy) -> str:
        """The group's folder in `hierarchy`."""
        base = self.bases.get("" if hierarchy.unified else ",".join(hierarchy.controllers), "")
        return f"{hierarchy.path}{base}/{self.name}"

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

    @property
    def pure(self) -> bool:
        """Whether this host has the hierarchy of version 2 alone."""
        return all(hierarchy.unified for hierarchy in self.where)

    @property
    def exists(self) -> bool:
        """Whether any of the folders is there."""
        return any(os.path.exists(self.folder(hierarchy)) for hierarchy in self.where)

    def paths(self) -> dict[str, str]:
        """Controller -> folder; "" for the hierarchy of version 2."""
        found = {}
        for hierarchy in self.where:
            for controller in hierarchy.controllers or ("",):
                found[controller] = self.folder(hierarchy)
        return found

    def create(self) -> None:
        """Make the folders, with those above them; one that exists already is taken over."""
        umask = os.umask(0o022)  # the root of a user namespace looks at them as a stranger
        try:
            self._create()
        finally:
            os.umask(umask)

    def _create(self) -> None:
        for hierarchy in self.where:
            for attempt in range(20):
                try:
                    self._create_in(hierarchy)
                    break
                except IsolationError as error:
                    if error.errno != errno.ENOENT or attempt == 19:
                        raise
                    # A parent went with the last group below it after we had found it.

    def _create_in(self, hierarchy: Hierarchy) -> None:
        folder = hierarchy.path
        relative = self.folder(hierarchy).removeprefix(f"{hierarchy.path}/")
        for part in relative.split("/"):
            parent, folder = folder, f"{folder}/{part}"
            if hierarchy.unified and self.pure:
                _hand_down_controllers(parent)
            try:
                os.mkdir(folder, 0o755)
            except FileExistsError:
                pass
            except OSError as error:
                raise IsolationError.of(error.errno or 5, "mkdir", folder) from error
            if "cpuset" in hierarchy.controllers:
                _seed_cpuset(parent, folder)

    def limit(self, wanted: dict[str, Any], *, devices: bool = True) -> None:
        """Apply `linux.resources` of the runtime specification; what can't be applied raises IsolationError.

        With `devices` the rules for devices are set too, from nothing allowed.
        """
        if devices:
            self._limit_devices(wanted.get("devices") or [])
        if self.pure:
            for _, file, text in resources.version_2(wanted):
                _write(f"{self.unified}/{file}", text)
            return
        for controller, file, text in resources.version_1(wanted):
            self._write_1(wanted, controller, file, text)
        for _, file, text in resources.unified(wanted):
            _write(f"{self.unified}/{file}", text)

    def _write_1(self, wanted: dict[str, Any], controller: str, file: str, text: str) -> None:
        folder = self.find(controller)
        if folder is None:
            raise IsolationError.of(errno.EOPNOTSUPP, "write", f"{file}: this host has no {controller} controller")
        memory = wanted.get("memory") or {}
        if file == "memory.limit_in_bytes" and memory.get("checkBeforeUpdate"):
            usage = int(read(f"{folder}/memory.usage_in_bytes"))
            if 0 < memory["limit"] < usage:
                raise IsolationError.of(errno.EBUSY, "write", f"{folder}/{file} ({text}): {usage} bytes are in use")
        try:
            _write(f"{folder}/{file}", text)
        except IsolationError as error:
            # A limit must not pass the limit with swap on its way up, nor the latter the former on its way down; and
            # a period and its quota must fit together: then what comes second has to go first.
            second = _PAIRS.get(file)
            later = [item for item in resources.version_1(wanted) if item[1] == second]
            if error.errno not in (errno.EINVAL, errno.EBUSY) or not later:
                if file == "blkio.weight" and error.errno == errno.ENOENT:
                    _write(f"{folder}/blkio.bfq.weight", text)
                    return
                raise
            _write(f"{folder}/{second}", later[0][2])
            _write(f"{folder}/{file}", text)

    def _limit_devices(self, rules: list[dict[str, Any]]) -> None:
        from specrun_runtime import libc  # not for those who only look or remove
        from specrun_runtime.devices import Policy

        policy = Policy.fold(rules)
        folder = self.find("devices")
        if folder is not None:
            for file, line in policy.lines():
                _write(f"{folder}/{file}", line)
            return
        if self.unified is None:
            raise IsolationError.of(errno.EOPNOTSUPP, "cgroup", "devices: this host can't limit them")
        with Fd(os.open(self.unified, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as group:
            before = libc.bpf_device_programs(group.number)
            with Fd(libc.bpf_load_device_program(policy.program())) as program:
                libc.bpf_attach_device_program(group.number, program.number)
            for old in before:
                libc.bpf_detach_device_program(group.number, old)
                os.close(old)

    def fork(self) -> int:
        """os.fork with a child that is to `join`, and is in the group of version 2 already where the kernel can."""
        from specrun_runtime import libc

        folder = self.unified
        if folder is None:
            return os.fork()
        try:
            with Fd(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as group:
                pid = libc.fork_into(group.number)
        except OSError:  # joining says what is wrong, or the kernel is older than 5.7
            return os.fork()
        self.born = pid == 0
        return pid

    def join(self, pid: int = 0) -> None:
        """Move the calling, single-threaded process (or the process `pid`) into the group, in every hierarchy."""
        for hierarchy in self.where:
            if hierarchy.unified and self.born and not pid:
                continue
            # A thread that moves itself by `tasks` spares the kernel a wait for all other CPUs
            # (cgroup_procs_write_start), which by `cgroup.procs` costs 6 ms.
            file = "cgroup.procs" if hierarchy.unified or pid else "tasks"
            _write(f"{self.folder(hierarchy)}/{file}", str(pid))

    def pids(self) -> list[int]:
        """The processes in the group and in the groups below it."""
        found: set[int] = set()
        for hierarchy in self.where:
            for folder, _, _ in os.walk(self.folder(hierarchy)):
                try:
                    with open(f"{folder}/cgroup.procs", "rb") as file:
                        found.update(int(line) for line in file)
                except OSError:
                    continue
        found.discard(0)  # processes of a pid namespace that we do not see
        return sorted(found)

    def freeze(self) -> None:
        """Stop all processes of the group; returns when they stand. Raises IsolationError."""
        self._turn("FROZEN", "1")

    def thaw(self) -> None:
        """Let them go on."""
        self._turn("THAWED", "0")

    def is_frozen(self) -> bool:
        """Whether the group was frozen."""
        folder = self.find("freezer")
        try:
            if folder is not None:
                return read(f"{folder}/freezer.self_freezing") == "1"
            return self.unified is not None and read(f"{self.unified}/cgroup.freeze") == "1"
        except IsolationError:
            return False

    def _turn(self, state: str, flag: str) -> None:
        folder = self.find("freezer")
        deadline = time.monotonic() + 10
        if folder is not None:
            while True:
                # A fork during the freezing can leave it half done; asking again completes it.
                _write(f"{folder}/freezer.state", state)
                if read(f"{folder}/freezer.state") == state:
                    return
                if time.monotonic() > deadline:
                    _write(f"{folder}/freezer.state", "THAWED")
                    raise IsolationError.of(errno.EBUSY, "freeze", folder)
                time.sleep(0.001)
        if self.unified is None:
            raise IsolationError.of(errno.EOPNOTSUPP, "freeze", "this host has no freezer")
        _write(f"{self.unified}/cgroup.freeze", flag)
        while f"frozen {flag}" not in read(f"{self.unified}/cgroup.events").splitlines():
            if time.monotonic() > deadline:
                _write(f"{self.unified}/cgroup.freeze", "0")
                raise IsolationError.of(errno.EBUSY, "freeze", self.unified)
            time.sleep(0.001)

    def inherited_cpus(self) -> str:
        """The processors of the group above, which a group has that names none of its own. Raises IsolationError."""
        folder = self.find("cpuset")
        if folder is not None:
            return read(f"{os.path.dirname(folder)}/cpuset.cpus")
        return read(f"{os.path.dirname(self.unified or '')}/cpuset.cpus.effective")

    def signal(self, number: int) -> None:
        """Send a signal to every process of the group."""
        for pid in self.pids():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def kill(self) -> None:
        """SIGKILL to every process of the group, so that none escapes by forking; it returns when none is left."""
        if not self.exists:
            return
        if self.unified is not None:
            try:
                _write(f"{self.unified}/cgroup.kill", "1")
            except IsolationError as error:
                if error.errno not in (errno.ENOENT, errno.EOPNOTSUPP):  # gone already, or a kernel before 5.14
                    raise
        for _ in range(200):
            if not self.pids():
                return
            frozen = self._try_freeze()
            self.signal(9)
            if frozen:
                self.thaw()
            time.sleep(0.005)

    def _try_freeze(self) -> bool:
        try:
            self.freeze()
        except IsolationError:
            return False
        return True

    def oom_kills(self) -> int:
        """How many processes of the group the kernel has killed for want of memory."""
        folder = self.find("memory")
        file = f"{folder}/memory.oom_control" if folder else f"{self.unified}/memory.events"
        try:
            return pairs(read(file)).get("oom_kill", 0)
        except IsolationError:
            return 0

    def remove(self, patience: float = 1.0) -> None:
        """Remove the folders and those that the container made below; waits up to `patience` s for the last process."""
        deadline = time.monotonic() + patience
        for hierarchy in self.where:
            for folder, _, _ in os.walk(self.folder(hierarchy), topdown=False):
                _remove_folder(folder, deadline)


_PAIRS = {"memory.limit_in_bytes": "memory.memsw.limit_in_bytes", "cpu.cfs_period_us": "cpu.cfs_quota_us"}


def _remove_folder(folder: str, deadline: float) -> None:
    while True:
        try:
            os.rmdir(folder)
            return
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline:  # EBUSY: a task is still in it
                raise IsolationError.of(error.errno or 5, "rmdir", folder) from error
            time.sleep(0.005)


def remove_unused(folders: list[str]) -> None:
    """Remove those of the groups that have neither a process nor a group below them."""
    for folder in folders:
        try:
            os.rmdir(folder)
        except OSError:
            continue


def existing(prefix: str, where: list[Hierarchy] | None = None, parent: str = "") -> list[str]:
    """The names of the groups below `parent` that begin with `prefix`, in whichever hierarchy."""
    names: set[str] = set()
    for hierarchy in hierarchies() if where is None else where:
        try:
            names.update(name for name in os.listdir(f"{hierarchy.path}/{parent}") if name.startswith(prefix))
        except OSError:
            continue
    return sorted(names)


def read(path: str) -> str:
    """The text of a file of a control group. Raises IsolationError."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except OSError as error:
        raise IsolationError.of(error.errno or 5, "read", path) from error


def pairs(text: str) -> dict[str, int]:
    """Lines of a name and a number."""
    found = {}
    for line in text.splitlines():
        name, _, number = line.rpartition(" ")
        if name and number.isdigit():
            found[name] = int(number)
    return found


def own_groups() -> dict[str, str]:
    """Controllers (joined by commas) -> the group of this process."""
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        lines = [line.rstrip("\n").split(":", 2) for line in file]
    return {controllers: path.rstrip("/") for _, controllers, path in lines}


def _hand_down_controllers(folder: str) -> None:
    """Let the groups below `folder` of version 2 have what it has; a limit that then lacks its file is an error."""
    for controller in read(f"{folder}/cgroup.controllers").split():
        if controller not in read(f"{folder}/cgroup.subtree_control").split():
            try:
                _write(f"{folder}/cgroup.subtree_control", f"+{controller}")
            except IsolationError:
                continue


def _seed_cpuset(parent: str, folder: str) -> None:
    """A new cpuset of version 1 has no CPU and no memory node, and takes no process until it has."""
    for file in ("cpuset.cpus", "cpuset.mems"):
        if not read(f"{folder}/{file}"):
            _write(f"{folder}/{file}", read(f"{parent}/{file}"))


def _write(path: str, text: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise IsolationError.of(error.errno or 5, "write", f"{path} ({text})") from error
