"""The sealed process between a command and a container: it forks the container's first process, and may outlive it.

It is started by `specrun_runtime.launch` with the container's stdin and the attached stdout and stderr as its own
0, 1 and 2, a pipe with one request on 3, and a channel for reports on 4. The request's `action` is one of

- `supervise`: start a container of the engine, keep its log, record its end, clean up: one for each running container;
- `create`: make a container of the OCI command line, which waits at its gate, and end;
- `exec`: start one process more in a running container.

Reports: `started` with `pid` and `start_time` (and the master of a terminal), `failed` with `step`, `message`,
`number` and `status`, and `exited` with `status`. It keeps to a handful of modules, as there are many of it.
"""

from __future__ import annotations

import _signal
import fcntl
import os
import select
import sys
import time

from specrun_runtime import attachment, channel, eventlog, health, init, jsontext, libc, logfile, restarts, state
from specrun_runtime.birth import Birth
from specrun_runtime.cgroups import Cgroup
from specrun_runtime.channel import Channel
from specrun_runtime.constants import Prctl
from specrun_runtime.errors import IsolationError, SpecError, StartFailed
from specrun_runtime.fds import read_all, start_time, write_all
from specrun_runtime.files import discard, remove_tree
from specrun_runtime.joining import Joining
from specrun_runtime.launch import FIRST_PRESERVED
from specrun_runtime.spec import Process, Spec
from specrun_runtime.steps import Overlay

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

REQUESTS, REPORTS = 3, 4
_CHUNK = 65536


def serve() -> None:
    """Fork a monitor for each order that comes on descriptor 3, until its other end is closed. Never returns."""
    _signal.signal(_signal.SIGCHLD, _signal.SIG_IGN)  # nobody here waits for them
    orders = Channel.at(REQUESTS)
    os.set_inheritable(REQUESTS, False)
    while True:
        message, descriptors = orders.receive_many(5)
        if message is None:
            os._exit(0)
        if os.fork() == 0:
            _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
            os.setsid()
            high = [os.dup(descriptor) for descriptor in descriptors]
            while min(high) < FIRST_PRESERVED:
                high = [os.dup(descriptor) for descriptor in high]
            for target, source in enumerate(high):
                os.dup2(source, target)
            libc.close_range(REPORTS + 1)
            main()
        for descriptor in descriptors:
            os.close(descriptor)


def main() -> None:
    """Do what the request asks for. Never returns."""
    status = 0
    try:
        for number in (_signal.SIGHUP, _signal.SIGINT, _signal.SIGTERM):
            _signal.signal(number, _signal.SIG_IGN)
        _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)  # a caller that ignores it would have us wait in vain
        text = read_all(REQUESTS, 8 << 20)
        os.close(REQUESTS)
        if text:
            request = jsontext.loads(text)
            for descriptor in range(FIRST_PRESERVED + request.get("preserved", 0)):
                try:
                    os.set_inheritable(descriptor, False)
                except OSError:
                    continue
            os.umask(0o077)
            os.chdir("/")
            _leave_niceness()
            _ACTIONS[request["action"]](request)
    except BaseException as error:
        status = 1
        _say({"event": "failed", **_explain(error)})
    os._exit(status)


def _leave_niceness() -> None:
    """A container does not run slower for the shell that it was started from."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    except PermissionError:
        pass  # without CAP_SYS_NICE nobody gets faster


def _supervise(request: dict[str, Any]) -> None:
    Supervisor(request).run()


def _create(request: dict[str, Any]) -> None:
    """Make a container that waits at its gate; with `stay`, wait for its end too."""
    directory = request["directory"]
    with open(f"{request['bundle']}/config.json", "rb") as file:
        document = jsontext.loads(file.read())
    spec = Spec(document)
    spec.root = os.path.join(request["bundle"], spec.root)
    preserved = [FIRST_PRESERVED + index for index in range(request["preserved"])]
    body = init.Body(spec.process, init.Streams(0, 1, 2, preserved))
    flags = os.O_CLOEXEC | os.O_NOFOLLOW
    body.gate = init.Gate(
        os.open(f"{directory}/exec.fifo", os.O_RDWR | flags),  # a writer too, so that its end is never read
        os.open(f"{directory}/failure", os.O_WRONLY | flags),
    )
    cgroup = Cgroup(request["cgroup"]["name"], bases=request["cgroup"]["bases"])
    birth = Birth(spec, cgroup, body, cache=request["cache"], identity=request["id"], bundle=request["bundle"])
    libc.prctl(Prctl.SET_DUMPABLE, 0)
    try:
        pid = birth.run()
        _send_console(request, spec.process, birth.terminal)
    except BaseException:
        cgroup.kill()
        cgroup.remove(2.0)
        raise
    os.close(body.gate.descriptor)
    os.close(body.gate.failures)
    _say({"event": "started", "pid": pid, "start_time": start_time(pid)})
    if request["stay"]:
        _await_end(pid)


def _exec(request: dict[str, Any]) -> None:
    """Start one process more in a running container; with `stay`, wait for its end too."""
    process = Process(request["process"])
    preserved = [FIRST_PRESERVED + index for index in range(request["preserved"])]
    stdin = 0 if request.get("stdin", True) else -1
    body = init.Body(process, init.Streams(stdin, 1, 2, preserved), user=request["user"])
    body.personality = request["personality"]
    body.groups = request.get("groups", [])
    cgroup = Cgroup(request["cgroup"]["name"], bases=request["cgroup"]["bases"])
    joining = Joining(
        request["pid"], request["start_time"], cgroup, body, rules=request["seccomp"], cache=request["cache"]
    )
    libc.prctl(Prctl.SET_CHILD_SUBREAPER, 1)
    libc.prctl(Prctl.SET_DUMPABLE, 0)
    pid = joining.run()
    by_report = process.terminal and not request["console_socket"]
    if not by_report:
        _send_console(request, process, joining.terminal)
    started = {"event": "started", "pid": pid, "start_time": start_time(pid)}
    _say(started, joining.terminal if by_report else -1)
    if by_report:
        if request["drain"]:
            _drain(joining.terminal)
        os.close(joining.terminal)
    if request["stay"]:
        _await_end(pid)


def _drain(master: int) -> None:
    """Keep a terminal alive that nobody looks at, until its last user has gone."""
    try:
        while os.read(master, _CHUNK):
            continue
    except OSError:
        pass


def _send_console(request: dict[str, Any], process: Process, master: int) -> None:
    """Hand the master of the terminal to whoever listens at the console socket (runc's convention)."""
    if process.terminal:
        try:
            channel.send_to(request["console_socket"], b"/dev/ptmx", [master])
        except OSError as error:
            raise StartFailed("send the terminal to the console socket", str(error), error.errno or 0) from error
        os.close(master)


def _await_end(pid: int) -> None:
    """Hold nothing of the container's streams, and report its end."""
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for descriptor in range(3):
        os.dup2(null, descriptor, inheritable=False)
    while True:
        ended, status = os.waitpid(-1, 0)  # orphans of the container's hooks come to us too
        if ended == pid:
            break
    code = os.waitstatus_to_exitcode(status)
    _say({"event": "exited", "status": 128 - code if code < 0 else code})


_ACTIONS = {"supervise": _supervise, "create": _create, "exec": _exec}


class Supervisor:
    """One container of the engine from the request to its end."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.directory: str = request["directory"]
        self.user: str | None = request["user"]
        self.groups: list[str] = request["groups"]
        self.reaper: bool = request["init"]
        self.durable: bool = request["durable"]
        self.removal: dict[str, Any] | None = request["removal"]
        self.attached = (bool(request["attach"]["stdout"]), bool(request["attach"]["stderr"]))
        self.stdin = 0 if request["attach"]["stdin"] or request["attach"]["keep"] else -1
        self.keep: str = request["attach"]["keep"]
        """Whether its input stays open for whoever attaches: "" for no, "once" until the first one has left, "open"."""
        self.feed = -1
        """The writing end of that input."""
        self.overlay = Overlay(**request["overlay"]) if request["overlay"] else None
        self.cache: str | None = request["cache"]
        self.cgroup = Cgroup(request["cgroup"])
        self.network = os.open(path, os.O_RDONLY | os.O_CLOEXEC) if (path := request["network"]) else -1
        """The network namespace, which outlives each of the container's first processes."""
        self.events: dict[str, Any] = request["events"]
        self.check: dict[str, Any] | None = request["health"]
        """Docker's Healthcheck, if there is anything to check."""
        self.delay = 0.0
        """Seconds that the last restart has waited."""
        self.log_limits: tuple[int, int] = tuple(request["log"])
        """The size of a log file, and how many there are; none at all for 0."""
        self.log: logfile.Log | logfile.NoLog = logfile.NoLog()
        self.state = state.State()
        self.owner = -1

    def run(self) -> None:
        """Start the container, watch it, clean up after it."""
        self.owner = state.own(self.directory)
        self.state = state.load(self.directory)
        libc.prctl(Prctl.SET_CHILD_SUBREAPER, 1)
        libc.prctl(Prctl.SET_DUMPABLE, 0)
        self.state.monitor_pid, self.state.restarts = os.getpid(), 0
        self.log = self._open_log()
        try:
            status = self._watch(*self._start())
            while self._await_restart(status):
                status = self._watch(*self._start())
        except BaseException as error:
            self._record_failure(error)
            raise
        self._finish(status)

    def _open_log(self) -> logfile.Log | logfile.NoLog:
        size, count = self.log_limits
        return logfile.Log(f"{self.directory}/log", size, count) if count else logfile.NoLog()

    def _start(self) -> tuple[int, list[Output]]:
        with open(f"{self.directory}/config.json", "rb") as file:
            spec = Spec(jsontext.loads(file.read()))
        if self.network >= 0:
            spec.namespaces["network"] = f"/proc/self/fd/{self.network}"
        pairs = [] if spec.process.terminal else [os.pipe2(os.O_CLOEXEC) for _ in range(2)]
        streams = init.Streams(self.stdin, pairs[0][1], pairs[1][1]) if pairs else init.Streams(-1, -1, -1)
        body = init.Body(spec.process, streams, user=self.user)
        body.groups, body.reaper = self.groups, self.reaper
        birth = Birth(spec, self.cgroup, body, overlay=self.overlay, cache=self.cache)
        pid = birth.run()
        for _, writer in pairs:
            os.close(writer)
        if self.keep and pairs:
            self.feed = os.open("/proc/self/fd/0", os.O_WRONLY | os.O_CLOEXEC)
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        os.dup2(null, 0, inheritable=False)  # only the container holds its stdin now, so that its end is seen
        os.close(null)
        if pairs:
            outputs = [
                Output(reader, name, [Sink(sink, pipeline=True)] if attached else [])
                for (reader, _), name, sink, attached in zip(
                    pairs, (b"stdout", b"stderr"), (1, 2), self.attached, strict=True
                )
            ]
        else:
            outputs = [Output(birth.terminal, b"stdout", [Sink(1, pipeline=False)] if self.attached[0] else [])]
        self.state.move(state.RUNNING)
        self.state.pid, self.state.start_time = pid, start_time(pid)
        self.state.started_at = time.time()
        self.state.finished_at, self.state.exit_code, self.state.error = 0.0, 0, ""
        self.state.oom_killed = False
        state.save(self.directory, self.state, durable=self.durable)
        self._tell("start")
        if self.state.restarts and self._is_stopped():  # while it was being started
            os.kill(pid, _signal.SIGKILL)
        _say({"event": "started", "pid": pid, "start_time": self.state.start_time}, birth.terminal)
        return pid, outputs

    def _record_failure(self, error: BaseException) -> None:
        """A container that never ran: what was made for it goes, and its record says why."""
        explanation = _explain(error)
        self._remove_cgroup()
        attachment.release(self.directory)
        if self.removal:
            self._remove_directory(self.removal)
            return
        self.state.move(state.CREATED if self.state.status == state.CREATING else state.EXITED)
        self.state.exit_code, self.state.error = explanation["status"], explanation["message"]
        state.save(self.directory, self.state, durable=self.durable)
        self._tell_waiters()

    def _watch(self, pid: int, outputs: list[Output]) -> int:
        """Copy the outputs and look after the container's health until it has ended; gives its exit status."""
        poll = select.poll()
        handle = os.pidfd_open(pid)
        poll.register(handle, select.POLLIN)
        by_number = {output.reader: output for output in outputs}
        for output in outputs:
            poll.register(output.reader, select.POLLIN)
        checks = self._health(poll)
        self.visitors = Visitors(self.directory, poll)
        checks = self._take_orders(poll, checks)  # after the socket is there: later ones are told by it
        ended = False
        while not ended:
            for number, _ in poll.poll(checks.timeout() if checks else None):
                if number == handle:
                    ended = True
                elif checks and checks.heed(number):
                    continue
                elif number in self.visitors:
                    message, sinks = self.visitors.heed(number)
                    if message and message["event"] == "orders":
                        checks = self._take_orders(poll, checks)
                        self.visitors.send(number, {"event": "taken"})
                    elif sinks:
                        self._admit(number, sinks, outputs)
                elif number in by_number and not by_number[number].pump(self.log):
                    poll.unregister(number)
                    os.close(number)
                    del by_number[number]
            if checks and not ended:
                checks.tick()
        if checks:
            checks.stop()
        for output in by_number.values():
            os.set_blocking(output.reader, False)
            while output.pump(self.log):
                pass
            os.close(output.reader)
        os.close(handle)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return 128 - code if code < 0 else code

    def _admit(self, number: int, sinks: list[int], outputs: list[Output]) -> None:
        """Somebody attaches: the outputs go there too, and they get the writing end of the input."""
        tty = len(outputs) == 1
        for output, sink in zip(outputs, sinks, strict=False):
            output.sinks.append(Sink(sink, pipeline=False, owned=True))
        for extra in sinks[len(outputs) :]:
            os.close(extra)
        feed = outputs[0].reader if tty else self.feed
        self.visitors.send(number, {"event": "attached"}, feed)
        if self.keep == "once" and not tty and self.feed >= 0:
            os.close(self.feed)  # the visitor has the only one now, so that its end is the input's end
            self.feed = -1

    def _take_orders(self, poll: select.poll, checks: health.Health | None) -> health.Health | None:
        """What the engine has changed while the container runs: log, health check, labels; gives the checks from now.

        The first orders came with the request; there is a file only when there were others.
        """
        try:
            with open(f"{self.directory}/{state.ORDERS}", "rb") as file:
                orders = jsontext.loads(file.read())
        except (OSError, ValueError):
            return checks  # there were none, or the container is being removed
        self.events["attributes"] = orders["attributes"]
        limits = tuple(orders["log"])
        if limits != self.log_limits:
            self.log_limits = limits
            self.log.close()
            self.log = self._open_log()
        if orders["health"] == self.check:
            return checks
        before, self.check = self.check, orders["health"]
        if checks:
            checks.stop()
        renewed = self._health(poll)
        if renewed is None:
            discard(f"{self.directory}/{health.FILE}")
        elif checks and before and before["Test"] == orders["health"]["Test"]:
            renewed.go_on(checks)
        return renewed

    def _health(self, poll: select.poll) -> health.Health | None:
        if not self.check:
            return None
        words = self.check["Test"]
        args = ["/bin/sh", "-c", words[1]] if words[0] == "CMD-SHELL" else words[1:]
        with open(f"{self.directory}/config.json", "rb") as file:
            document = jsontext.loads(file.read())
        rules = document["linux"].get("seccomp")
        process = Process({**document["process"], "args": args, "terminal": False})

        def start(writer: int) -> int:
            body = init.Body(process, init.Streams(-1, writer, writer), user=self.user)
            body.groups = self.groups
            known = self.state
            return Joining(known.pid, known.start_time, self.cgroup, body, rules=rules, cache=self.cache).run()

        return health.Health(
            self.check,
            self.directory,
            poll,
            start,
            lambda status: self._tell(f"health_status: {status}"),
            self.cgroup.is_frozen,
        )

    def _is_stopped(self) -> bool:
        """Whether somebody wants the container to stay down; the mark is made before the signal is sent."""
        return os.path.exists(f"{self.directory}/{state.STOPPED_MARK}")

    def _policy(self) -> dict[str, Any]:
        """The restart policy as it is now: `update` may have changed it."""
        if self.removal:
            return {"Name": "no"}
        try:
            with open(f"{self.directory}/container.json", "rb") as file:
                policy: dict[str, Any] = jsontext.loads(file.read())["host_config"]["RestartPolicy"]
        except (OSError, ValueError, KeyError):
            return {"Name": "no"}  # a container that is being removed
        return policy

    def _await_restart(self, status: int) -> bool:
        """After an end, wait as long as the policy says; False when the container is not to be started again."""
        known = self.state
        wanted = restarts.wanted(self._policy(), status, known.restarts, stopped=self._is_stopped())
        if not wanted:
            return False
        lasted = time.time() - known.started_at
        self._record_end(status, state.RESTARTING)
        self.visitors.close({"event": "exited", "status": status})
        _say({"event": "exited", "status": status})
        self._leave_caller()
        self.delay = restarts.delay(self.delay, lasted)
        deadline = time.monotonic() + self.delay
        while (left := deadline - time.monotonic()) > 0:
            if self._is_stopped():
                return False
            time.sleep(min(left, 0.05))
        if not restarts.wanted(self._policy(), status, known.restarts, stopped=self._is_stopped()):
            return False
        known.restarts += 1
        return True

    def _leave_caller(self) -> None:
        """Whoever was attached saw one life of the container; the next one has nobody, and an input only if kept."""
        if self.feed >= 0:
            os.close(self.feed)
            self.feed = -1
        if self.keep == "once":
            self.keep = ""
        self.attached, self.stdin = (False, False), 0 if self.keep else -1
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        for descriptor in range(3):
            os.dup2(null, descriptor, inheritable=False)
        os.close(null)
        if self.keep:
            reader, writer = os.pipe2(os.O_CLOEXEC)
            os.dup2(reader, 0, inheritable=False)
            os.close(reader)
            os.close(writer)

    def _record_end(self, status: int, what: str) -> None:
        """Let go of what one life of the container had, and say how it ended."""
        self.state.oom_killed = self.cgroup.oom_kills() > 0
        self._remove_cgroup()
        self.state.move(what)
        self.state.pid = self.state.start_time = 0
        self.state.exit_code, self.state.finished_at = status, time.time()
        self.state.error = self.log.error
        if not self._goes():
            state.save(self.directory, self.state, durable=self.durable)
        if self.state.oom_killed:
            self._tell("oom")
        self._tell("die", exitCode=str(status))

    def _finish(self, status: int) -> None:
        attachment.release(self.directory)
        if self.state.status == state.RESTARTING:
            self.state.move(state.EXITED)
            state.save(self.directory, self.state, durable=self.durable)
        else:
            self._record_end(status, state.EXITED)
        self._tell_waiters()
        if self.removal and self._goes():
            self._remove_directory(self.removal)
        self.visitors.close({"event": "exited", "status": status})
        _say({"event": "exited", "status": status})

    def _goes(self) -> bool:
        """Whether the container is removed at its end; not when a restart by hand keeps it."""
        return self.removal is not None and not os.path.exists(f"{self.directory}/{state.KEPT_MARK}")

    def _tell_waiters(self) -> None:
        """Write the exit status into the file that `wait` holds open, in place: it may be removed next."""
        with open(f"{self.directory}/exit", "r+b", buffering=0) as file:
            file.write(str(self.state.exit_code).encode())

    def _remove_cgroup(self) -> None:
        try:
            self.cgroup.remove(0.2)
        except IsolationError:
            self.cgroup.kill()
            self.cgroup.remove(5.0)

    def _remove_directory(self, removal: dict[str, Any]) -> None:
        """First out of the way, then away: a crash between leaves only rubbish that is known as such."""
        os.rename(self.directory, removal["trash"])
        try:
            os.unlink(removal["name"])
        except FileNotFoundError:
            pass
        remove_tree(removal["trash"])
        self._tell("destroy")
        if removal["volumes"]["names"]:
            self._remove_volumes(**removal["volumes"], trash=removal["trash"])

    def _remove_volumes(self, names: list[str], folder: str, lock: str, containers: str, trash: str) -> None:
        """Remove the anonymous volumes that no other container's record names."""
        with open(lock, "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            for entry in os.listdir(containers):
                try:
                    with open(f"{containers}/{entry}/container.json", "rb") as record:
                        text = record.read()
                except OSError:
                    continue
                names = [name for name in names if name.encode() not in text]
            for name in names:
                try:
                    os.rename(f"{folder}/{name}", f"{trash}.{name[:12]}")
                except FileNotFoundError:
                    continue
                eventlog.append(self.events["folder"], "volume", "destroy", name, {"driver": "local"})
        for name in names:
            remove_tree(f"{trash}.{name[:12]}")

    def _tell(self, action: str, **more: str) -> None:
        """Record an event of the container."""
        about = self.events
        eventlog.append(about["folder"], "container", action, about["id"], {**about["attributes"], **more})


class Sink:
    """Where an attached command gets a stream."""

    __slots__ = ("number", "owned", "pipeline")

    def __init__(self, number: int, *, pipeline: bool, owned: bool = False) -> None:
        self.number = number
        self.pipeline = pipeline
        """Whether a caller that reads no more closes the stream, so that `specrun run ... | head` ends."""
        self.owned = owned
        """Whether the descriptor is closed with it."""

    def put(self, data: bytes) -> bool:
        """Write; False when nobody reads any more."""
        try:
            write_all(self.number, data)
        except OSError:
            if self.owned:
                os.close(self.number)
            return False
        return True


class Output:
    """One stream of the container: from its pipe or terminal to the log and to those who are attached."""

    __slots__ = ("name", "reader", "sinks")

    def __init__(self, reader: int, name: bytes, sinks: list[Sink]) -> None:
        self.reader = reader
        self.name = name
        self.sinks = sinks

    def pump(self, log: logfile.Log | logfile.NoLog) -> bool:
        """Pass one chunk on; False at the end of the stream, or when a pipeline's reader has gone."""
        try:
            data = os.read(self.reader, _CHUNK)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != 5:  # EIO: the last of the terminal's users has gone
                raise
            return False
        if not data:
            return False
        log.write(self.name, data)
        for sink in self.sinks[:]:
            if not sink.put(data):
                self.sinks.remove(sink)
                if sink.pipeline:
                    return False
        return True


class Visitors:
    """Commands that attach to the container, by a socket in its folder, which only its owner can enter.

    A visitor sends one message with the descriptors that the outputs are to go to; it is told `attached`, with the
    writing end of the container's input if there is one, and `exited` at the end. Or it sends `orders` when it has
    written others, and is told `taken`.
    """

    def __init__(self, directory: str, poll: select.poll) -> None:
        self._poll = poll
        self._path = f"{directory}/attach"
        self._guests: dict[int, Channel] = {}
        self._listener = channel.listen(self._path)
        poll.register(self._listener, select.POLLIN)

    def __contains__(self, number: int) -> bool:
        return number == self._listener.fileno() or number in self._guests

    def heed(self, number: int) -> tuple[dict[str, Any] | None, list[int]]:
        """Let somebody in, or hear what a visitor says, with the descriptors that it sends."""
        if number == self._listener.fileno():
            guest = channel.accept(self._listener)
            self._guests[guest.fileno()] = guest
            self._poll.register(guest.fileno(), select.POLLIN)
            return None, []
        message, descriptors = self._guests[number].receive_many(3)
        if message is None:
            self._poll.unregister(number)
            self._guests.pop(number).close()
        return message, descriptors

    def send(self, number: int, message: dict[str, Any], descriptor: int = -1) -> None:
        """Tell one of them."""
        try:
            self._guests[number].send(message, descriptor)
        except OSError:
            pass  # gone; it is noticed as the end of what it says

    def close(self, message: dict[str, Any]) -> None:
        """Tell all of them, and let nobody in any more."""
        for number in self._guests:
            self.send(number, message)
            self._guests[number].close()
        self._guests.clear()
        self._listener.close()
        try:
            os.unlink(self._path)
        except OSError:
            pass  # gone with the folder


def _explain(error: BaseException) -> dict[str, Any]:
    step, number, status, message = "supervise the container", getattr(error, "errno", 0) or 0, 125, str(error)
    if isinstance(error, StartFailed):
        step, number, status, message = error.step, error.number, error.status, error.message
    elif isinstance(error, SpecError):
        step = "read the configuration"
    elif not isinstance(error, OSError):
        frame = error.__traceback__
        while frame and frame.tb_next:
            frame = frame.tb_next
        where = f" (line {frame.tb_lineno} of {frame.tb_frame.f_code.co_filename})" if frame else ""
        message = f"{type(error).__name__}: {error}{where}"
    return {"step": step, "number": number, "status": status, "message": message}


def _say(report: dict[str, Any], descriptor: int = -1) -> None:
    try:
        Channel.at(os.dup(REPORTS)).send(report, descriptor)
    except OSError:
        pass  # the command has ended, as it may


if __name__ == "__main__":
    sys.exit("started by specrun_runtime.launch only")
