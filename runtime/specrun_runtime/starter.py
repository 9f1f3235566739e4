"""The part of a monitor that starts its container, in a process of its own: what that takes is not kept afterwards.

It is forked before the monitor knows its task, so that it gets ready while the command still prepares the request.
The container's first process is its child, and the monitor's once it has ended: the monitor is a subreaper
(PR_SET_CHILD_SUBREAPER in prctl(2)).
"""

from __future__ import annotations

import _signal
import os

from specrun_runtime import libc
from specrun_runtime.channel import Channel
from specrun_runtime.constants import Prctl
from specrun_runtime.errors import StartFailed
from specrun_runtime.reporting import REPORTS, REQUESTS, explain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn


class Starter:
    """Starts one container, once."""

    def __init__(self) -> None:
        self._orders, far = Channel.pair()
        monitor = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            self._orders.close()
            _serve(far, monitor)
        far.close()

    def start(self, order: dict[str, Any], network: int) -> tuple[int, list[int], bool]:
        """The pid of the container's first process, the reading ends of its outputs, and whether that is a terminal.

        That process is the caller's child when the starter was reaped. Raises StartFailed, and then it was.
        """
        try:
            self._orders.send(order, network)
            report, descriptors = self._orders.receive_many(2)
        except BrokenPipeError:
            report, descriptors = None, []
        self._orders.close()
        if report is None or report["event"] == "failed":
            self.reap()
            if report is None:
                raise StartFailed("start the container", "the process that starts it was killed")
            raise StartFailed(report["step"], report["message"], report["number"], report["status"])
        return report["pid"], descriptors, report["terminal"]

    def reap(self) -> None:
        """Wait for the end of its process, which is near."""
        os.waitpid(self._pid, 0)


def load() -> None:
    """Import what a start needs: once more than once, it must be the same as at first, whatever is installed then."""
    import specrun_runtime.birth  # noqa: F401


def _serve(orders: Channel, monitor: int) -> NoReturn:
    """Get ready, wait for the order, start the container, report."""
    try:
        libc.prctl(Prctl.SET_PDEATHSIG, _signal.SIGKILL)
        if os.getppid() != monitor:
            os._exit(1)
        libc.prctl(Prctl.SET_DUMPABLE, 0)
        _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
        os.close(REQUESTS)
        os.close(REPORTS)
        load()
        order, network = orders.receive()
        if order:
            pid, descriptors, terminal = _start(order, network)
            orders.send_many({"event": "born", "pid": pid, "terminal": terminal}, descriptors)
    except BaseException as error:
        orders.send({"event": "failed", **explain(error, "start the container")})
    finally:
        os._exit(0)


def _start(order: dict[str, Any], network: int) -> tuple[int, list[int], bool]:
    from specrun_runtime import init, jsontext
    from specrun_runtime.birth import Birth
    from specrun_runtime.cgroups import Cgroup
    from specrun_runtime.spec import Spec
    from specrun_runtime.steps import Overlay

    with open(f"{order['directory']}/config.json", "rb") as file:
        spec = Spec(jsontext.loads(file.read()))
    if network >= 0:
        spec.namespaces["network"] = f"/proc/self/fd/{network}"
    terminal = spec.process.terminal
    pairs = [(-1, -1)] * 2 if terminal else [os.pipe2(os.O_CLOEXEC) for _ in range(2)]
    streams = init.Streams(0 if order["stdin"] else -1, pairs[0][1], pairs[1][1])
    body = init.Body(spec.process, streams, user=order["user"])
    body.groups, body.reaper = order["groups"], order["init"]
    overlay = Overlay(**order["overlay"]) if order["overlay"] else None
    birth = Birth(spec, Cgroup(order["cgroup"]), body, overlay=overlay, cache=order["cache"])
    pid = birth.run()
    return pid, [birth.terminal] if terminal else [reader for reader, _ in pairs], terminal
