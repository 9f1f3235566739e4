"""The sealed process between a command and a container: it has the container started, and outlives the command.

There is one for each running container: it keeps the container's log, records its end, and cleans up. It begins in
`specrun_runtime.supervise`, with the container's stdin and the attached stdout and stderr as its own 0, 1 and 2. As
there are many of it, it keeps to a handful of modules; what a start needs is loaded by its `Starter`.
"""

from __future__ import annotations

import _signal
import fcntl
import os
import select
import time

from specrun_runtime import attachment, eventlog, health, jsontext, libc, logfile, restarts, state
from specrun_runtime.cgroups import Cgroup, remove_unused
from specrun_runtime.constants import Prctl
from specrun_runtime.errors import IsolationError
from specrun_runtime.fds import start_time
from specrun_runtime.files import discard, remove_tree
from specrun_runtime.outputs import Output, Sink, Visitors
from specrun_runtime.reporting import explain, say, take_places
from specrun_runtime.starter import Starter, load
from specrun_runtime.supervise import STEP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn


class Supervisor:
    """One container of the engine from the request to its end."""

    def __init__(self, request: dict[str, Any], starter: Starter) -> None:
        self.request = request
        self.starter: Starter | None = starter
        """Of the first start; for each further one there is a new one."""
        self.directory: str = request["directory"]
        self.durable: bool = request["durable"]
        self.removal: dict[str, Any] | None = request["removal"]
        self.attached = (bool(request["attach"]["stdout"]), bool(request["attach"]["stderr"]))
        self.stdin = 0 if request["attach"]["stdin"] or request["attach"]["keep"] else -1
        self.keep: str = request["attach"]["keep"]
        """Whether its input stays open for whoever attaches: "" for no, "once" until the first one has left, "open"."""
        self.feed = -1
        """The writing end of that input."""
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
        self.bell = -1
        """Readable when a child has ended, whichever."""

    def run(self) -> None:
        """Start the container, watch it, clean up after it."""
        self.owner = state.own(self.directory)
        self.state = state.load(self.directory)
        libc.prctl(Prctl.SET_CHILD_SUBREAPER, 1)
        libc.prctl(Prctl.SET_DUMPABLE, 0)
        self.state.monitor_pid, self.state.restarts = os.getpid(), 0
        self.log = self._open_log()
        self.bell = _children_bell()
        try:
            started = self._start()
            if self._policy()["Name"] != "no":
                load()
            status = self._watch(*started)
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
        starter, self.starter = self.starter or Starter(), None
        pid, descriptors, terminal = starter.start(self._order(), self.network)
        if self.keep and not terminal:
            self.feed = os.open("/proc/self/fd/0", os.O_WRONLY | os.O_CLOEXEC)
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        os.dup2(null, 0, inheritable=False)  # only the container holds its stdin now, so that its end is seen
        os.close(null)
        outputs = [
            Output(reader, name, [Sink(sink, pipeline=not terminal)] if attached else [])
            for reader, name, sink, attached in zip(
                descriptors, (b"stdout", b"stderr"), (1, 2), self.attached, strict=False
            )
        ]
        self.state.move(state.RUNNING)
        self.state.pid, self.state.start_time = pid, start_time(pid)
        self.state.started_at = time.time()
        self.state.finished_at, self.state.exit_code, self.state.error = 0.0, 0, ""
        self.state.oom_killed = False
        state.save(self.directory, self.state, durable=self.durable)
        self._tell("start")
        if self.state.restarts and self._is_stopped():  # while it was being started
            os.kill(pid, _signal.SIGKILL)
        started = {"event": "started", "pid": pid, "start_time": self.state.start_time}
        say(started, descriptors[0] if terminal else -1)
        starter.reap()
        return pid, outputs

    def _order(self) -> dict[str, Any]:
        """What the starter needs to know."""
        names = ("directory", "user", "groups", "init", "overlay", "cache", "cgroup")
        return {**{name: self.request[name] for name in names}, "stdin": self.stdin >= 0}

    def _record_failure(self, error: BaseException) -> None:
        """A container that never ran: what was made for it goes, and its record says why."""
        explanation = explain(error, STEP)
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
        for number in (*by_number, self.bell):
            poll.register(number, select.POLLIN)
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
                    elif message and message["event"] == "lend":
                        _lend(sinks)
                    elif sinks:
                        self._admit(number, sinks, outputs)
                elif number == self.bell:
                    os.read(number, 64)
                elif number in by_number and not by_number[number].pump(self.log):
                    poll.unregister(number)
                    os.close(number)
                    del by_number[number]
            _reap_strays({pid, checks.probe.pid if checks and checks.probe else pid})
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
        from specrun_runtime import init
        from specrun_runtime.joining import Joining
        from specrun_runtime.spec import Process

        process = Process({**document["process"], "args": args, "terminal": False})

        def start(writer: int) -> int:
            body = init.Body(process, init.Streams(-1, writer, writer), user=self.request["user"])
            body.groups = self.request["groups"]
            known, cache = self.state, self.request["cache"]
            return Joining(known.pid, known.start_time, self.cgroup, body, rules=rules, cache=cache).run()

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
        say({"event": "exited", "status": status})
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
            removed = os.path.exists(f"{self.directory}/{state.REMOVED_MARK}")
            state.save(self.directory, self.state, durable=self.durable and not removed)
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
        os.close(self.owner)  # all is done; whoever waits for it need not wait for the end of this process
        self.visitors.close({"event": "exited", "status": status})
        say({"event": "exited", "status": status})

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
        remove_unused(self.request["parents"])

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


def _children_bell() -> int:
    """A descriptor that becomes readable with each SIGCHLD (signal.set_wakeup_fd)."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    _signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    _signal.signal(_signal.SIGCHLD, lambda *_: None)
    return reader


def _reap_strays(kept: set[int]) -> None:
    """Reap the forks that were lent, and what they have left behind; those to be `kept` are reaped in their place.

    The first process of a pid namespace ends only when the last zombie in it is gone, and we adopt those of `exec`.
    """
    try:
        while (child := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and child.si_pid not in kept:
            os.waitpid(child.si_pid, 0)
    except ChildProcessError:
        pass


def _lend(descriptors: list[int]) -> None:
    """Fork for a command that would have to start an interpreter for its errand in the container."""
    if os.fork() == 0:
        _do_errand(descriptors)
    for descriptor in descriptors:
        os.close(descriptor)


def _do_errand(descriptors: list[int]) -> NoReturn:
    """In a fork of a monitor: be what `launch.spawn` starts, with nothing of the monitor's but its code."""
    try:
        os.setsid()
        take_places(descriptors)
        from specrun_runtime import errands

        say({"event": "ready"})
        errands.main()
    finally:
        os._exit(1)
