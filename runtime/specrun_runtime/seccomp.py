"""Seccomp: Docker's profile format resolved for one container, compiled by libseccomp, cached, and loaded.

A compiled program is kept in a folder under the digest of what it was compiled from and by, so that a start only
reads a file.
"""

from __future__ import annotations

import errno
import os
import struct
import sys

# hashlib loads OpenSSL, which takes longer than all that is hashed here.
try:
    from _sha2 import sha256
except ImportError:
    from _sha256 import sha256

from specrun_runtime import jsontext, libc
from specrun_runtime.constants import SeccompFlag
from specrun_runtime.errors import IsolationError, SpecError, Unsupported
from specrun_runtime.files import write_atomic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


_GENERATION = 2
"""Part of the cache's key: to be raised when the same rules are to give another program."""

_LONGEST = 4096
"""BPF_MAXINSNS: a longer program is refused by the kernel."""

ARCHITECTURES = {
    "SCMP_ARCH_X86": 0x40000003,
    "SCMP_ARCH_X86_64": 0xC000003E,
    "SCMP_ARCH_X32": 0x4000003E,
    "SCMP_ARCH_ARM": 0x40000028,
    "SCMP_ARCH_AARCH64": 0xC00000B7,
    "SCMP_ARCH_MIPS": 0x8,
    "SCMP_ARCH_MIPS64": 0x80000008,
    "SCMP_ARCH_MIPS64N32": 0xA0000008,
    "SCMP_ARCH_MIPSEL": 0x40000008,
    "SCMP_ARCH_MIPSEL64": 0xC0000008,
    "SCMP_ARCH_MIPSEL64N32": 0xE0000008,
    "SCMP_ARCH_PPC": 0x14,
    "SCMP_ARCH_PPC64": 0x80000015,
    "SCMP_ARCH_PPC64LE": 0xC0000015,
    "SCMP_ARCH_S390": 0x16,
    "SCMP_ARCH_S390X": 0x80000016,
    "SCMP_ARCH_PARISC": 0xF,
    "SCMP_ARCH_PARISC64": 0x8000000F,
    "SCMP_ARCH_RISCV64": 0xC00000F3,
}
"""SCMP_ARCH_*: AUDIT_ARCH_*, but for x32, which shares x86-64's and is told by a bit of the system call's number."""

_X32_BIT = 0x40000000
_ARM_PRIVATE = 0xF0000
"""Where ARM's own calls begin (__ARM_NR_BASE), far above all the others."""

OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
_ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_NOTIFY": 0x7FC00000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": SeccompFlag.TSYNC,
    "SECCOMP_FILTER_FLAG_LOG": SeccompFlag.LOG,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": SeccompFlag.SPEC_ALLOW,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": SeccompFlag.WAIT_KILLABLE_RECV,
}
_PERMISSIVE = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE")

_default: dict[str, Any] | None = None


def default_profile() -> dict[str, Any]:
    """Our default profile, in Docker's format. It is read once and shared, so nobody may change it."""
    global _default
    if _default is None:
        with open(os.path.join(os.path.dirname(__file__), "seccomp_default.json"), encoding="utf-8") as file:
            _default = jsontext.loads(file.read())
    return _default


def resolve(profile: dict[str, Any], capabilities: frozenset[str], machine: str, kernel: str) -> dict[str, Any]:
    """`linux.seccomp` from a profile in Docker's format, for a container with these bounding `capabilities`.

    `machine` and `kernel` are those of uname(2). Docker's format adds to the specification's: `archMap`, and for
    each rule `includes` and `excludes` with `arches`, `caps` and `minKernel`. Raises SpecError.
    """
    if profile.get("archMap") and profile.get("architectures"):
        raise SpecError("seccomp.architectures", "is of no use beside archMap")
    architectures = list(profile.get("architectures") or ())
    name, wanted = _names_of(machine)
    for entry in profile.get("archMap") or ():
        if entry["architecture"] == wanted:
            architectures = [wanted, *(entry.get("subArchitectures") or ())]
    rules = []
    for index, rule in enumerate(profile.get("syscalls") or ()):
        field = f"seccomp.syscalls[{index}]"
        if bool(rule.get("names")) == bool(rule.get("name")):
            raise SpecError(field, "needs either names or name")
        if not _applies(rule, {machine, name}, capabilities, kernel, field):
            continue
        kept = {key: rule[key] for key in ("action", "errnoRet", "args") if rule.get(key) is not None}
        kept["names"] = rule.get("names") or [rule["name"]]
        rules.append(kept)
    keys = ("defaultAction", "defaultErrnoRet", "flags", "listenerPath", "listenerMetadata")
    resolved = {key: profile[key] for key in keys if profile.get(key) is not None}
    return {**resolved, "architectures": architectures, "syscalls": rules}


def _applies(rule: dict[str, Any], arches: set[str], capabilities: frozenset[str], kernel: str, field: str) -> bool:
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    if arches & set(excludes.get("arches") or ()) or capabilities & set(excludes.get("caps") or ()):
        return False
    if excludes.get("minKernel") and _at_least(kernel, excludes["minKernel"], f"{field}.excludes.minKernel"):
        return False
    if includes.get("arches") and not arches & set(includes["arches"]):
        return False
    if not set(includes.get("caps") or ()) <= capabilities:
        return False
    lowest = includes.get("minKernel")
    return not lowest or _at_least(kernel, lowest, f"{field}.includes.minKernel")


def _at_least(kernel: str, lowest: str, field: str) -> bool:
    parts = lowest.split(".")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise SpecError(field, f"found {lowest!r}, expected a version such as 4.8")
    current = [int(part[: len(part) - len(part.lstrip("0123456789"))] or 0) for part in kernel.split(".")[:2]]
    return current >= [int(part) for part in parts]


def _names_of(machine: str) -> tuple[str, str]:
    """What Docker's format calls this machine in `arches`, and what libseccomp calls it."""
    if machine in ("i386", "i486", "i586", "i686"):
        return "x86", "SCMP_ARCH_X86"
    if machine.startswith("armv"):
        return "arm", "SCMP_ARCH_ARM"
    if machine.startswith("mips") and sys.byteorder == "little":  # uname(2) has one name for both orders
        machine = machine.replace("mips", "mipsel")
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine), f"SCMP_ARCH_{machine.upper()}"


def compile(rules: dict[str, Any]) -> bytes:
    """The BPF program for `linux.seccomp`. Raises SpecError, Unsupported without libseccomp, and IsolationError."""
    from specrun_runtime.libseccomp import Library

    library = Library()
    default = _action(rules["defaultAction"], rules.get("defaultErrnoRet"), "linux.seccomp.defaultErrnoRet")
    highest = {library.native(): 0}
    with library.filter(default) as made:
        for name in rules.get("architectures") or ():
            number = ARCHITECTURES.get(name)
            if number is None or not made.add_architecture(number):
                raise Unsupported("linux.seccomp.architectures", f"this machine's libseccomp can't add {name}")
            highest[number] = 0
        for index, rule in enumerate(rules.get("syscalls") or ()):
            field = f"linux.seccomp.syscalls[{index}]"
            action = _action(rule["action"], rule.get("errnoRet"), f"{field}.errnoRet")
            conditions = _arguments(rule.get("args") or (), f"{field}.args")
            for name in rule["names"]:
                for architecture, last in highest.items():
                    highest[architecture] = max(last, _ordinary(architecture, library.number(architecture, name)))
                if action != default:
                    for arguments in conditions:
                        made.add_rule(action, name, arguments)
        program = made.export()
    if rules["defaultAction"] not in _PERMISSIVE and default != _NO_SUCH_CALL:
        program = _unknown_calls(highest) + program
    if len(program) > 8 * _LONGEST:
        raise SpecError(
            "linux.seccomp.syscalls", f"are {len(program) // 8} instructions, and the kernel takes {_LONGEST}"
        )
    return program


def _arguments(conditions: Sequence[dict[str, Any]], field: str) -> list[list[tuple[int, int, int, int]]]:
    """One rule with all conditions; or one for each where an argument is named twice, which the library refuses."""
    values = [(item["index"], OPERATORS[item["op"]], item["value"], item.get("valueTwo") or 0) for item in conditions]
    for number, value in enumerate(values):
        if not 0 <= value[0] < 6:
            raise SpecError(f"{field}[{number}].index", f"found {value[0]}, and a system call has arguments 0 to 5")
    if len({value[0] for value in values}) < len(values):
        return [[value] for value in values]
    return [values]


def _action(name: str, number: int | None, field: str) -> int:
    base = _ACTIONS[name]
    if name in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"):
        if number is not None and number > 0xFFFF:
            raise SpecError(field, f"found {number}, expected at most {0xFFFF}")
        return base | (errno.EPERM if number is None else number)
    if number is not None:
        raise SpecError(field, f"has no meaning for {name}")
    return base


def _ordinary(architecture: int, number: int) -> int:
    """The number of a call, or -1 for one of ARM's own: those say nothing about which calls are new."""
    return -1 if architecture == ARCHITECTURES["SCMP_ARCH_ARM"] and number >= _ARM_PRIVATE else number


_NO_SUCH_CALL = _ACTIONS["SCMP_ACT_ERRNO"] | errno.ENOSYS

_LOAD, _IF_EQUAL, _IF_ABOVE, _IF_AT_LEAST, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x25, 0x35, 0x45, 0x06
"""Classic BPF: a 32-bit word of struct seccomp_data, comparisons with a constant, and the end."""


def _unknown_calls(highest: dict[int, int]) -> bytes:
    """Instructions that come first: ENOSYS for calls newer than all that the rules know.

    A C library tries a new call and does without it on ENOSYS, and on nothing else.
    """
    number, architecture, refuse = (_LOAD, 0, 0, 0), (_LOAD, 0, 0, 4), (_RETURN, 0, 0, _NO_SUCH_CALL)
    code: list[tuple[int, int, int, int]] = [architecture]
    for audited, last in highest.items():
        if not last or audited == ARCHITECTURES["SCMP_ARCH_X32"]:
            continue
        block = [number]
        if audited == ARCHITECTURES["SCMP_ARCH_X86_64"]:
            x32 = highest.get(ARCHITECTURES["SCMP_ARCH_X32"], 0)
            if x32:
                block += [(_IF_ANY_BIT, 0, 2, _X32_BIT), (_IF_ABOVE, 0, 3, x32), refuse]
            else:
                block += [(_IF_ANY_BIT, 2, 0, _X32_BIT)]
        elif audited == ARCHITECTURES["SCMP_ARCH_ARM"]:
            block += [(_IF_AT_LEAST, 2, 0, _ARM_PRIVATE)]
        block += [(_IF_ABOVE, 0, 1, last), refuse, architecture]
        code += [(_IF_EQUAL, 0, len(block), audited), *block]
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in code)


def program_for(rules: dict[str, Any], cache: str | None) -> bytes:
    """The compiled program, from the folder `cache` when it is there, kept there when it was not."""
    if cache is None:
        return compile(rules)

    key = jsontext.dumps([_GENERATION, os.uname().machine, _libraries(), rules], sort_keys=True).encode()
    path = f"{cache}/{sha256(key).hexdigest()}.bpf"
    try:
        with open(path, "rb") as file:
            found = file.read()
        # A power cut may leave a file that is empty or full of zeros, for it is not written durably.
        if found[:32] == sha256(found[32:]).digest():
            return found[32:]
    except FileNotFoundError:
        pass
    program = compile(rules)
    os.makedirs(cache, mode=0o700, exist_ok=True)
    write_atomic(path, sha256(program).digest() + program, durable=False)
    return program


def _libraries() -> int:
    """Another number after the libraries of this machine have changed, and so perhaps libseccomp."""
    try:
        return os.stat("/etc/ld.so.cache").st_mtime_ns
    except FileNotFoundError:
        return 0


def flags_of(rules: dict[str, Any]) -> int:
    """The flags for seccomp(2); NEW_LISTENER where a rule asks somebody else (SCMP_ACT_NOTIFY)."""
    flags = 0
    for name in rules.get("flags") or ():
        flags |= FLAGS[name]
    # The kernel refuses TSYNC with a listener, and WAIT_KILLABLE_RECV without one.
    if notifies(rules):
        return (flags | SeccompFlag.NEW_LISTENER) & ~SeccompFlag.TSYNC
    return flags & ~SeccompFlag.WAIT_KILLABLE_RECV


def notifies(rules: dict[str, Any]) -> bool:
    """Whether a listener is asked. Raises SpecError where that can't work."""
    if rules["defaultAction"] == "SCMP_ACT_NOTIFY":
        raise SpecError("linux.seccomp.defaultAction", "SCMP_ACT_NOTIFY would ask about our own calls too")
    asked = False
    for index, rule in enumerate(rules.get("syscalls") or ()):
        if rule["action"] != "SCMP_ACT_NOTIFY":
            continue
        if "sendmsg" in rule["names"]:
            raise SpecError(
                f"linux.seccomp.syscalls[{index}].names",
                "SCMP_ACT_NOTIFY can't ask about sendmsg, by which the listener is handed over",
            )
        asked = True
    if asked and not rules.get("listenerPath"):
        raise SpecError("linux.seccomp.listenerPath", "is missing, and a rule has SCMP_ACT_NOTIFY")
    return asked


def load(program: bytes, flags: int) -> int:
    """seccomp(2): from here on the filter decides on each call. Gives the listener's descriptor, or 0."""
    try:
        return libc.seccomp(program, flags)
    except IsolationError as error:
        if error.errno == errno.EINVAL and flags & ~SeccompFlag.TSYNC:
            raise SpecError("linux.seccomp.flags", f"this kernel does not know them all ({flags:#x})") from error
        raise
