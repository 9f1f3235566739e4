"""Joining a running container: a process with all that its first one was given (`exec`).

The process that enters is a fork of the sealed interpreter that holds no descriptor of the host's files but its
streams, and the pid namespace, which makes it visible inside, is entered last.
"""

from __future__ import annotations

import errno
import os
import select

from specrun_runtime import channel, init, libc, namespaces, seccomp
from specrun_runtime.constants import Clone, Prctl
from specrun_runtime.errors import FIND_CONTAINER, IsolationError, StartFailed
from specrun_runtime.fds import open_process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from specrun_runtime.cgroups import Cgroup
    from specrun_runtime.channel import Channel


class Joining:
    """One process more. After `run`, `terminal` is the master of its terminal, or -1."""

    def __init__(
        self,
        pid: int,
        started: int,
        cgroup: Cgroup,
        body: init.Body,
        *,
        rules: dict[str, Any] | None = None,
        cache: str | None = None,
    ) -> None:
        self.container = pid
        self.started = started
        self.cgroup = cgroup
        self.body = body
        self.rules = rules
        """`linux.seccomp` of the container."""
        self.cache = cache
        self.terminal = -1
        self.pid = 0

    def run(self) -> int:
        """Give the pid of the process, as this one sees it, when it executes the command. Raises StartFailed."""
        if self.rules:
            self.body.filter = init.Filter(
                seccomp.program_for(self.rules, self.cache), seccomp.flags_of(self.rules) & ~8
            )
        handle = open_process(self.container, self.started)
        if handle is None:
            raise StartFailed(FIND_CONTAINER, "the container is not running")
        ours, theirs = channel.Channel.pair()
        try:
            between = self.cgroup.fork()
            if between == 0:
                ours.close()
                self._between(handle, theirs)
        finally:
            os.close(handle)
            theirs.close()
        try:
            self._listen(ours)
        finally:
            ours.close()
            os.waitpid(between, 0)
        return self.pid

    def _between(self, handle: int, theirs: Channel) -> NoReturn:
        """Join the group and the namespaces, then fork into the pid namespace."""
        step = "join the control group"
        try:
            libc.prctl(Prctl.SET_DUMPABLE, 0)
            if self.body.process.affinity[0]:
                os.sched_setaffinity(0, self.body.process.affinity[0])
            self.cgroup.join()
            step = "join the namespaces"
            flags = self._differing()
            libc.setns(handle, flags)
            if flags & Clone.NEWUSER:
                namespaces.become_root()
            pid = os.fork()
            if pid == 0:
                os.close(handle)
                init.join(self.body, theirs)
            theirs.send({"event": "pid", "pid": pid})
        except BaseException as error:
            number, message = getattr(error, "errno", 0) or 0, str(error)
            # When it has ended meanwhile, or is about to, whatever has failed is a consequence.
            if number == errno.ESRCH or _has_ended(handle):
                step, message = FIND_CONTAINER, "the container is not running"
            theirs.send({"event": "failed", "step": step, "message": message, "number": number, "status": 125})
        finally:
            os._exit(0)

    def _differing(self) -> int:
        """The namespaces of the container that are not ours; joining our own user namespace would be refused."""
        flags = 0
        for kind, flag in namespaces.FLAGS.items():
            name = namespaces.FILES[kind]
            try:
                theirs = os.stat(f"/proc/{self.container}/ns/{name}").st_ino
                if theirs != os.stat(f"/proc/self/ns/{name}").st_ino:
                    flags |= flag
            except FileNotFoundError:
                continue
            except OSError as error:
                raise IsolationError.of(error.errno or 5, "stat", f"/proc/{self.container}/ns/{name}") from error
        return flags

    def _listen(self, ours: Channel) -> None:
        failure: dict[str, Any] | None = None
        while True:
            message, descriptor = ours.receive()
            if message is None:
                break
            if message["event"] == "pid":
                self.pid = message["pid"]
            elif message["event"] == "terminal":
                self.terminal = descriptor
            elif message["event"] == "failed":
                failure = message
        if failure:
            raise StartFailed(failure["step"], failure["message"], failure["number"], failure["status"])
        if not self.pid:
            raise StartFailed("join the container", "the process ended without a word")


def _has_ended(handle: int) -> bool:
    """Whether the process of a pidfd has ended (pidfd_open(2))."""
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(0))
