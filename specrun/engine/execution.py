"""One process more in a running container (`exec`): started by a sealed process of its own, awaited by the command."""

from __future__ import annotations

import os
import select

from specrun.errors import Conflict, SpecrunError, UsageError
from specrun_runtime import jsontext, launch, state
from specrun_runtime.errors import FIND_CONTAINER, StartFailed
from specrun_runtime.fds import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from specrun.engine.container import Container
    from specrun.engine.existing import Existing

_CHUNK = 65536
_PATIENCE = 1.0
"""Seconds that the container's own monitor has to answer; then a new one does what it is for."""


class ExecRequest:
    """What is to run, as whom and where; what is left out is the container's."""

    __slots__ = ("command", "detached", "env", "interactive", "privileged", "tty", "user", "workdir")

    def __init__(
        self,
        command: list[str],
        *,
        env: list[str] | None = None,
        workdir: str = "",
        user: str = "",
        interactive: bool = False,
        tty: bool = False,
        detached: bool = False,
        privileged: bool = False,
    ) -> None:
        self.command = command
        self.env = env or []
        """`NAME=value`, each."""
        self.workdir = workdir
        self.user = user
        self.interactive = interactive
        self.tty = tty
        self.detached = detached
        self.privileged = privileged

    def check(self) -> None:
        """Refuse what can be refused without looking at the container."""
        if self.workdir and not self.workdir.startswith("/"):
            raise UsageError(f"the working directory '{self.workdir}' is invalid, it needs to be an absolute path")
        for text in (*self.env, *self.command, self.user, self.workdir):
            if "\0" in text:
                raise SpecrunError("an argument holds a NUL byte, which no program can be given")


class Execution:
    """A process that was started in a container. Close it, or wait for it."""

    def __init__(self, engine: Existing, container: Container, request: ExecRequest) -> None:
        """Start it; returns when the command executes. Raises StartFailed, and Conflict for one that does not run."""
        request.check()
        config = _configuration(container)
        self.id = os.urandom(32).hex()
        self._engine = engine
        self._container = container
        self._what = " ".join(request.command)
        engine.tell(container, f"exec_create: {self._what}", execID=self.id)
        self._pipes = _Pipes(request)
        stdin, stdout, stderr = self._pipes.theirs
        borrowed = launch.borrow(f"{container.directory}/attach", stdin, stdout, stderr)
        order = _order(engine, container, config, request)
        if borrowed and borrowed.is_ready(_PATIENCE):
            self._monitor = borrowed
        else:
            self._monitor = launch.spawn(stdin, stdout, stderr, label=engine.root.id)
        self._pipes.release()
        self.terminal = -1
        """The master of its terminal; -1 when it has none."""
        try:
            self._monitor.begin(order)
            engine.tell(container, f"exec_start: {self._what}", execID=self.id)
            self._started, self.terminal = self._monitor.await_start()
        except StartFailed as error:
            self.close()
            if error.step == FIND_CONTAINER:  # it has ended meanwhile
                raise Conflict(f"Container {container.id} is not running") from error
            raise
        except BaseException:
            self.close()
            raise

    def kill(self) -> None:
        """SIGKILL for it and for what it has started, unless that has left both its session and the line of parents."""
        from specrun_runtime import families

        pid, started = self._started["pid"], self._started["start_time"]

        def belongs(process: families.Process) -> bool:
            return (process.pid, process.started) == (pid, started) or process.session == pid

        families.kill(self._container.cgroup.pids, belongs)

    def close(self) -> None:
        """Leave it to itself."""
        self._pipes.close()
        self._monitor.abandon()
        self._monitor.reports.close()
        if self.terminal >= 0:
            os.close(self.terminal)
            self.terminal = -1

    def wait(self, source: int | None, out: int = 1, err: int = 2) -> int:
        """Copy `source` to its stdin and its output to `out` and `err` until it ends; gives its exit status."""
        pipes, reports = self._pipes, self._monitor.reports.fileno()
        sinks = {pipes.out: out, pipes.err: err}
        poll = select.poll()
        for number in (*sinks, reports):
            poll.register(number, select.POLLIN)
        pumping = source is not None and pipes.feed >= 0 and _register(poll, source)
        ended = False
        while not ended:
            ready = {number for number, _ in poll.poll()}
            for number in list(sinks):
                if number in ready and not _copy(number, sinks[number]):
                    poll.unregister(number)
                    del sinks[number]
            if pumping and source in ready and not pipes.pump(source):
                poll.unregister(source)
                pumping = False
            ended = reports in ready
        for number, sink in sinks.items():
            os.set_blocking(number, False)
            while _copy(number, sink):
                continue
        return self.result()

    def relay(self, keys: bytes, *, typing: bool = True) -> int | None:
        """Between the caller's terminal and its own until it ends; its exit status, or None when `keys` were typed.

        Without `typing` nothing of the caller's input is passed on.
        """
        from specrun_runtime.relay import relay

        if relay(0, self.terminal if typing else -1, self.terminal, 1, self._monitor.reports.fileno(), keys):
            self.close()
            return None
        return self.result()

    def result(self) -> int:
        """Wait for its end; gives its exit status. Raises SpecrunError when nobody knows it."""
        report, _ = self._monitor.next_report()
        self._monitor.reap()
        self._pipes.close()
        if report is None or "status" not in report:
            raise SpecrunError("the process that watched the command was killed, or the container has ended")
        status = int(report["status"])
        self._engine.tell(self._container, "exec_die", execID=self.id, exitCode=str(status))
        return status


class _Pipes:
    """Between the command and what it starts: none for a terminal, and none that anybody reads for a detached one."""

    def __init__(self, request: ExecRequest) -> None:
        self.feed = self.out = self.err = -1
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self.theirs = [null, null, null]
        if request.tty or request.detached:
            return
        if request.interactive:
            self.theirs[0], self.feed = os.pipe2(os.O_CLOEXEC)
        self.out, self.theirs[1] = os.pipe2(os.O_CLOEXEC)
        self.err, self.theirs[2] = os.pipe2(os.O_CLOEXEC)
        if request.interactive:
            os.close(null)

    def release(self) -> None:
        """Close the other side's ends, which it has now."""
        for number in set(self.theirs):
            os.close(number)

    def pump(self, source: int) -> bool:
        """Pass on one chunk of the input; False, with the pipe closed, at the end of either side."""
        try:
            data = os.read(source, _CHUNK)
            if data:
                write_all(self.feed, data)
                return True
        except OSError:
            pass
        os.close(self.feed)
        self.feed = -1
        return False

    def close(self) -> None:
        """Close our ends."""
        for number in (self.feed, self.out, self.err):
            if number >= 0:
                os.close(number)
        self.feed = self.out = self.err = -1


def _configuration(container: Container) -> dict[str, Any]:
    """config.json of the container as it was started. Raises Conflict when it does not run."""
    known = container.state
    if known.status != state.RUNNING or not known.pid:
        raise Conflict(f"Container {container.id} is not running")
    if container.cgroup.is_frozen():
        raise Conflict(f"Container {container.name} is paused, unpause the container before exec")
    with open(f"{container.directory}/config.json", "rb") as file:
        config: dict[str, Any] = jsontext.loads(file.read())
    return config


def _order(engine: Existing, container: Container, config: dict[str, Any], request: ExecRequest) -> dict[str, Any]:
    """What the sealed process is asked for."""
    process = config["process"]
    process["args"] = request.command
    environment = {entry.partition("=")[0]: entry for entry in process["env"]}
    if request.tty:
        environment.setdefault("TERM", "TERM=xterm")
    else:
        environment.pop("TERM", None)
    environment.update((entry.partition("=")[0], entry) for entry in request.env)
    process["env"] = list(environment.values())
    process["cwd"] = request.workdir or process["cwd"]
    process["terminal"] = request.tty
    process.pop("consoleSize", None)
    if request.privileged:
        from specrun_runtime import capabilities

        everything = capabilities.names(capabilities.bounding())
        process["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), everything)
    linux = config["linux"]
    return {
        "action": "exec",
        "pid": container.state.pid,
        "start_time": container.state.start_time,
        "cgroup": {"name": linux["cgroupsPath"].lstrip("/"), "bases": {}},
        "process": process,
        "user": request.user or container.config.get("User") or "",
        "groups": container.host_config.get("GroupAdd") or [],
        "personality": None,
        "seccomp": linux.get("seccomp"),
        "cache": engine.root.filters,
        "console_socket": "",
        "preserved": 0,
        "stdin": request.interactive,
        "stay": True,
        "drain": request.tty and request.detached,
    }


def _copy(source: int, sink: int) -> bool:
    """Copy one chunk; False at the end, or when there is none now."""
    try:
        data = os.read(source, _CHUNK)
    except BlockingIOError:
        return False
    if data:
        write_all(sink, data)
    return bool(data)


def _register(poll: select.poll, source: int) -> bool:
    try:
        poll.register(source, select.POLLIN)
    except OSError:
        return False
    return True
