"""Capabilities by name, and the sets that a process is left with."""

from __future__ import annotations

from specrun_runtime import libc
from specrun_runtime.constants import CAP_AMBIENT_CLEAR_ALL, CAP_AMBIENT_RAISE, Prctl
from specrun_runtime.errors import IsolationError, SpecError

NAMES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
    "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT "
    "SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP "
    "MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
).split()
"""In the order of their numbers, without the CAP_ prefix (capabilities(7))."""

NUMBERS = {f"CAP_{name}": number for number, name in enumerate(NAMES)}


def mask(names: list[str], field: str) -> int:
    """The bit mask of `names`; raises SpecError naming `field` for a name that is no capability."""
    bits = 0
    for name in names:
        if name not in NUMBERS:
            raise SpecError(field, f"{name!r} is not a capability")
        bits |= 1 << NUMBERS[name]
    return bits


def names(bits: int) -> list[str]:
    """The opposite of `mask`."""
    return [f"CAP_{name}" for number, name in enumerate(NAMES) if bits >> number & 1]


def bounding() -> int:
    """The bounding set of this process, as a bit mask; numbers that the kernel does not know are absent."""
    bits = 0
    for number in range(64):
        try:
            if libc.prctl(Prctl.CAPBSET_READ, number):
                bits |= 1 << number
        except IsolationError:
            break
    return bits


def drop_bounding(keep: int, present: int) -> None:
    """Take everything outside `keep` from the bounding set, of which `present` is the current content."""
    excess = present & ~keep
    number = 0
    while excess >> number:
        if excess >> number & 1:
            libc.prctl(Prctl.CAPBSET_DROP, number)
        number += 1


def set_ambient(bits: int) -> None:
    """Make the ambient set exactly `bits`."""
    libc.prctl(Prctl.CAP_AMBIENT, CAP_AMBIENT_CLEAR_ALL)
    for number in range(bits.bit_length()):
        if bits >> number & 1:
            libc.prctl(Prctl.CAP_AMBIENT, CAP_AMBIENT_RAISE, number)
