"""Hooks: programs of the host, run at a moment of a container's life with its state on their stdin (config.md)."""

from __future__ import annotations

import os
import select

from specrun_runtime.errors import StartFailed
from specrun_runtime.fds import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun_runtime.spec import Hook


def run_all(name: str, hooks: list[Hook], state: bytes) -> None:
    """Run the `hooks` called `name` one after the other. Raises StartFailed at the first that fails."""
    for index, hook in enumerate(hooks):
        problem = run(hook, state)
        if problem:
            raise StartFailed(f"run hooks.{name}[{index}]", f"hook {hook.path}: {problem}")


def run(hook: Hook, state: bytes) -> str:
    """Run one hook; gives what went wrong, "" for nothing. One that is late is killed."""
    # A hook may wait for us before it reads: its whole input lies in a file, not in a pipe of some size.
    memory = os.memfd_create("state", os.MFD_CLOEXEC)
    failed, failure = os.pipe2(os.O_CLOEXEC)
    try:
        write_all(memory, state)
        os.lseek(memory, 0, os.SEEK_SET)
        pid = os.fork()
        if pid == 0:
            _execute(hook, memory, failure)
        os.close(failure)
        failure = -1
        problem = os.read(failed, 4096).decode()
        if not _wait(pid, hook.timeout):
            return f"took longer than {hook.timeout} s and was killed"
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return problem or ("" if code == 0 else f"ended with {code}" if code > 0 else f"was killed by signal {-code}")
    finally:
        for descriptor in (memory, failed, failure):
            if descriptor >= 0:
                os.close(descriptor)


def _execute(hook: Hook, stdin: int, failure: int) -> None:
    try:
        os.dup2(stdin, 0)
        environment = dict(entry.partition("=")[::2] for entry in hook.env)
        os.execve(hook.path, hook.args, environment)
    except BaseException as error:
        os.write(failure, str(error).encode())
    finally:
        os._exit(127)


def _wait(pid: int, timeout: int | None) -> bool:
    """Wait until the process has ended, unreaped; False when it had to be killed."""
    if timeout is None:
        return True
    handle = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        if poll.poll(timeout * 1000):
            return True
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        return False
    finally:
        os.close(handle)
