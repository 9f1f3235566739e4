"""The only module that speaks ctypes: one thin function a system call, each raising IsolationError."""

from __future__ import annotations

import ctypes
import os

from specrun_runtime import constants
from specrun_runtime.constants import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    Clone,
    FsConfig,
    MoveMount,
    OpenTree,
    Prctl,
)
from specrun_runtime.errors import IsolationError

_libc = ctypes.CDLL(None, use_errno=True)
_long, _int, _ulong, _text, _pointer = (
    ctypes.c_long,
    ctypes.c_int,
    ctypes.c_ulong,
    ctypes.c_char_p,
    ctypes.c_void_p,
)
_machine = os.uname().machine

_syscall = _libc.syscall
_syscall.restype = _long

for _name, _arguments in (
    ("mount", [_text, _text, _text, _ulong, _pointer]),
    ("umount2", [_text, _int]),
    ("unshare", [_int]),
    ("setns", [_int, _int]),
    ("sethostname", [_text, ctypes.c_size_t]),
    ("setdomainname", [_text, ctypes.c_size_t]),
    ("prctl", [_int, _ulong, _ulong, _ulong, _ulong]),
    ("capset", [_pointer, _pointer]),
    ("capget", [_pointer, _pointer]),
    ("fstatfs", [_int, _pointer]),
    ("personality", [_ulong]),
    ("sync_file_range", [_int, _long, _long, ctypes.c_uint]),
):
    getattr(_libc, _name).argtypes = _arguments
    getattr(_libc, _name).restype = _int


def _fail(syscall: str, subject: str | None = None) -> IsolationError:
    return IsolationError.of(ctypes.get_errno(), syscall, subject)


def mount(source: str, target: str, filesystem: str, flags: int, data: str = "") -> None:
    """mount(2)."""
    encoded = os.fsencode(data) if data else None
    if _libc.mount(os.fsencode(source), os.fsencode(target), os.fsencode(filesystem), flags, encoded) < 0:
        raise _fail("mount", target)


def umount(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    if _libc.umount2(os.fsencode(target), flags) < 0:
        raise _fail("umount2", target)


def syncfs(descriptor: int) -> None:
    """syncfs(2): all of the file system that the descriptor is on is written to its disk."""
    if _libc.syncfs(descriptor) < 0:
        raise _fail("syncfs")


def begin_writing(descriptor: int, offset: int, size: int) -> None:
    """sync_file_range(2) with SYNC_FILE_RANGE_WRITE: the disk begins with these bytes, and nobody waits for it."""
    _libc.sync_file_range(descriptor, offset, size, 2)  # a hint: where it fails, the later wait is longer


def unshare(flags: int) -> None:
    """unshare(2)."""
    if _libc.unshare(flags) < 0:
        raise _fail("unshare", constants.names(Clone, flags))


def setns(descriptor: int, kind: int) -> None:
    """setns(2)."""
    if _libc.setns(descriptor, kind) < 0:
        raise _fail("setns", hex(kind))


class _CloneArguments(ctypes.Structure):
    _names = "flags pidfd child_tid parent_tid exit_signal stack stack_size tls set_tid set_tid_size cgroup"
    _fields_ = [(name, ctypes.c_uint64) for name in _names.split()]


_python = ctypes.PyDLL(None, use_errno=True)
"""For calls during which the interpreter keeps its lock."""
_python.syscall.restype = _long


def fork_into(group: int) -> int:
    """os.fork with the child in a control group of version 2, whose folder `group` is open on (clone3(2)).

    For a process of one thread. Fails with EAGAIN where the group may have no more processes.
    """
    arguments = _CloneArguments(flags=Clone.INTO_CGROUP, exit_signal=17, cgroup=group)  # SIGCHLD
    _python.PyOS_BeforeFork()
    pid: int = _python.syscall(_long(constants.NR_CLONE3), ctypes.byref(arguments), ctypes.sizeof(arguments))
    if pid == 0:
        _python.PyOS_AfterFork_Child()
        return 0
    number = ctypes.get_errno()
    _python.PyOS_AfterFork_Parent()
    if pid < 0:
        raise IsolationError.of(number, "clone3")
    return pid


def sethostname(name: str) -> None:
    """sethostname(2)."""
    encoded = os.fsencode(name)
    if _libc.sethostname(encoded, len(encoded)) < 0:
        raise _fail("sethostname", name)


def setdomainname(name: str) -> None:
    """setdomainname(2)."""
    encoded = os.fsencode(name)
    if _libc.setdomainname(encoded, len(encoded)) < 0:
        raise _fail("setdomainname", name)


def prctl(operation: int, argument: int = 0, second: int = 0) -> int:
    """prctl(2); gives its result."""
    result: int = _libc.prctl(operation, argument, second, 0, 0)
    if result < 0:
        raise _fail("prctl", constants.names(Prctl, operation))
    return result


class _CapabilityHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", _int)]


class _CapabilityData(ctypes.Structure):
    _fields_ = [("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32)]


_CAPABILITY_VERSION_3 = 0x20080522


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """capset(2) for the calling thread; the sets are bit masks of 64 bits."""
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    low = 0xFFFFFFFF
    data = (_CapabilityData * 2)(
        _CapabilityData(effective & low, permitted & low, inheritable & low),
        _CapabilityData(effective >> 32, permitted >> 32, inheritable >> 32),
    )
    if _libc.capset(ctypes.byref(header), data) < 0:
        raise _fail("capset")


def capget() -> tuple[int, int, int]:
    """capget(2) of the calling thread: effective, permitted and inheritable as bit masks."""
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    data = (_CapabilityData * 2)()
    if _libc.capget(ctypes.byref(header), data) < 0:
        raise _fail("capget")
    return (
        data[0].effective | data[1].effective << 32,
        data[0].permitted | data[1].permitted << 32,
        data[0].inheritable | data[1].inheritable << 32,
    )


def pivot_root(new: str, old: str) -> None:
    """pivot_root(2)."""
    if _syscall(_number(constants.NR_PIVOT_ROOT), _text(os.fsencode(new)), _text(os.fsencode(old))) < 0:
        raise _fail("pivot_root", new)


def join_new_session_keyring() -> None:
    """keyctl(2), KEYCTL_JOIN_SESSION_KEYRING with no name: an anonymous keyring that nobody else holds."""
    if _syscall(_number(constants.NR_KEYCTL), _long(constants.KEYCTL_JOIN_SESSION_KEYRING), _pointer(None)) < 0:
        raise _fail("keyctl", "KEYCTL_JOIN_SESSION_KEYRING")


def reset_signal(number: int) -> None:
    """rt_sigaction(2) to SIG_DFL: also for 32 and 33, which the C library keeps from sigaction(2)."""
    nothing = (ctypes.c_ulong * 4)()
    if _syscall(_number(constants.NR_RT_SIGACTION), _long(number), nothing, _pointer(None), ctypes.c_size_t(8)) < 0:
        raise _fail("rt_sigaction", str(number))


def close_range(first: int, flags: int = 0) -> None:
    """close_range(2) from `first` to the last possible descriptor."""
    if _syscall(_long(constants.NR_CLOSE_RANGE), _ulong(first), _ulong(0xFFFFFFFF), _long(flags)) < 0:
        raise _fail("close_range")


class _OpenHow(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


def openat2(directory: int, path: str, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """openat2(2), close-on-exec; tries again when a concurrent rename made the kernel give up (EAGAIN)."""
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    encoded = os.fsencode(path)
    for _ in range(128):
        result: int = _syscall(
            _long(constants.NR_OPENAT2),
            _long(directory),
            _text(encoded),
            ctypes.byref(how),
            ctypes.c_size_t(ctypes.sizeof(how)),
        )
        if result >= 0:
            return result
        if ctypes.get_errno() not in (11, 4):  # EAGAIN, EINTR
            break
    raise _fail("openat2", path)


def open_tree(directory: int, path: str, flags: int) -> int:
    """open_tree(2), close-on-exec: a descriptor of a mount or, with OPEN_TREE_CLONE, of a detached copy of it."""
    result: int = _syscall(
        _long(constants.NR_OPEN_TREE), _long(directory), _text(os.fsencode(path)), _long(flags | OpenTree.CLOEXEC)
    )
    if result < 0:
        raise _fail("open_tree", path)
    return result


def move_mount(source: int, target: int) -> None:
    """move_mount(2): attach the mount of descriptor `source` on the file or folder of descriptor `target`."""
    flags = MoveMount.F_EMPTY_PATH | MoveMount.T_EMPTY_PATH
    if _syscall(_long(constants.NR_MOVE_MOUNT), _long(source), _text(b""), _long(target), _text(b""), _long(flags)) < 0:
        raise _fail("move_mount")


def fsopen(filesystem: str) -> int:
    """fsopen(2), close-on-exec."""
    result: int = _syscall(_long(constants.NR_FSOPEN), _text(os.fsencode(filesystem)), _long(1))
    if result < 0:
        raise _fail("fsopen", filesystem)
    return result


def fsconfig_fd(context: int, key: str, descriptor: int) -> None:
    """fsconfig(2), FSCONFIG_SET_FD."""
    command = _long(FsConfig.SET_FD)
    name = _text(os.fsencode(key))
    if _syscall(_long(constants.NR_FSCONFIG), _long(context), command, name, _pointer(None), _long(descriptor)) < 0:
        raise _fail("fsconfig", f"{key}=fd {descriptor}")


def fsconfig(context: int, command: int, key: str | None = None, value: str | None = None) -> None:
    """fsconfig(2) with a string value or none."""
    encoded_key = None if key is None else os.fsencode(key)
    encoded_value = None if value is None else os.fsencode(value)
    if (
        _syscall(
            _long(constants.NR_FSCONFIG),
            _long(context),
            _long(command),
            _text(encoded_key),
            _text(encoded_value),
            _long(0),
        )
        < 0
    ):
        raise _fail("fsconfig", key if value is None else f"{key}={value}")


def fsmount(context: int, attributes: int) -> int:
    """fsmount(2), close-on-exec: a descriptor of the new, detached mount."""
    result: int = _syscall(_long(constants.NR_FSMOUNT), _long(context), _long(1), _long(attributes))
    if result < 0:
        raise _fail("fsmount")
    return result


class _MountAttributes(ctypes.Structure):
    _fields_ = [
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    ]


def mount_setattr(
    descriptor: int,
    *,
    enable: int = 0,
    disable: int = 0,
    propagation: int = 0,
    recursive: bool = False,
    user_namespace: int = 0,
) -> None:
    """mount_setattr(2) on the mount of `descriptor`; `user_namespace` is a descriptor, for MOUNT_ATTR_IDMAP."""
    attributes = _MountAttributes(enable, disable, propagation, user_namespace)
    flags = AT_EMPTY_PATH | (constants.AT_RECURSIVE if recursive else 0)
    if (
        _syscall(
            _long(constants.NR_MOUNT_SETATTR),
            _long(descriptor),
            _text(b""),
            _long(flags),
            ctypes.byref(attributes),
            ctypes.c_size_t(ctypes.sizeof(attributes)),
        )
        < 0
    ):
        raise _fail("mount_setattr")


def personality(domain: int) -> None:
    """personality(2)."""
    if _libc.personality(domain) < 0:
        raise _fail("personality", hex(domain))


def ioprio_set(value: int) -> None:
    """ioprio_set(2) for the calling thread: class and priority in one number."""
    who = _long(constants.IOPRIO_WHO_PROCESS)
    if _syscall(_number(constants.NR_IOPRIO_SET), who, _long(0), _long(value)) < 0:
        raise _fail("ioprio_set", hex(value))


class _SchedulerAttributes(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime", ctypes.c_uint64),
        ("deadline", ctypes.c_uint64),
        ("period", ctypes.c_uint64),
    ]


def sched_setattr(policy: int, flags: int, nice: int, priority: int, runtime: int, deadline: int, period: int) -> None:
    """sched_setattr(2) for the calling thread; the times are nanoseconds."""
    size = ctypes.sizeof(_SchedulerAttributes)
    attributes = _SchedulerAttributes(size, policy, flags, nice, priority, runtime, deadline, period)
    if _syscall(_number(constants.NR_SCHED_SETATTR), _long(0), ctypes.byref(attributes), _long(0)) < 0:
        raise _fail("sched_setattr", f"policy {policy}")


class _FilterProgram(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", _text)]


def seccomp(program: bytes, flags: int) -> int:
    """seccomp(2), SECCOMP_SET_MODE_FILTER: `program` is classic BPF, 8 bytes an instruction. Gives its result."""
    filters = _FilterProgram(len(program) // 8, program)
    operation = _long(constants.SECCOMP_SET_MODE_FILTER)
    result: int = _syscall(_number(constants.NR_SECCOMP), operation, _long(flags), ctypes.byref(filters))
    if result < 0:
        raise _fail("seccomp", f"a filter of {len(program) // 8} instructions")
    return result


class _BpfLoad(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_uint32),
        ("count", ctypes.c_uint32),
        ("instructions", _text),
        ("license", _text),
        ("log_level", ctypes.c_uint32),
        ("log_size", ctypes.c_uint32),
        ("log", _pointer),
        ("kernel_version", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
    ]


class _BpfAttach(ctypes.Structure):
    _fields_ = [
        ("target", ctypes.c_uint32),
        ("program", ctypes.c_uint32),
        ("type", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("replaced", ctypes.c_uint32),
    ]


class _BpfQuery(ctypes.Structure):
    _fields_ = [
        ("target", ctypes.c_uint32),
        ("type", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("attach_flags", ctypes.c_uint32),
        ("ids", _pointer),
        ("count", ctypes.c_uint32),
    ]


def _bpf(command: int, attributes: ctypes.Structure) -> int:
    result: int = _syscall(
        _number(constants.NR_BPF), _long(command), ctypes.byref(attributes), _long(ctypes.sizeof(attributes))
    )
    if result < 0:
        raise _fail("bpf", constants.names(constants.Bpf, command))
    return result


def bpf_load_device_program(program: bytes) -> int:
    """bpf(2), BPF_PROG_LOAD of a BPF_PROG_TYPE_CGROUP_DEVICE program; gives its descriptor."""
    kind = constants.BPF_PROG_TYPE_CGROUP_DEVICE
    return _bpf(constants.Bpf.PROG_LOAD, _BpfLoad(kind, len(program) // 8, program, b"Apache-2.0", 0, 0, None, 0, 0))


def bpf_attach_device_program(cgroup: int, program: int) -> None:
    """bpf(2), BPF_PROG_ATTACH: `program` decides on the devices of the group, together with those attached before."""
    attributes = _BpfAttach(cgroup, program, constants.BPF_CGROUP_DEVICE, constants.BPF_F_ALLOW_MULTI, 0)
    _bpf(constants.Bpf.PROG_ATTACH, attributes)


def bpf_detach_device_program(cgroup: int, program: int) -> None:
    """bpf(2), BPF_PROG_DETACH."""
    _bpf(constants.Bpf.PROG_DETACH, _BpfAttach(cgroup, program, constants.BPF_CGROUP_DEVICE, 0, 0))


def bpf_device_programs(cgroup: int) -> list[int]:
    """bpf(2), BPF_PROG_QUERY: descriptors of the device programs attached to the group itself."""
    ids = (ctypes.c_uint32 * 64)()
    query = _BpfQuery(cgroup, constants.BPF_CGROUP_DEVICE, 0, 0, ctypes.cast(ids, _pointer), 64)
    _bpf(constants.Bpf.PROG_QUERY, query)
    return [_bpf(constants.Bpf.PROG_GET_FD_BY_ID, _BpfAttach(number)) for number in ids[: query.count]]


class _StatFs(ctypes.Structure):
    _fields_ = [("type", _long), ("rest", ctypes.c_char * 248)]


def filesystem_type(descriptor: int) -> int:
    """fstatfs(2): the magic number of the file system that `descriptor` is on."""
    result = _StatFs()
    if _libc.fstatfs(descriptor, ctypes.byref(result)) < 0:
        raise _fail("fstatfs")
    return int(result.type)


def _number(table: dict[str, int]) -> ctypes.c_long:
    number = table.get(_machine)
    if number is None:
        raise IsolationError.of(38, "syscall", f"no system call numbers are known for {_machine}")
    return _long(number)


__all__ = [
    "AT_FDCWD",
    "bpf_attach_device_program",
    "bpf_detach_device_program",
    "bpf_device_programs",
    "bpf_load_device_program",
    "capget",
    "capset",
    "close_range",
    "filesystem_type",
    "fork_into",
    "fsconfig",
    "fsconfig_fd",
    "fsmount",
    "fsopen",
    "ioprio_set",
    "join_new_session_keyring",
    "mount",
    "mount_setattr",
    "move_mount",
    "open_tree",
    "openat2",
    "personality",
    "pivot_root",
    "prctl",
    "reset_signal",
    "sched_setattr",
    "seccomp",
    "setdomainname",
    "sethostname",
    "setns",
    "umount",
    "unshare",
]
