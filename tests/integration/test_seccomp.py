"""The default filter, loaded into a process of its own."""

from __future__ import annotations

import ctypes
import errno
import json
import os
from collections.abc import Callable

import pytest

from specrun_runtime import libc, seccomp
from specrun_runtime.constants import DEFAULT_CAPABILITIES, Clone, Prctl
from specrun_runtime.errors import IsolationError

pytestmark = [
    pytest.mark.skipif(os.getuid() != 0, reason="needs root: what the filter refuses would fail anyway"),
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are x86-64's"),
]

SOCKET, AF_ALG, AF_VSOCK, SOCK_SEQPACKET = 41, 38, 40, 5

_libc = ctypes.CDLL(None, use_errno=True)


def call(number: int, *arguments: int) -> int:
    """syscall(2): 0, or the errno."""
    ctypes.set_errno(0)
    result = _libc.syscall(ctypes.c_long(number), *(ctypes.c_ulong(argument) for argument in arguments))
    return ctypes.get_errno() if result < 0 else 0


def unshared() -> int:
    """unshare(2) of the UTS namespace, which a chroot allows too: 0, or the errno."""
    try:
        libc.unshare(Clone.NEWUTS)
    except IsolationError as error:
        return error.errno or -1
    return 0


def in_child(act: Callable[[], object]) -> object:
    """Call `act` in a forked process and give its result."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.write(writer, json.dumps(act()).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        report = pipe.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return json.loads(report)


def answers() -> dict[str, int]:
    return {
        "io_uring_setup": call(425, 1, 0),
        "clone3": call(435, 0, 0),
        "unshare": unshared(),
        "unknown": call(1023),
        "AF_ALG": call(SOCKET, AF_ALG, SOCK_SEQPACKET, 0),
        "AF_ALG with more bits": call(SOCKET, 1 << 32 | AF_ALG, SOCK_SEQPACKET, 0),
        "AF_VSOCK with more bits": call(SOCKET, 1 << 32 | AF_VSOCK, 1, 0),
        "AF_UNIX": call(SOCKET, 1, 1, 0),
        "personality": call(135, 0xFFFFFFFF),
    }


def test_what_the_default_filter_refuses() -> None:
    host = os.uname()
    rules = seccomp.resolve(seccomp.default_profile(), frozenset(DEFAULT_CAPABILITIES), host.machine, host.release)
    program, flags = seccomp.compile(rules), seccomp.flags_of(rules)

    def filtered() -> dict[str, object]:
        libc.prctl(Prctl.SET_NO_NEW_PRIVS, 1)
        listener = seccomp.load(program, flags)
        with open("/proc/self/status") as file:
            mode = next(line.split()[1] for line in file if line.startswith("Seccomp:"))
        return {**answers(), "listener": listener, "mode": mode, "pid": os.getpid() == int(os.readlink("/proc/self"))}

    assert in_child(filtered) == {
        "io_uring_setup": errno.EPERM,
        "clone3": errno.ENOSYS,
        "unshare": errno.EPERM,
        "unknown": errno.ENOSYS,
        "AF_ALG": errno.EPERM,
        "AF_ALG with more bits": errno.EPERM,
        "AF_VSOCK with more bits": errno.EPERM,
        "AF_UNIX": 0,
        "personality": 0,
        "listener": 0,
        "mode": "2",
        "pid": True,
    }


def test_the_kernel_answers_otherwise_without_it() -> None:
    plain = in_child(answers)
    assert isinstance(plain, dict)
    assert (plain["unshare"], plain["clone3"], plain["unknown"]) == (0, errno.EINVAL, errno.ENOSYS)
    for name in ("io_uring_setup", "AF_ALG", "AF_ALG with more bits", "AF_VSOCK with more bits"):
        assert plain[name] != errno.EPERM, name
