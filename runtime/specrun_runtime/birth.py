"""The launcher's part of a start: from a configuration to a process that executes the command, or waits to.

The child (`init`) tells by the channel, each only where it applies: `hooks` (and waits for `{"state"}`), `terminal` and
`listener` (each with a descriptor), `ready` (it waits at its gate), or `failed`. With a user namespace the process
between the two tells the child's `pid`. The end of the channel without a failure is the exec.
"""

from __future__ import annotations

import os

from specrun_runtime import channel, hooks, init, jsontext, libc, namespaces, seccomp, steps
from specrun_runtime.constants import Clone, Prctl
from specrun_runtime.errors import SpecError, StartFailed, Unsupported
from specrun_runtime.fds import Fd
from specrun_runtime.spec import VERSION, host_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from specrun_runtime.cgroups import Cgroup
    from specrun_runtime.channel import Channel
    from specrun_runtime.spec import Spec
    from specrun_runtime.steps import Overlay


class Birth:
    """One start of one container. After `run`, `terminal` is the master of its terminal, or -1."""

    def __init__(
        self,
        spec: Spec,
        cgroup: Cgroup,
        body: init.Body,
        *,
        overlay: Overlay | None = None,
        cache: str | None = None,
        identity: str = "",
        bundle: str = "",
    ) -> None:
        self.spec = spec
        self.cgroup = cgroup
        self.body = body
        self.overlay = overlay
        self.cache = cache
        """Folder of compiled seccomp filters."""
        self.identity = identity
        self.bundle = bundle
        self.terminal = -1
        self.pid = 0

    def run(self) -> int:
        """Give the pid of the container's first process, when it executes the command or waits at its gate.

        Raises StartFailed, SpecError or IsolationError; then nothing of the process is left.
        """
        spec = self.spec
        libc.prctl(Prctl.SET_CHILD_SUBREAPER, 1)
        if spec.seccomp:
            flags = seccomp.flags_of(spec.seccomp)
            self.body.filter = init.Filter(seccomp.program_for(spec.seccomp, self.cache), flags)
        self.body.hooks = spec.hooks["startContainer"]
        self.body.personality = spec.personality
        self.cgroup.create()
        self.cgroup.limit(spec.resources)
        paths = namespaces.open_paths(spec)
        try:
            if spec.makes("user"):
                paths["user"] = namespaces.new_user_namespace(spec.uid_mappings, spec.gid_mappings).release()
            plan = steps.plan(spec, self.overlay, paths)
            try:
                self._prepare(plan, paths.get("user", -1))
                ours, theirs = channel.Channel.pair()
                self._fork(plan, paths, ours, theirs)
            finally:
                plan.release()
        finally:
            for descriptor in paths.values():
                os.close(descriptor)
        try:
            self._listen(ours)
        except BaseException:
            self._reap()
            raise
        finally:
            ours.close()
        return self.pid

    def _prepare(self, plan: steps.Plan, user_namespace: int) -> None:
        for step in (*plan.before, *plan.after):
            try:
                step.prepare(user_namespace)
            except (SpecError, StartFailed):
                raise
            except OSError as error:
                raise StartFailed(step.describe(), str(error), error.errno or 0) from error
        if user_namespace >= 0:
            self._hand_over_streams()

    def _hand_over_streams(self) -> None:
        """Pipes were made with our ids, which a process of a user namespace cannot change."""
        streams, process = self.body.streams, self.body.process
        try:
            owner = host_id(self.spec.uid_mappings, process.uid)
        except ValueError as error:
            raise SpecError("process.user.uid", str(error)) from error
        for descriptor in (streams.stdin, streams.stdout, streams.stderr):
            if descriptor >= 0 and os.fstat(descriptor).st_mode & 0o170000 == 0o010000:
                os.fchown(descriptor, owner, -1)

    def _fork(self, plan: steps.Plan, paths: dict[str, int], ours: Channel, theirs: Channel) -> None:
        """The first process; between it and us one more where there is a user namespace to enter first."""
        if "user" in paths:
            between = self.cgroup.fork()
            if between == 0:
                ours.close()
                self._between(plan, paths, theirs)
            theirs.close()
            os.waitpid(between, 0)
            return
        own = {kind: Fd(os.open(f"/proc/self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)) for kind in ("pid", "time")}
        try:
            changed = self._enter_for_children(paths)
            self.pid = self.cgroup.fork()
            if self.pid == 0:
                ours.close()
                init.become(self.spec, plan, self.cgroup, self.body, theirs, joined=False)
            theirs.close()
            for kind in changed:  # the next child is not to be born into this container
                libc.setns(own[kind].number, namespaces.FLAGS[kind])
        finally:
            for descriptor in own.values():
                descriptor.close()

    def _enter_for_children(self, paths: dict[str, int]) -> list[str]:
        """Make or join the namespaces that only children of the caller enter; gives their kinds."""
        changed = []
        for kind in ("pid", "time"):
            if kind in paths:
                libc.setns(paths[kind], namespaces.FLAGS[kind])
            elif self.spec.makes(kind):
                libc.unshare(namespaces.FLAGS[kind])
            else:
                continue
            changed.append(kind)
        if self.spec.time_offsets:
            namespaces.set_clock_offsets(self.spec.time_offsets)
        return changed

    def _between(self, plan: steps.Plan, paths: dict[str, int], theirs: Channel) -> NoReturn:
        """Enter the user namespace, then make the first process in the pid namespace that belongs to it."""
        step = "join the control group"
        try:
            self.cgroup.join()
            step = "join the host's namespaces"
            for kind in namespaces.JOINED_FIRST:
                if kind in paths:
                    libc.setns(paths[kind], namespaces.FLAGS[kind])
            with Fd(os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as procfs:
                for key, value in steps.joined_parameters(self.spec).items():
                    step = f"set {key}={value}"
                    steps.SetKernelParameter(key, value).write(procfs.number)
            step = "enter the user namespace"
            libc.setns(paths["user"], Clone.NEWUSER)
            namespaces.become_root()
            step = "make the pid and time namespaces"
            self._enter_for_children(paths)
            pid = os.fork()
            if pid == 0:
                init.become(self.spec, plan, self.cgroup, self.body, theirs, joined=True)
            theirs.send({"event": "pid", "pid": pid})
        except BaseException as error:
            number = getattr(error, "errno", 0) or 0
            theirs.send({"event": "failed", "step": step, "message": str(error), "number": number, "status": 125})
        finally:
            os._exit(0)

    def _listen(self, ours: Channel) -> None:
        """Answer the child until it is ready or has executed the command."""
        early: list[tuple[dict[str, Any], int]] = []
        while True:
            message, descriptor = ours.receive()
            if message is None:
                # Nothing more is said before the exec. A process that was killed on the way looks the same: then
                # its parent sees it end, as it sees the command end.
                if self.pid and not self.body.gate:
                    return
                raise StartFailed("start the container", "its first process ended without a word")
            if message["event"] == "pid":
                self.pid = message["pid"]
            elif not self.pid and message["event"] != "failed":
                early.append((message, descriptor))  # the child was faster than the process between
                continue
            else:
                early.append((message, descriptor))
            for waiting in early:
                if self._answer(*waiting, ours):
                    return
            early.clear()

    def _answer(self, message: dict[str, Any], descriptor: int, ours: Channel) -> bool:
        """Do what one message asks for; True when it was the last."""
        event = message["event"]
        if event == "hooks":
            ours.send({"state": self._run_hooks()})
        elif event == "terminal":
            self.terminal = descriptor
        elif event == "listener":
            self._send_listener(descriptor)
        elif event == "failed":
            raise StartFailed(message["step"], message["message"], message["number"], message["status"])
        return bool(event == "ready")

    def state_document(self, status: str, pid: int) -> dict[str, Any]:
        """The state as hooks and listeners are told it (runtime.md, "State")."""
        return {
            "ociVersion": VERSION,
            "id": self.identity,
            "status": status,
            "pid": pid,
            "bundle": self.bundle,
            "annotations": self.spec.annotations,
        }

    def _run_hooks(self) -> str:
        state = jsontext.dumps(self.state_document("creating", self.pid))
        # The older hook is told what it was told before there was a status for the time between.
        before = jsontext.dumps(self.state_document("created", self.pid))
        for name, told in (("prestart", before), ("createRuntime", state)):
            hooks.run_all(name, self.spec.hooks[name], told.encode())
        return state

    def _send_listener(self, descriptor: int) -> None:
        """Send the container process state and the listener to whoever answers it (config-linux.md, "Seccomp")."""
        if not self.spec.seccomp:
            raise Unsupported("linux.seccomp", "there is none, and a listener came")
        document = {
            "ociVersion": VERSION,
            "fds": ["seccompFd"],
            "pid": self.pid,
            "metadata": self.spec.seccomp.get("listenerMetadata", ""),
            "state": self.state_document("creating", self.pid),
        }
        try:
            channel.send_to(self.spec.seccomp["listenerPath"], jsontext.dumps(document).encode(), [descriptor])
        except OSError as error:
            raise StartFailed("send the seccomp listener", str(error), error.errno or 0) from error
        finally:
            os.close(descriptor)

    def _reap(self) -> None:
        """Let nothing of a failed start live on."""
        if self.terminal >= 0:
            os.close(self.terminal)
            self.terminal = -1
        self.cgroup.kill()
        if self.pid:
            try:
                os.kill(self.pid, 9)
                os.waitpid(self.pid, 0)
            except (ProcessLookupError, ChildProcessError):
                pass  # its parent was the process between: whoever adopts orphans has it
