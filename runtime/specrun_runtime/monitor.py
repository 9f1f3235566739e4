"""The supervisor of one container: outlives the command, keeps the log, records the exit status, cleans up.

It is started by `specrun_runtime.launch` with the container's stdin and the attached stdout and stderr as its own
0, 1 and 2, a pipe with one request on 3, and a pipe for reports on 4. Reports are JSON, one a line:
`{"event": "started", "pid", "start_time"}`, `{"event": "failed", "step", "message", "number", "status"}` and
`{"event": "exited", "status"}`.

It keeps to a handful of modules, because there is one of it for each running container.
"""

from __future__ import annotations

import _signal
import json
import os
import select
import sys
import time

from specrun_runtime import init, libc, logfile, state
from specrun_runtime.cgroups import Cgroup
from specrun_runtime.constants import Clone, Prctl
from specrun_runtime.errors import IsolationError, SpecError, StartFailed
from specrun_runtime.fds import read_all, start_time, write_all
from specrun_runtime.files import remove_tree
from specrun_runtime.spec import Spec
from specrun_runtime.steps import Overlay

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

REQUESTS, REPORTS = 3, 4
_CHUNK = 65536


def main() -> None:
    """Read the request and see one life of one container through. Never returns."""
    status = 0
    try:
        for number in (_signal.SIGHUP, _signal.SIGINT, _signal.SIGTERM):
            _signal.signal(number, _signal.SIG_IGN)
        for descriptor in range(5):
            os.set_inheritable(descriptor, False)
        text = read_all(REQUESTS, 8 << 20)
        os.close(REQUESTS)
        if text:
            os.umask(0o077)
            os.chdir("/")
            Supervisor(json.loads(text)).run()
    except BaseException as error:
        status = 1
        _say({"event": "failed", **_explain(error)})
    os._exit(status)


class Supervisor:
    """One container from the request to its end."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.directory: str = request["directory"]
        self.user: str | None = request["user"]
        self.durable: bool = request["durable"]
        self.removal: dict[str, str] | None = request["removal"]
        self.attached = (bool(request["attach"]["stdout"]), bool(request["attach"]["stderr"]))
        self.stdin = 0 if request["attach"]["stdin"] else -1
        self.overlay = Overlay(**request["overlay"]) if request["overlay"] else None
        self.cgroup = Cgroup(request["cgroup"])
        self.state = state.State()
        self.owner = -1

    def run(self) -> None:
        """Start the container, watch it, clean up after it."""
        self.owner = state.own(self.directory)
        self.state = state.load(self.directory)
        libc.prctl(Prctl.SET_CHILD_SUBREAPER, 1)
        libc.prctl(Prctl.SET_DUMPABLE, 0)
        self.state.monitor_pid = os.getpid()
        try:
            pid, outputs = self._start()
        except BaseException as error:
            self._record_failure(error)
            raise
        self._watch(pid, outputs)

    def _start(self) -> tuple[int, list[Output]]:
        with open(f"{self.directory}/config.json", "rb") as file:
            spec = Spec(json.load(file))
        self.cgroup.create()
        self.cgroup.limit(spec.resources)
        readers, writers = [], []
        for _ in range(2):
            reader, writer = os.pipe2(os.O_CLOEXEC)
            readers.append(reader)
            writers.append(writer)
        pid = self._fork(spec, init.Streams(self.stdin, *writers))
        for writer in writers:
            os.close(writer)
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        os.dup2(null, 0, inheritable=False)  # only the container holds its stdin now, so that its end is seen
        os.close(null)
        outputs = [
            Output(reader, name, sink if attached else -1)
            for reader, name, sink, attached in zip(readers, (b"stdout", b"stderr"), (1, 2), self.attached, strict=True)
        ]
        self.state.move(state.RUNNING)
        self.state.pid, self.state.start_time = pid, start_time(pid)
        self.state.started_at = time.time()
        self.state.finished_at, self.state.exit_code, self.state.error = 0.0, 0, ""
        state.save(self.directory, self.state, durable=self.durable)
        _say({"event": "started", "pid": pid, "start_time": self.state.start_time})
        return pid, outputs

    def _fork(self, spec: Spec, streams: init.Streams) -> int:
        """The first process of a new pid namespace, once it executes the command. Raises StartFailed."""
        reader, writer = os.pipe2(os.O_CLOEXEC)
        own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        if spec.makes("pid"):
            libc.unshare(Clone.NEWPID)
        pid = os.fork()
        if pid == 0:
            init.become(spec, self.user, self.overlay, self.cgroup, streams, writer)
        os.close(writer)
        libc.setns(own, Clone.NEWPID)  # the next child is not to be born into this container
        os.close(own)
        failure = read_all(reader)
        os.close(reader)
        if failure:
            os.waitpid(pid, 0)
            document = json.loads(failure)
            raise StartFailed(document["step"], document["message"], document["number"], document["status"])
        return pid

    def _record_failure(self, error: BaseException) -> None:
        """A container that never ran: what was made for it goes, and its record says why."""
        explanation = _explain(error)
        self._remove_cgroup()
        if self.removal:
            self._remove_directory(self.removal)
            return
        self.state.move(state.CREATED if self.state.status == state.CREATING else state.EXITED)
        self.state.exit_code, self.state.error = explanation["status"], explanation["message"]
        state.save(self.directory, self.state, durable=self.durable)
        self._tell_waiters()

    def _watch(self, pid: int, outputs: list[Output]) -> None:
        """Copy the outputs until the container has ended, then record how."""
        log = Log(f"{self.directory}/log")
        poll = select.poll()
        handle = os.pidfd_open(pid)
        poll.register(handle, select.POLLIN)
        by_number = {output.reader: output for output in outputs}
        for output in outputs:
            poll.register(output.reader, select.POLLIN)
        ended = False
        while not ended:
            for number, _ in poll.poll():
                if number == handle:
                    ended = True
                elif not by_number[number].pump(log):
                    poll.unregister(number)
                    os.close(number)
                    del by_number[number]
        for output in by_number.values():
            os.set_blocking(output.reader, False)
            while output.pump(log):
                pass
        self._finish(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), log)

    def _finish(self, code: int, log: Log) -> None:
        status = 128 - code if code < 0 else code
        self._remove_cgroup()
        self.state.move(state.EXITED)
        self.state.pid = self.state.start_time = 0
        self.state.exit_code, self.state.finished_at = status, time.time()
        self.state.error = log.error
        if not self.removal:
            state.save(self.directory, self.state, durable=self.durable)
        self._tell_waiters()
        if self.removal:
            self._remove_directory(self.removal)
        _say({"event": "exited", "status": status})

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

    def _remove_directory(self, removal: dict[str, str]) -> None:
        """First out of the way, then away: a crash between leaves only rubbish that is known as such."""
        os.rename(self.directory, removal["trash"])
        try:
            os.unlink(removal["name"])
        except FileNotFoundError:
            pass
        remove_tree(removal["trash"])


class Log:
    """The container's log file; a disk that takes no more ends the log, not the container."""

    __slots__ = ("_file", "_stamp", "error")

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._stamp = logfile.Stamp()
        self.error = ""

    def write(self, stream: bytes, data: bytes) -> None:
        """Append what the container wrote."""
        if self.error:
            return
        try:
            write_all(self._file, logfile.encode(self._stamp.now(), stream, data))
        except OSError as error:
            self.error = f"the log could not be written: {error.strerror}"


class Output:
    """One stream of the container: from its pipe to the log and, if attached, to the caller."""

    __slots__ = ("name", "reader", "sink")

    def __init__(self, reader: int, name: bytes, sink: int) -> None:
        self.reader = reader
        self.name = name
        self.sink = sink

    def pump(self, log: Log) -> bool:
        """Pass one chunk on; False at the end of the stream, or when the caller's reader has gone.

        The latter closes the pipe, so that `specrun run ... | head` ends as any pipeline does.
        """
        try:
            data = os.read(self.reader, _CHUNK)
        except BlockingIOError:
            return False
        if not data:
            return False
        log.write(self.name, data)
        if self.sink < 0:
            return True
        try:
            write_all(self.sink, data)
        except OSError:
            return False
        return True


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


def _say(report: dict[str, Any]) -> None:
    try:
        write_all(REPORTS, json.dumps(report).encode() + b"\n")
    except OSError:
        pass  # the command has ended, as it may


if __name__ == "__main__":
    sys.exit("started by specrun_runtime.launch only")
