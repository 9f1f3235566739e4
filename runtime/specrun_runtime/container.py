"""Containers of the OCI command line, as an API: made from a bundle, started, looked at, changed and deleted.

Nobody watches such a container: whoever calls the runtime does (containerd's shim, conmon). All that is kept is a
folder with one record, the FIFO that a created container waits at, and the control groups; the status is looked up
in the kernel each time, so that no crash can make it wrong.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import time

from specrun_runtime import cgroups, hooks, jsontext, launch, schema
from specrun_runtime.cgroups import Cgroup
from specrun_runtime.errors import SpecError, StartFailed
from specrun_runtime.fds import open_process, start_time
from specrun_runtime.files import remove_tree, write_atomic
from specrun_runtime.spec import VERSION, Process, Spec, personality_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from specrun_runtime.launch import Monitor

CREATING = "creating"
CREATED = "created"
RUNNING = "running"
PAUSED = "paused"
STOPPED = "stopped"

_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-+")


class ContainerError(Exception):
    """What a caller asked for cannot be done with this container; the message says why."""


class Container:
    """One container in the folder `root`. Construct it for one that exists, or by `create`."""

    def __init__(self, root: str, identity: str) -> None:
        """Raises ContainerError for an id that is none, or that no container has."""
        self.id = checked_id(identity)
        self.directory = f"{root}/{self.id}"
        try:
            with open(f"{self.directory}/container.json", "rb") as file:
                self.record: dict[str, Any] = jsontext.loads(file.read())
        except FileNotFoundError as error:
            if not os.path.isdir(self.directory):
                raise ContainerError(f"container {identity!r} does not exist") from error
            self.record = {}

    @classmethod
    def create(
        cls,
        root: str,
        identity: str,
        bundle: str,
        *,
        streams: tuple[int, int, int] = (0, 1, 2),
        console_socket: str = "",
        preserved: list[int] | None = None,
        stay: bool = False,
        launcher: launch.Launcher | None = None,
    ) -> tuple[Container, Monitor]:
        """Make a container from the `bundle`: all is set up, and its process waits for `start` (runtime.md, "Create").

        The monitor has ended by then, unless it was to `stay`: then it reports the end of the process, which is its
        child. Raises ContainerError, SpecError, StartFailed and IsolationError; then nothing is left.
        """
        directory = f"{root}/{checked_id(identity)}"
        bundle = os.path.abspath(bundle)
        os.makedirs(root, mode=0o711, exist_ok=True)
        try:
            os.mkdir(directory, 0o700)
        except FileExistsError as error:
            raise ContainerError(f"container with id exists already: {identity}") from error
        try:
            document = load_json(f"{bundle}/config.json")
            spec = Spec(document)
            _check_streams(spec, console_socket)
            group = _group_of(spec, identity)
            if group.exists and group.pids():
                raise ContainerError(f"the control group {group.name} is in use by other processes")
            cgroup = {"name": group.name, "bases": group.bases}
            # Before anything is made: by this `delete` finds what a creation that was killed has left.
            write_atomic(f"{directory}/intent.json", jsontext.dumps(cgroup).encode(), durable=False)
            os.mkfifo(f"{directory}/exec.fifo", 0o600)
            os.close(os.open(f"{directory}/failure", os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            if launcher:
                monitor = launcher.spawn(*streams)
            else:
                monitor = launch.spawn(*streams, preserved, label=identity)
            request = {
                "action": "create",
                "id": identity,
                "directory": directory,
                "bundle": bundle,
                "cgroup": cgroup,
                "cache": f"{root}/.filters",
                "console_socket": console_socket,
                "preserved": len(preserved or ()),
                "stay": stay,
            }
            try:
                started = _ask(monitor, request)
                record = {
                    "id": identity,
                    "bundle": bundle,
                    "pid": started["pid"],
                    "start_time": started["start_time"],
                    "created": time.time(),
                    "owner": os.geteuid(),
                    "cgroup": cgroup,
                    "config": document,
                }
                write_atomic(f"{directory}/container.json", jsontext.dumps(record).encode(), durable=False)
            except BaseException:  # the monitor has cleared up, unless it was killed
                group.kill()
                group.remove(5.0)
                raise
        except BaseException:
            remove_tree(directory)
            raise
        if not stay:
            monitor.reap()
        return cls(root, identity), monitor

    @property
    def config(self) -> dict[str, Any]:
        """The configuration that it was made from."""
        config: dict[str, Any] = self.record["config"]
        return config

    @property
    def cgroup(self) -> Cgroup:
        """Its control groups."""
        return Cgroup(self.record["cgroup"]["name"], bases=self.record["cgroup"]["bases"])

    @property
    def rootfs(self) -> str:
        """The absolute path of its root file system."""
        path: str = os.path.join(self.record["bundle"], self.config["root"]["path"])
        return path

    def status(self) -> str:
        """What the kernel says now (runtime.md, "State"); `paused` is runc's word for a frozen one."""
        if not self.record:
            return CREATING
        if not _is_alive(self.record["pid"], self.record["start_time"]):
            return STOPPED
        if self._gate() is not None:
            return CREATED
        return PAUSED if self.cgroup.is_frozen() else RUNNING

    def state(self, status: str = "") -> dict[str, Any]:
        """The state of the specification, with runc's additions; as if it had `status` if one is given."""
        status = status or self.status()
        if status == CREATING:
            return {"ociVersion": VERSION, "id": self.id, "status": status, "bundle": ""}
        return {
            "ociVersion": self.config["ociVersion"],
            "id": self.id,
            "pid": 0 if status == STOPPED else self.record["pid"],
            "status": status,
            "bundle": self.record["bundle"],
            "rootfs": self.rootfs,
            "created": _stamp(self.record["created"]),
            "annotations": self.config.get("annotations") or {},
            "owner": "root" if self.record["owner"] == 0 else str(self.record["owner"]),
        }

    def start(self) -> list[str]:
        """Let a created container execute its command. Gives warnings. Raises ContainerError and StartFailed."""
        status = self.status()
        gate = self._gate() if status == CREATED else None
        if gate is None:
            raise ContainerError(f"cannot start a container that is {status}")
        try:
            os.write(gate, b"0")
            # Its process closes the other side by executing the command, or by ending.
            poll = select.poll()
            poll.register(gate, 0)
            poll.poll()
        finally:
            os.close(gate)
        with open(f"{self.directory}/failure", "rb") as file:
            failure = file.read()
        if failure:
            report = jsontext.loads(failure)
            raise StartFailed(report["step"], report["message"], report["number"], report["status"])
        return self._run_hooks("poststart", RUNNING)

    def kill(self, number: int, *, everything: bool = False) -> None:
        """Send a signal to its first process, or to all of its processes. Raises ContainerError when there is none."""
        group = self.cgroup
        shared = "pid" not in [item["type"] for item in (self.config.get("linux") or {}).get("namespaces") or []]
        if everything or (shared and number == signal.SIGKILL):
            if number == signal.SIGKILL:
                group.kill()
            else:
                group.signal(number)
            return
        pid, started = self.record["pid"], self.record["start_time"]
        handle = open_process(pid, started) if _is_alive(pid, started) else None  # the kernel lets one signal a zombie
        if handle is None:
            raise ContainerError("container not running")
        try:
            signal.pidfd_send_signal(handle, number)
        except ProcessLookupError as error:
            raise ContainerError("container not running") from error
        finally:
            os.close(handle)
        if number == signal.SIGKILL and group.is_frozen():
            group.thaw()  # version 1 kills no frozen process

    def delete(self, *, force: bool = False) -> list[str]:
        """Remove a stopped container, or with `force` any, with all of its processes. Gives warnings.

        One whose creation was killed is removed too. Raises ContainerError.
        """
        status = self.status()
        if status in (CREATED, RUNNING, PAUSED) and not force:  # runtime.md, "Delete"; runc takes a created one
            raise ContainerError(f"cannot delete container {self.id} that is not stopped: {status} (use --force)")
        warnings = []
        if self.record:
            group = self.cgroup
            group.kill()
            if status != STOPPED:
                self._await_end()
            group.remove(5.0)
            warnings = self._run_hooks("poststop", STOPPED)
        else:
            self._undo_creation()
        remove_tree(self.directory)
        return warnings

    def _undo_creation(self) -> None:
        try:
            with open(f"{self.directory}/intent.json", "rb") as file:
                cgroup = jsontext.loads(file.read())
        except FileNotFoundError:
            return  # nothing was made yet
        group = Cgroup(cgroup["name"], bases=cgroup["bases"])
        group.kill()
        group.remove(5.0)

    def exec(
        self,
        process: dict[str, Any],
        *,
        user: str | None = None,
        streams: tuple[int, int, int] = (0, 1, 2),
        console_socket: str = "",
        preserved: list[int] | None = None,
        stay: bool = True,
        ignore_paused: bool = False,
        group: str = "",
    ) -> tuple[int, Monitor]:
        """Start one process more in a running container; gives its pid and the monitor that reports its end.

        `process` is one of the specification. `group` is a control group below the container's.
        """
        status = self.status()
        if status == PAUSED and not ignore_paused:
            raise ContainerError("cannot exec in a paused container (use --ignore-paused to override)")
        if status in (STOPPED, CREATING):
            raise ContainerError(f"cannot exec in a container that is {status}")
        parsed = Process(process)
        if parsed.terminal and not console_socket:
            raise ContainerError("a process with a terminal needs a console socket")
        cgroup = dict(self.record["cgroup"])
        if group:
            cgroup["name"] = f"{cgroup['name']}/{group}"
        monitor = launch.spawn(*streams, preserved, label=self.id)
        started = _ask(
            monitor,
            {
                "action": "exec",
                "pid": self.record["pid"],
                "start_time": self.record["start_time"],
                "cgroup": cgroup,
                "process": process,
                "user": user,
                "seccomp": (self.config.get("linux") or {}).get("seccomp"),
                "personality": personality_of(self.config.get("linux") or {}),
                "cache": f"{os.path.dirname(self.directory)}/.filters",
                "console_socket": console_socket,
                "preserved": len(preserved or ()),
                "stay": stay,
            },
        )
        if not stay:
            monitor.reap()
        return int(started["pid"]), monitor

    def pause(self) -> None:
        """Freeze all of its processes."""
        if self.status() not in (RUNNING, CREATED):
            raise ContainerError(f"cannot pause a container that is {self.status()}")
        self.cgroup.freeze()

    def resume(self) -> None:
        """Let them go on."""
        if self.status() != PAUSED:
            raise ContainerError("container not paused")
        self.cgroup.thaw()

    def update(self, resources: dict[str, Any]) -> None:
        """Give a live container other limits; devices stay as they are unless there are rules for them."""
        if self.status() == STOPPED:
            raise ContainerError("cannot update a container that is stopped")
        wanted = {"ociVersion": VERSION, "linux": {"resources": resources}}
        schema.check(wanted, schema.CONFIG, "")
        self.cgroup.limit(resources, devices=bool(resources.get("devices")))
        linux = self.config.setdefault("linux", {})
        merged = linux.setdefault("resources", {})
        for key, value in resources.items():
            merged[key] = {**(merged.get(key) or {}), **value} if isinstance(value, dict) else value
        write_atomic(f"{self.directory}/container.json", jsontext.dumps(self.record).encode(), durable=False)

    def pids(self) -> list[int]:
        """Its processes, as this host numbers them."""
        return self.cgroup.pids()

    def _gate(self) -> int | None:
        """The writing end of its FIFO; None when nobody waits there any more."""
        try:
            return os.open(f"{self.directory}/exec.fifo", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in (errno.ENXIO, errno.ENOENT):
                return None
            raise

    def _await_end(self) -> None:
        deadline = time.monotonic() + 10
        while _is_alive(self.record["pid"], self.record["start_time"]):
            if time.monotonic() > deadline:
                raise ContainerError(f"the process {self.record['pid']} of container {self.id} does not end")
            time.sleep(0.005)

    def _run_hooks(self, name: str, status: str) -> list[str]:
        """The hooks of this name; failures are warnings, and the others run all the same."""
        found = Spec(self.config).hooks[name]
        if not found:
            return []
        state = jsontext.dumps(self.state(status)).encode()  # a short command has ended before its poststart hooks
        warnings = []
        for hook in found:
            problem = hooks.run(hook, state)
            if problem:
                warnings.append(f"{name} hook {hook.path}: {problem}")
        return warnings


def every(root: str) -> Iterator[Container]:
    """All containers of a root."""
    try:
        names = sorted(os.listdir(root))
    except FileNotFoundError:
        return
    for name in names:
        try:
            yield Container(root, name)
        except ContainerError:
            continue  # not a container, or gone meanwhile


def checked_id(identity: str) -> str:
    """The id, if it is one. Raises ContainerError."""
    if not identity or not _LETTERS.issuperset(identity) or identity[0] == "." or len(identity) > 1024:
        raise ContainerError(f"invalid id {identity!r}: expected letters, digits, '_', '+', '-' and '.'")
    return identity


def load_json(path: str) -> dict[str, Any]:
    """The object in a file of JSON. Raises SpecError with the place of what is wrong."""
    try:
        with open(path, encoding="utf-8") as file:
            document = jsontext.loads(file.read())
    except OSError as error:
        raise SpecError(path, str(error.strerror)) from error
    except ValueError as error:
        raise SpecError(path, f"is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise SpecError(path, f"found {type(document).__name__}, expected an object")
    return document


def _group_of(spec: Spec, identity: str) -> Cgroup:
    """The control group that `cgroupsPath` names; without one, the container's id at the root."""
    path = spec.cgroups_path or f"/{identity}"
    if ":" in path and "/" not in path:
        raise SpecError("linux.cgroupsPath", f"{path!r} is a name for systemd, which is not asked by this runtime")
    return Cgroup(path, bases={} if path.startswith("/") else cgroups.own_groups())


def _check_streams(spec: Spec, console_socket: str) -> None:
    if spec.process.terminal and not console_socket:
        raise ContainerError("cannot allocate a terminal without a console socket: process.terminal is true")
    if not spec.process.terminal and console_socket:
        raise ContainerError("a console socket is of no use: process.terminal is false")


def _ask(monitor: Monitor, request: dict[str, Any]) -> dict[str, Any]:
    """Send the request and wait for the start."""
    try:
        monitor.begin(request)
        report, _ = monitor.await_start()
        return report
    except BaseException:
        monitor.reap()
        raise


def _is_alive(pid: int, started: int) -> bool:
    """Whether the process is there and has not ended; a zombie has."""
    if start_time(pid) != started:
        return False
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


def _stamp(seconds: float) -> str:
    whole = int(seconds)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{int((seconds - whole) * 1e9):09d}Z"
