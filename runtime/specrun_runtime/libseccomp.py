"""A thin binding of libseccomp: the calls that turn rules into a BPF program.

It is loaded by whoever compiles a profile, never by the process that a filter is loaded into.
"""

from __future__ import annotations

import ctypes
import errno
import os

from specrun_runtime.errors import IsolationError, Unsupported
from specrun_runtime.fds import read_all

_NATIVE = 0
_UNKNOWN = -1
"""SCMP_ARCH_NATIVE, and __NR_SCMP_ERROR: a name that this libseccomp has never heard of."""


class Argument(ctypes.Structure):
    """struct scmp_arg_cmp."""

    _fields_ = [("index", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


class Library:
    """libseccomp, loaded. Raises Unsupported where it is not installed."""

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL("libseccomp.so.2")
        except OSError as error:
            raise Unsupported("linux.seccomp", "needs libseccomp, which is not installed (libseccomp2)") from error
        pointer, integer, unsigned = ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32
        for name, result, arguments in (
            ("seccomp_init", pointer, [unsigned]),
            ("seccomp_release", None, [pointer]),
            ("seccomp_arch_add", integer, [pointer, unsigned]),
            ("seccomp_arch_native", unsigned, []),
            ("seccomp_syscall_resolve_name_arch", integer, [unsigned, ctypes.c_char_p]),
            ("seccomp_rule_add_array", integer, [pointer, unsigned, integer, ctypes.c_uint, ctypes.POINTER(Argument)]),
            ("seccomp_export_bpf", integer, [pointer, integer]),
        ):
            function = getattr(self._library, name)
            function.restype, function.argtypes = result, arguments

    def native(self) -> int:
        """The architecture of this machine, as an AUDIT_ARCH_* number."""
        return int(self._library.seccomp_arch_native())

    def number(self, architecture: int, name: str) -> int:
        """The number of the system call `name`; negative where the architecture has none or nobody knows it."""
        return int(self._library.seccomp_syscall_resolve_name_arch(architecture, name.encode()))

    def filter(self, action: int) -> Filter:
        """A filter with this default action."""
        handle = self._library.seccomp_init(action)
        if not handle:
            raise IsolationError.of(errno.EINVAL, "seccomp_init", hex(action))
        return Filter(self._library, handle)


class Filter:
    """A filter in the making; released at the end of its `with` block."""

    def __init__(self, library: ctypes.CDLL, handle: int) -> None:
        self._library = library
        self._handle = handle

    def __enter__(self) -> Filter:
        return self

    def __exit__(self, *_: object) -> None:
        self._library.seccomp_release(self._handle)

    def add_architecture(self, number: int) -> bool:
        """Decide on this architecture's calls too. False where that is not possible here."""
        result = self._library.seccomp_arch_add(self._handle, number)
        if result in (-errno.EINVAL, -errno.EDOM):  # never heard of, or of another byte order
            return False
        if result < 0 and result != -errno.EEXIST:  # the native one is there from the start
            raise IsolationError.of(-result, "seccomp_arch_add", hex(number))
        return True

    def add_rule(self, action: int, name: str, arguments: list[tuple[int, int, int, int]]) -> None:
        """A rule for the system call `name`: index, operator and two values for each argument.

        A name that this libseccomp does not know is skipped.
        """
        number = self._library.seccomp_syscall_resolve_name_arch(_NATIVE, name.encode())
        if number == _UNKNOWN:
            return
        array = (Argument * max(len(arguments), 1))(*(Argument(*argument) for argument in arguments))
        result = self._library.seccomp_rule_add_array(self._handle, action, number, len(arguments), array)
        if result < 0:
            raise IsolationError.of(-result, "seccomp_rule_add_array", name)

    def export(self) -> bytes:
        """The program, 8 bytes an instruction."""
        memory = os.memfd_create("filter", os.MFD_CLOEXEC)
        try:
            result = self._library.seccomp_export_bpf(self._handle, memory)
            if result < 0:
                raise IsolationError.of(-result, "seccomp_export_bpf")
            os.lseek(memory, 0, os.SEEK_SET)
            return read_all(memory)
        finally:
            os.close(memory)
