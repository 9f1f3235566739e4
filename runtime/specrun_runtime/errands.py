"""A monitor whose work ends with its answer: it makes a container for the OCI command line, or executes in one.

The request's `action` is one of

- `create`: make a container, which waits at its gate, and end;
- `exec`: start one process more in a running container.

With `stay` it waits for the end of what it has started, and reports it.
"""

from __future__ import annotations

import _signal
import os
import sys

from specrun_runtime import channel, init, jsontext, libc
from specrun_runtime.cgroups import Cgroup
from specrun_runtime.channel import Channel
from specrun_runtime.constants import Prctl
from specrun_runtime.errors import StartFailed
from specrun_runtime.fds import start_time
from specrun_runtime.joining import Joining
from specrun_runtime.launch import FIRST_PRESERVED
from specrun_runtime.reporting import REPORTS, REQUESTS, explain, read_request, say, settle, take_places
from specrun_runtime.spec import Process, Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CHUNK = 65536


def serve() -> None:
    """Fork a monitor for each order that comes on descriptor 3, until its other end is closed. Never returns."""
    _signal.signal(_signal.SIGCHLD, _signal.SIG_IGN)  # nobody here waits for them
    import specrun_runtime.birth  # noqa: F401

    orders = Channel.at(REQUESTS)
    os.set_inheritable(REQUESTS, False)
    while True:
        message, descriptors = orders.receive_many(5)
        if message is None:
            os._exit(0)
        if os.fork() == 0:
            _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
            os.setsid()
            take_places(descriptors)
            main()
        for descriptor in descriptors:
            os.close(descriptor)


def main() -> None:
    """Do what the request asks for. Never returns."""
    status, step = 0, "read the request"
    try:
        settle()
        if request := read_request():
            for index in range(request["preserved"]):
                os.set_inheritable(FIRST_PRESERVED + index, False)
            step, perform = _ACTIONS[request["action"]]
            perform(request)
    except BaseException as error:
        status = 1
        say({"event": "failed", **explain(error, step)})
    os._exit(status)


def _create(request: dict[str, Any]) -> None:
    """Make a container that waits at its gate; with `stay`, wait for its end too."""
    from specrun_runtime.birth import Birth  # whoever executes in a container does not wait for this

    directory = request["directory"]
    with open(f"{request['bundle']}/config.json", "rb") as file:
        document = jsontext.loads(file.read())
    spec = Spec(document)
    spec.root = os.path.join(request["bundle"], spec.root)
    preserved = [FIRST_PRESERVED + index for index in range(request["preserved"])]
    body = init.Body(spec.process, init.Streams(0, 1, 2, preserved))
    body.foreign = [REPORTS]  # or whoever waits for a report would not learn of our end before the container's
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
    say({"event": "started", "pid": pid, "start_time": start_time(pid)})
    if request["stay"]:
        _await_end(pid)


def _exec(request: dict[str, Any]) -> None:
    """Start one process more in a running container; with `stay`, wait for its end too."""
    process = Process(request["process"])
    preserved = [FIRST_PRESERVED + index for index in range(request["preserved"])]
    stdin = 0 if request.get("stdin", True) else -1
    body = init.Body(process, init.Streams(stdin, 1, 2, preserved), user=request["user"])
    body.foreign = [REPORTS]
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
    say(started, joining.terminal if by_report else -1)
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
    say({"event": "exited", "status": 128 - code if code < 0 else code})


_ACTIONS = {"create": ("make the container", _create), "exec": ("join the container", _exec)}


if __name__ == "__main__":
    sys.exit("started by specrun_runtime.launch only")
