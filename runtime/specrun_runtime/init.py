"""The process inside the container: performs the steps, becomes the user, and executes the command.

It runs in a fork of the monitor, as the first process of a new pid namespace. Nothing may be imported here after
the root has been entered, because the import would run what the image calls the standard library; so everything
is imported above, and the import system is emptied before the first step.
"""

from __future__ import annotations

import _signal
import errno
import json
import os
import stat
import sys

from specrun_runtime import capabilities, libc, rlimits, users
from specrun_runtime.constants import CLOSE_RANGE_CLOEXEC, Prctl
from specrun_runtime.errors import IsolationError, StartFailed
from specrun_runtime.fds import write_all
from specrun_runtime.paths import make_directories
from specrun_runtime.steps import Overlay, Stage, plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from specrun_runtime.cgroups import Cgroup
    from specrun_runtime.spec import Process, Spec

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Streams:
    """The descriptors that become 0, 1 and 2; a `stdin` of -1 stands for the container's /dev/null."""

    __slots__ = ("stderr", "stdin", "stdout")

    def __init__(self, stdin: int, stdout: int, stderr: int) -> None:
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr


def become(
    spec: Spec, user: str | None, overlay: Overlay | None, cgroup: Cgroup, streams: Streams, failure: int
) -> NoReturn:
    """Turn this process into the container's first one. Never returns: executes the command, or reports and exits.

    `user` is Docker's `--user`, to be looked up inside the image, or None to take the numbers of `spec`. What
    goes wrong is written to `failure`, which is close-on-exec: nothing written means that the command runs.
    """
    step = "prepare"
    try:
        os.umask(0)
        os.setsid()
        capabilities_present = capabilities.bounding()
        _forget_imports()
        step = "leave the caller's session keyring"
        _leave_keyring()
        stage = Stage(cgroup)
        for action in plan(spec, overlay):
            step = action.describe()
            action.perform(stage)
        step = "find the user"
        process = spec.process
        environment = _find_user(process, user)
        step = "make the working directory"
        _enter_folder(process.cwd)
        step = "connect the streams"
        _connect(streams, process.uid)
        step = "set the resource limits"
        for name, soft, hard in process.rlimits:
            rlimits.apply(name, soft, hard)
        if process.oom_score_adj is not None:
            step = "set oom_score_adj"
            _raise_oom_score(process.oom_score_adj)
        step = "give up privileges"
        _become_user(process, capabilities_present)
        step = "reset signals"
        _reset_attributes(process.umask)
        step = "execute the command"
        _execute(process.args, environment)
    except BaseException as error:  # nothing may escape into the monitor's code
        _report(failure, step, error)
    finally:
        os._exit(127)


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


def _find_user(process: Process, user: str | None) -> dict[bytes, bytes]:
    """Fill in the numbers of `process` and give the environment with HOME."""
    environment = {}
    for entry in process.env:
        key, _, value = os.fsencode(entry).partition(b"=")
        environment[key] = value
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = users.resolve(root, user if user is not None else f"{process.uid}:{process.gid}")
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


def _enter_folder(path: str) -> None:
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        folder = make_directories(root, path)
    finally:
        os.close(root)
    os.fchdir(folder)
    os.close(folder)


def _connect(streams: Streams, uid: int) -> None:
    stdin = streams.stdin if streams.stdin >= 0 else os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for target, source in enumerate((stdin, streams.stdout, streams.stderr)):
        info = os.fstat(source)
        if stat.S_ISFIFO(info.st_mode) and info.st_uid != uid:
            os.fchown(source, uid, -1)  # so that the user may open /dev/stdout again
        if source == target:
            os.set_inheritable(source, True)
        else:
            os.dup2(source, target)
    libc.close_range(3, CLOSE_RANGE_CLOEXEC)


def _raise_oom_score(value: int) -> None:
    with open("/proc/self/oom_score_adj", "wb", buffering=0) as file:
        if libc.filesystem_type(file.fileno()) == 0x9FA0:
            file.write(str(value).encode())


def _become_user(process: Process, present: int) -> None:
    """Bounding set, user, then the other sets: each needs a right that the next one takes away."""
    keep = process.bounding & present
    capabilities.drop_bounding(keep, present)
    if process.no_new_privileges:
        libc.prctl(Prctl.SET_NO_NEW_PRIVS, 1)
    libc.prctl(Prctl.SET_KEEPCAPS, 1)
    os.setgroups(process.groups)
    os.setresgid(process.gid, process.gid, process.gid)
    os.setresuid(process.uid, process.uid, process.uid)
    libc.prctl(Prctl.SET_KEEPCAPS, 0)
    libc.capset(process.effective & keep, process.permitted & keep, process.inheritable & keep)
    capabilities.set_ambient(process.ambient & keep)
    if not os.getcwd().startswith("/"):
        raise StartFailed("check the working directory", "the working directory is outside the container")


def _reset_attributes(umask: int) -> None:
    """Nothing of the caller's shell leaks in: niceness, signal dispositions and mask, umask."""
    for number in range(1, 65):
        if number not in (_signal.SIGKILL, _signal.SIGSTOP):
            libc.reset_signal(number)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, [])
    os.umask(umask)


def _execute(args: list[str], environment: dict[bytes, bytes]) -> NoReturn:
    """execve(2), by the container's own PATH. Raises StartFailed with 127 (not found) or 126 (not executable)."""
    name = args[0]
    if "/" in name:
        candidates = [os.fsencode(name)]
    else:
        path = environment.get(b"PATH") or DEFAULT_PATH.encode()
        candidates = [os.path.join(folder or b".", os.fsencode(name)) for folder in path.split(b":")]
    denied = False
    missing: OSError | None = None
    for candidate in candidates:
        try:
            os.execve(candidate, args, environment)
        except (FileNotFoundError, NotADirectoryError) as error:
            if os.path.exists(candidate):
                # The file is there, so what is missing is its interpreter or its loader.
                raise StartFailed("execute the command", f"exec {name}: no such file or directory", 2, 127) from error
            missing = error
        except PermissionError as error:
            denied = True
            missing = error
        except OSError as error:
            raise StartFailed(
                "execute the command", f"exec {name}: {os.strerror(error.errno or 8).lower()}", error.errno or 8, 126
            ) from error
    if denied:
        raise StartFailed("execute the command", f'exec: "{name}": permission denied', 13, 126)
    if "/" in name:
        raise StartFailed(
            "execute the command", f'exec: "{name}": stat {name}: no such file or directory', 2, 127
        ) from missing
    raise StartFailed("execute the command", f'exec: "{name}": executable file not found in $PATH', 2, 127)


def _report(failure: int, step: str, error: BaseException) -> None:
    """Say what failed, as a document of one line."""
    status, number, message = 125, getattr(error, "errno", 0) or 0, str(error)
    if isinstance(error, StartFailed):
        status, number, message, step = error.status, error.number, error.message, error.step
    elif not isinstance(error, (OSError, ValueError)):
        message = f"{type(error).__name__}: {error}"
    document = {"step": step, "message": message, "number": number, "status": status}
    write_all(failure, json.dumps(document).encode())
