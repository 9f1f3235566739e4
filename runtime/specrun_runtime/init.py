"""What the container's first process does before it executes the command: the steps, then the process's own attributes.

It runs in a fork of the sealed interpreter. Everything is imported before the container's files come into sight.
"""

from __future__ import annotations

import _signal
import errno
import fcntl
import os
import stat
import sys

from specrun_runtime import capabilities, hooks, jsontext, libc, reaper, rlimits, seccomp, terminal, users
from specrun_runtime.constants import (
    CLOSE_RANGE_CLOEXEC,
    IOPRIO_CLASS_SHIFT,
    PROC_SUPER_MAGIC,
    Prctl,
)
from specrun_runtime.errors import IsolationError, Refused, StartFailed
from specrun_runtime.fds import Fd, write_all
from specrun_runtime.mounts import copy_of
from specrun_runtime.paths import make_directories, make_file
from specrun_runtime.steps import Stage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from specrun_runtime.cgroups import Cgroup
    from specrun_runtime.channel import Channel
    from specrun_runtime.spec import Hook, Process, Spec
    from specrun_runtime.steps import Plan

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Streams:
    """The descriptors that become 0, 1 and 2; a `stdin` of -1 stands for the container's /dev/null.

    `preserved` become 3, 4 and so on (the convention of sd_listen_fds(3)).
    """

    __slots__ = ("preserved", "stderr", "stdin", "stdout")

    def __init__(self, stdin: int, stdout: int, stderr: int, preserved: list[int] | None = None) -> None:
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self.preserved = preserved or []


class Filter:
    """A compiled seccomp filter: its program, and the flags that it is loaded with."""

    __slots__ = ("flags", "program")

    def __init__(self, program: bytes, flags: int) -> None:
        self.program = program
        self.flags = flags


class Gate:
    """What a created container waits at: a FIFO, whose first byte is the order to go on."""

    __slots__ = ("descriptor", "failures")

    def __init__(self, descriptor: int, failures: int) -> None:
        self.descriptor = descriptor
        """Opened before anything could be seen of the container's files."""
        self.failures = failures
        """A file that takes the reason when the command can't be executed after all."""


class Body:
    """All that makes a process the one that was asked for, whether it is a container's first or joins later."""

    __slots__ = ("filter", "foreign", "gate", "groups", "hooks", "personality", "process", "reaper", "streams", "user")

    def __init__(self, process: Process, streams: Streams, *, user: str | None = None) -> None:
        self.process = process
        self.streams = streams
        self.user = user
        """Docker's `--user`, to be looked up inside the image; None to take the numbers of `process`."""
        self.groups: list[str] = []
        """Docker's `--group-add`, to be looked up inside the image."""
        self.reaper = False
        """Whether a process of ours stays in front of the command (Docker's `--init`)."""
        self.filter: Filter | None = None
        self.gate: Gate | None = None
        self.hooks: list[Hook] = []
        """startContainer."""
        self.personality: int | None = None
        """`linux.personality`, as personality(2) has it; None to leave it."""
        self.foreign: list[int] = []
        """Descriptors of the launcher's that its end must close, and so this process may not hold, though it waits."""


def become(spec: Spec, plan: Plan, cgroup: Cgroup, body: Body, channel: Channel, *, joined: bool) -> NoReturn:
    """Turn this process into the container's first one. Never returns: executes the command, or reports and exits.

    With `joined` it is in its control group already. What is told to the other end of `channel` is described in
    `birth`; the end of it without a failure means that the command runs.
    """
    telling = _Telling(channel)
    try:
        for descriptor in body.foreign:
            os.close(descriptor)
        os.umask(0)
        os.setsid()
        present = capabilities.bounding()
        _forget_imports()
        telling.step = "leave the caller's session keyring"
        _leave_keyring()
        if body.process.oom_score_adj is not None:
            telling.step = "set oom_score_adj"
            _set_oom_score(body.process.oom_score_adj)
        stage = Stage(cgroup)
        if not joined:
            telling.step = "join the control group"
            cgroup.join()
        for action in plan.before:
            telling.step = action.describe()
            action.perform(stage)
        state = _run_hooks(spec, telling)
        for action in plan.after:
            telling.step = action.describe()
            action.perform(stage)
        _turn_into(body, telling, present, state, first=True)
    except BaseException as error:  # nothing may escape into the launcher's code
        telling.report(error)
    finally:
        os._exit(127)


def join(body: Body, channel: Channel) -> NoReturn:
    """Turn this process, which has joined a container's namespaces already, into another process of it."""
    telling = _Telling(channel)
    try:
        for descriptor in body.foreign:
            os.close(descriptor)
        os.umask(0)
        os.setsid()
        present = capabilities.bounding()
        _forget_imports()
        telling.step = "leave the caller's session keyring"
        _leave_keyring()
        _turn_into(body, telling, present, b"", first=False)
    except BaseException as error:
        telling.report(error)
    finally:
        os._exit(127)


class _Telling:
    """Knows how far it has got, and who is to be told."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.step = "prepare"
        self.failures = -1

    def tell(self, event: str, descriptor: int = -1) -> None:
        self.channel.send({"event": event}, descriptor)

    def report(self, error: BaseException) -> None:
        """Say what failed."""
        status, number, message, step = 125, getattr(error, "errno", 0) or 0, str(error), self.step
        if isinstance(error, StartFailed):
            status, number, message, step = error.status, error.number, error.message, error.step or step
        elif not isinstance(error, (OSError, ValueError)):
            message = f"{type(error).__name__}: {error}"
        document = {"event": "failed", "step": step, "message": message, "number": number, "status": status}
        if self.failures >= 0:
            write_all(self.failures, jsontext.dumps(document).encode())
        else:
            self.channel.send(document)


def _run_hooks(spec: Spec, telling: _Telling) -> bytes:
    """The hooks of the creation: the runtime's by the launcher, the container's here. Gives the state."""
    if not any(spec.hooks.values()):
        return b""
    telling.step = "run the hooks"
    telling.tell("hooks")
    answer, _ = telling.channel.receive()
    if answer is None:
        os._exit(127)
    state: bytes = answer["state"].encode()
    hooks.run_all("createContainer", spec.hooks["createContainer"], state)
    return state


def _turn_into(body: Body, telling: _Telling, present: int, state: bytes, *, first: bool) -> NoReturn:
    process = body.process
    telling.step = "find the user"
    environment = _find_user(process, body.user, body.groups)
    telling.step = "set up the terminal" if process.terminal else "connect the streams"
    if process.terminal:
        _open_terminal(process, telling, console=first)
    telling.step = "enter the working directory"
    if first:
        _make_folder(process.cwd)
    if not process.terminal:
        _connect(body.streams, process.uid)
    _pass_on(body, telling, environment)
    telling.step = "set the resource limits"
    for name, soft, hard in process.rlimits:
        rlimits.apply(name, soft, hard)
    telling.step = "set the scheduling"
    _schedule(process)
    if body.personality is not None:
        telling.step = "set the personality"
        libc.personality(body.personality)
    # Before the filter, which may refuse what the check of the folder needs, and with root's rights, as Docker does.
    telling.step = f"enter the working directory {process.cwd}"
    entered = _enter_folder(process.cwd, again=True)
    telling.step = "give up privileges"
    filters = body.filter
    capabilities.drop_bounding(process.bounding & present, present)
    if process.no_new_privileges:
        libc.prctl(Prctl.SET_NO_NEW_PRIVS, 1)
    elif filters:  # needs CAP_SYS_ADMIN, which goes next
        telling.step = "load the seccomp filter"
        _load(filters, telling)
        telling.step = "give up privileges"
    _become_user(process, present)
    if not entered:
        telling.step = f"enter the working directory {process.cwd}"
        _enter_folder(process.cwd)
    telling.step = "find the command"
    command = _Command(process.args, environment)
    _reset_attributes(process.umask)
    if process.no_new_privileges and filters:
        telling.step = "load the seccomp filter"
        _load(filters, telling)
    telling.step = "execute the command"
    if body.gate:
        telling.tell("ready")
        telling.channel.close()
        telling.failures = body.gate.failures
        os.read(body.gate.descriptor, 1)
        hooks.run_all("startContainer", body.hooks, state.replace(b'"creating"', b'"created"'))
    elif body.hooks:
        hooks.run_all("startContainer", body.hooks, state.replace(b'"creating"', b'"created"'))
    if body.reaper:
        reaper.stand_before(telling.channel)
    command.execute(environment)


def _load(filters: Filter, telling: _Telling) -> None:
    listener = seccomp.load(filters.program, filters.flags)
    if listener:
        telling.tell("listener", listener)
        os.close(listener)


def _forget_imports() -> None:
    sys.path[:] = []
    sys.meta_path[:] = []
    sys.path_hooks[:] = []
    sys.path_importer_cache.clear()


def _leave_keyring() -> None:
    try:
        libc.join_new_session_keyring()
    except IsolationError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM):  # a kernel or a seccomp filter without keyrings
            raise


def _find_user(process: Process, user: str | None, groups: list[str]) -> dict[bytes, bytes]:
    """Fill in the numbers of `process` and give the environment with HOME."""
    environment = {}
    for entry in process.env:
        key, _, value = os.fsencode(entry).partition(b"=")
        environment[key] = value
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = users.resolve(root, user if user is not None else f"{process.uid}:{process.gid}")
        process.groups += users.groups(root, groups)
    except users.UnknownUser as error:
        raise StartFailed("find the user", str(error)) from error
    finally:
        os.close(root)
    if user is not None:
        process.uid, process.gid = found.uid, found.gid
        process.groups = found.groups + [group for group in process.groups if group not in found.groups]
        if found.uid != 0:
            # As Docker does: another user than root starts without capabilities, whatever the bounding set.
            process.effective = process.permitted = process.ambient
    environment.setdefault(b"HOME", os.fsencode(found.home))
    return environment


def _make_folder(path: str) -> None:
    with Fd(os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as root:
        os.close(make_directories(root.number, path))


def _enter_folder(path: str, *, again: bool = False) -> bool:
    """chdir(2); what lies outside of the container is no folder of it.

    With `again`, False says that the right was lacking: the user may have it (a folder of FUSE).
    """
    try:
        os.chdir(path)
    except OSError as error:
        if again and isinstance(error, PermissionError):
            return False
        raise StartFailed("", f'chdir to cwd ("{path}") set in config.json failed: {error.strerror}') from error
    if not os.getcwd().startswith("/"):
        raise StartFailed("", "the working directory is outside the container")
    return True


def _connect(streams: Streams, uid: int) -> None:
    stdin = streams.stdin if streams.stdin >= 0 else os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for target, source in enumerate((stdin, streams.stdout, streams.stderr)):
        info = os.fstat(source)
        if stat.S_ISFIFO(info.st_mode) and info.st_uid != uid:
            try:
                os.fchown(source, uid, -1)  # so that the user may open /dev/stdout again
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.EINVAL):  # made outside of our user namespace
                    raise
        if source == target:
            os.set_inheritable(source, True)
        else:
            os.dup2(source, target)


def _set_oom_score(value: int) -> None:
    with open("/proc/self/oom_score_adj", "r+b", buffering=0) as file:
        if libc.filesystem_type(file.fileno()) != PROC_SUPER_MAGIC:
            raise Refused(errno.EXDEV, "is not on procfs", "/proc/self/oom_score_adj")
        if int(file.read()) != value:  # lowering it needs CAP_SYS_RESOURCE
            file.write(str(value).encode())


def _open_terminal(process: Process, telling: _Telling, *, console: bool) -> None:
    """A terminal of the container's own devpts: its master goes to the launcher, and we get the other side."""
    with Fd(os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as root:
        master, slave = terminal.open_pair(root.number)
        with master, slave:
            if any(process.console):
                terminal.set_size(master.number, *process.console)
            os.fchown(slave.number, process.uid, -1)
            if console:
                # The device itself is attached, by its descriptor: no name can be swapped for another.
                with Fd(make_file(root.number, "/dev/console")) as target, copy_of(slave.number, "") as copy:
                    libc.move_mount(copy.number, target.number)
            telling.tell("terminal", master.number)
            terminal.take_control(slave.number)


def _pass_on(body: Body, telling: _Telling, environment: dict[bytes, bytes]) -> None:
    """Give the preserved descriptors the numbers from 3 on; everything else is closed by the exec."""
    preserved = body.streams.preserved
    free = 3 + len(preserved)
    if preserved:  # what is still needed moves out of the way
        telling.channel.move(free)
        if body.gate:
            body.gate.descriptor = fcntl.fcntl(body.gate.descriptor, fcntl.F_DUPFD_CLOEXEC, free)
            body.gate.failures = fcntl.fcntl(body.gate.failures, fcntl.F_DUPFD_CLOEXEC, free)
    high = [fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, free) for source in preserved]
    libc.close_range(3, CLOSE_RANGE_CLOEXEC)
    for target, source in enumerate(high, 3):
        os.dup2(source, target)
    if preserved and b"LISTEN_FDS" in environment:
        environment[b"LISTEN_PID"] = str(os.getpid()).encode()


def _schedule(process: Process) -> None:
    if process.affinity[1]:
        os.sched_setaffinity(0, process.affinity[1])
    if process.scheduler:
        wanted = process.scheduler
        flags = sum(_SCHEDULER_FLAGS[name] for name in wanted.get("flags") or ())
        libc.sched_setattr(
            _POLICIES[wanted["policy"]],
            flags,
            *(wanted.get(name) or 0 for name in ("nice", "priority", "runtime", "deadline", "period")),
        )
    if process.io_priority:
        level = _IO_CLASSES[process.io_priority["class"]] << IOPRIO_CLASS_SHIFT
        libc.ioprio_set(level | (process.io_priority.get("priority") or 0))


_POLICIES = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
_SCHEDULER_FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 1,
    "SCHED_FLAG_RECLAIM": 2,
    "SCHED_FLAG_DL_OVERRUN": 4,
    "SCHED_FLAG_KEEP_POLICY": 8,
    "SCHED_FLAG_KEEP_PARAMS": 16,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 32,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 64,
}
_IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}


def _become_user(process: Process, present: int) -> None:
    """The user, then the sets other than the bounding one: each needs a right that the next one takes away."""
    keep = process.bounding & present
    libc.prctl(Prctl.SET_KEEPCAPS, 1)
    os.setgroups(process.groups)
    os.setresgid(process.gid, process.gid, process.gid)
    os.setresuid(process.uid, process.uid, process.uid)
    libc.prctl(Prctl.SET_KEEPCAPS, 0)
    libc.capset(process.effective & keep, process.permitted & keep, process.inheritable & keep)
    capabilities.set_ambient(process.ambient & keep)


def _reset_attributes(umask: int) -> None:
    """Nothing of the caller's shell leaks in: signal dispositions and mask, umask."""
    for number in range(1, 65):
        if number not in (_signal.SIGKILL, _signal.SIGSTOP):
            libc.reset_signal(number)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, [])
    os.umask(umask)


class _Command:
    """A program that was looked up by the container's own PATH. Raises StartFailed with 127 or 126."""

    def __init__(self, args: list[str], environment: dict[bytes, bytes]) -> None:
        self.args = args
        name = args[0]
        if "/" in name:
            self.candidates = [os.fsencode(name)]
        else:
            path = environment.get(b"PATH") or DEFAULT_PATH.encode()
            self.candidates = [os.path.join(folder or b".", os.fsencode(name)) for folder in path.split(b":")]
        found = [candidate for candidate in self.candidates if _is_file(candidate)]
        self.candidates = [candidate for candidate in found if os.access(candidate, os.X_OK)]
        if found and not self.candidates:
            raise StartFailed("execute the command", f'exec: "{name}": permission denied', 13, 126)
        if not found and "/" in name:
            if os.path.isdir(name):
                raise StartFailed("execute the command", f'exec: "{name}": is a directory: permission denied', 21, 126)
            message = f'exec: "{name}": stat {name}: no such file or directory'
            raise StartFailed("execute the command", message, 2, 127)
        if not found:
            message = f'exec: "{name}": executable file not found in $PATH'
            raise StartFailed("execute the command", message, 2, 127)

    def execute(self, environment: dict[bytes, bytes]) -> NoReturn:
        """execve(2)."""
        name = self.args[0]
        try:
            os.execve(self.candidates[0], self.args, environment)
        except FileNotFoundError as error:
            # The file was there, so what is missing is its interpreter or its loader.
            raise StartFailed("execute the command", f"exec {name}: no such file or directory", 2, 127) from error
        except OSError as error:
            message = f"exec {name}: {os.strerror(error.errno or 8).lower()}"
            raise StartFailed("execute the command", message, error.errno or 8, 126) from error


def _is_file(path: bytes) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False
