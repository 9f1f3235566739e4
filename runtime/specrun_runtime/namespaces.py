"""Namespaces: to be made, to be joined by path, and user namespaces with their mappings."""

from __future__ import annotations

import errno
import fcntl
import os

from specrun_runtime import libc
from specrun_runtime.channel import Channel
from specrun_runtime.constants import Clone
from specrun_runtime.errors import IsolationError, SpecError, StartFailed
from specrun_runtime.fds import Fd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from specrun_runtime.spec import Mapping, Spec

FLAGS = {
    "user": Clone.NEWUSER,
    "pid": Clone.NEWPID,
    "network": Clone.NEWNET,
    "mount": Clone.NEWNS,
    "ipc": Clone.NEWIPC,
    "uts": Clone.NEWUTS,
    "cgroup": Clone.NEWCGROUP,
    "time": Clone.NEWTIME,
}
FILES = {
    "user": "user",
    "pid": "pid",
    "network": "net",
    "mount": "mnt",
    "ipc": "ipc",
    "uts": "uts",
    "cgroup": "cgroup",
    "time": "time",
}
"""Kind -> name in /proc/<pid>/ns."""
JOINED_FIRST = ("network", "ipc", "uts")
"""What is joined by path before a user namespace is entered: from within, those of the host are out of reach."""
_NS_GET_NSTYPE = 0xB703


def open_paths(spec: Spec) -> dict[str, int]:
    """Descriptors of the namespaces that are to be joined. Raises SpecError for a path that is none of its kind."""
    found: dict[str, int] = {}
    try:
        for index, (kind, path) in enumerate(spec.namespaces.items()):
            if path:
                found[kind] = _open(path, kind, f"linux.namespaces[{index}].path")
    except BaseException:
        for descriptor in found.values():
            os.close(descriptor)
        raise
    return found


def _open(path: str, kind: str, field: str) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise SpecError(field, f"{path}: {error.strerror}") from error
    try:
        found = fcntl.ioctl(descriptor, _NS_GET_NSTYPE)
    except OSError as error:
        os.close(descriptor)
        raise SpecError(field, f"{path} is not a namespace") from error
    if found != FLAGS[kind]:
        os.close(descriptor)
        names = [name for name, flag in FLAGS.items() if flag == found]
        raise SpecError(field, f"{path} is a namespace of type {''.join(names)}, expected {kind}")
    return descriptor


def new_user_namespace(uid_mappings: list[Mapping], gid_mappings: list[Mapping]) -> Fd:
    """A descriptor of a new user namespace with these mappings (user_namespaces(7)). Raises StartFailed."""
    ready, tell = os.pipe2(os.O_CLOEXEC)
    wait, go = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            os.close(go)
            libc.unshare(Clone.NEWUSER)
            os.write(tell, b"y")
            os.read(wait, 1)
        finally:
            os._exit(0)
    try:
        os.close(tell)
        tell = -1
        if os.read(ready, 1) != b"y":
            raise StartFailed("make the user namespace", "unshare(2) of a user namespace was refused")
        write_mappings(pid, uid_mappings, gid_mappings)
        return Fd(os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC))
    finally:
        for descriptor in (ready, tell, wait, go):
            if descriptor >= 0:
                os.close(descriptor)
        os.waitpid(pid, 0)


def write_mappings(pid: int, uid_mappings: list[Mapping], gid_mappings: list[Mapping]) -> None:
    """Give the user namespace of process `pid` its mappings: as root directly, else by newuidmap(1), newgidmap(1)."""
    for file, helper, mappings in (("uid_map", "newuidmap", uid_mappings), ("gid_map", "newgidmap", gid_mappings)):
        text = "".join(f"{mapping.line()}\n" for mapping in mappings)
        try:
            _write(f"/proc/{pid}/{file}", text)
        except OSError as error:
            if error.errno != errno.EPERM:
                lines = text.strip().replace("\n", ", ")
                raise StartFailed("map the ids", f"{file} ({lines}): {error.strerror}", error.errno or 0) from error
            _ask_helper(helper, pid, mappings)


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _ask_helper(helper: str, pid: int, mappings: list[Mapping]) -> None:
    arguments = [str(number) for mapping in mappings for number in (mapping.container, mapping.host, mapping.size)]
    try:
        child = os.posix_spawnp(helper, [helper, str(pid), *arguments], {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
    except FileNotFoundError as error:
        hint = "not allowed without root, and newuidmap is not installed (uidmap)"
        raise StartFailed("map the ids", hint, errno.EPERM) from error
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code != 0:
        raise StartFailed("map the ids", f"{helper} refused {' '.join(arguments)}: see /etc/subuid and /etc/subgid", 1)


def made_inside(path: str, kind: str, make: Callable[[], Fd]) -> Fd:
    """What `make` gives, made by a fork that has joined the namespace at `path`. Raises StartFailed.

    Some mounts belong to the namespace that they are made in, or can be copied only there.
    """
    ours, theirs = Channel.pair()
    with Fd(_open(path, kind, path)) as namespace:
        pid = os.fork()
        if pid == 0:
            try:
                libc.setns(namespace.number, FLAGS[kind])
                with make() as made:
                    theirs.send({"message": ""}, made.number)
            except OSError as error:
                theirs.send({"message": str(error), "number": error.errno or 0})
            finally:
                os._exit(0)
    theirs.close()
    try:
        message, descriptor = ours.receive()
    finally:
        ours.close()
        os.waitpid(pid, 0)
    if descriptor < 0:
        told = message or {"message": "the process that has joined it was killed", "number": 0}
        raise StartFailed(f"make a mount in {path}", told["message"], told["number"])
    return Fd(descriptor)


def become_root() -> None:
    """Be the root of the user namespace that was just entered, where it has one."""
    try:
        os.setgroups([])
    except OSError:
        pass  # denied by /proc/self/setgroups, as user_namespaces(7) has it
    try:
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    except OSError as error:
        if error.errno != errno.EINVAL:  # 0 is not mapped
            raise


def set_clock_offsets(offsets: dict[str, dict[str, int]]) -> None:
    """Write the offsets of the time namespace that this process made for its children (time_namespaces(7))."""
    for clock, offset in offsets.items():
        line = f"{clock} {offset.get('secs') or 0} {offset.get('nanosecs') or 0}\n"
        try:
            _write("/proc/self/timens_offsets", line)
        except OSError as error:
            raise IsolationError.of(error.errno or 5, "write", f"timens_offsets ({line.strip()})") from error
