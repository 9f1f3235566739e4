"""Numbers of the kernel's interface, by their names in the kernel's headers.

Plain classes: importing `enum` takes as long as a quarter of a container's start.
"""

from __future__ import annotations

import os

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_SYMLINK_NOFOLLOW = 0x100
AT_RECURSIVE = 0x8000


class Clone:
    """CLONE_*: namespaces, for unshare(2) and setns(2)."""

    NEWTIME = 0x00000080
    NEWNS = 0x00020000
    NEWCGROUP = 0x02000000
    NEWUTS = 0x04000000
    NEWIPC = 0x08000000
    NEWUSER = 0x10000000
    NEWPID = 0x20000000
    NEWNET = 0x40000000
    INTO_CGROUP = 0x200000000
    """For clone3(2)."""


class Mount:
    """MS_*, for mount(2)."""

    REC = 0x4000
    SLAVE = 1 << 19
    PRIVATE = 1 << 18
    SHARED = 1 << 20
    UNBINDABLE = 1 << 17


class MountAttr:
    """MOUNT_ATTR_*, for fsmount(2) and mount_setattr(2)."""

    RDONLY = 0x01
    NOSUID = 0x02
    NODEV = 0x04
    NOEXEC = 0x08
    NOATIME = 0x10
    STRICTATIME = 0x20
    ATIME_MASK = 0x70
    NODIRATIME = 0x80
    IDMAP = 0x100000
    NOSYMFOLLOW = 0x200000


class OpenTree:
    """For open_tree(2)."""

    CLONE = 1
    CLOEXEC = os.O_CLOEXEC


class MoveMount:
    """For move_mount(2)."""

    F_EMPTY_PATH = 0x04
    T_EMPTY_PATH = 0x40


class FsConfig:
    """Commands of fsconfig(2)."""

    SET_FLAG = 0
    SET_STRING = 1
    SET_FD = 5
    CMD_CREATE = 6


class Resolve:
    """RESOLVE_*, for openat2(2)."""

    NO_XDEV = 0x01
    NO_MAGICLINKS = 0x02
    NO_SYMLINKS = 0x04
    BENEATH = 0x08
    IN_ROOT = 0x10


class Prctl:
    """Operations of prctl(2)."""

    SET_PDEATHSIG = 1
    SET_DUMPABLE = 4
    SET_KEEPCAPS = 8
    CAPBSET_READ = 23
    CAPBSET_DROP = 24
    SET_CHILD_SUBREAPER = 36
    SET_NO_NEW_PRIVS = 38
    CAP_AMBIENT = 47


CAP_AMBIENT_RAISE = 2
CAP_AMBIENT_CLEAR_ALL = 4
MNT_DETACH = 2
KEYCTL_JOIN_SESSION_KEYRING = 1
CLOSE_RANGE_CLOEXEC = 4
PROC_SUPER_MAGIC = 0x9FA0
DEVPTS_SUPER_MAGIC = 0x1CD1
F_ADD_SEALS = 1033
F_SEAL_ALL = 0x1 | 0x2 | 0x4 | 0x8
"""F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW and F_SEAL_WRITE."""

SECCOMP_SET_MODE_FILTER = 1
IOPRIO_WHO_PROCESS = 1
IOPRIO_CLASS_SHIFT = 13


class SeccompFlag:
    """SECCOMP_FILTER_FLAG_*, for seccomp(2)."""

    TSYNC = 1
    LOG = 2
    SPEC_ALLOW = 4
    NEW_LISTENER = 8
    WAIT_KILLABLE_RECV = 32


class Bpf:
    """Commands, types and flags of bpf(2) for device programs."""

    PROG_LOAD = 5
    PROG_ATTACH = 8
    PROG_DETACH = 9
    PROG_GET_FD_BY_ID = 13
    PROG_QUERY = 16


BPF_PROG_TYPE_CGROUP_DEVICE = 15
BPF_CGROUP_DEVICE = 6
BPF_F_ALLOW_MULTI = 2

# Requests of ioctl(2) on terminals.
TIOCSCTTY = 0x540E
TIOCGWINSZ = 0x5413
TIOCSWINSZ = 0x5414
TIOCSPTLCK = 0x40045431
TIOCGPTPEER = 0x5441

# System calls that the C library does not offer. From 424 on the numbers are the same on every architecture.
NR_OPEN_TREE = 428
NR_MOVE_MOUNT = 429
NR_FSOPEN = 430
NR_FSCONFIG = 431
NR_FSMOUNT = 432
NR_CLONE3 = 435
NR_CLOSE_RANGE = 436
NR_OPENAT2 = 437
NR_MOUNT_SETATTR = 442
NR_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
NR_KEYCTL = {"x86_64": 250, "aarch64": 219}
NR_SECCOMP = {"x86_64": 317, "aarch64": 277}
NR_BPF = {"x86_64": 321, "aarch64": 280}
NR_IOPRIO_SET = {"x86_64": 251, "aarch64": 30}
NR_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
NR_RT_SIGACTION = {"x86_64": 13, "aarch64": 134}


def names(kind: type, value: int) -> str:
    """`value` in words: the names in `kind` of the flags that it is made of, or of the one number that it is."""
    known = {number: name for name, number in vars(kind).items() if name.isupper()}
    if value in known:
        return known[value]
    return "|".join(name for number, name in known.items() if value & number) or hex(value)


DEFAULT_CAPABILITIES = tuple(
    f"CAP_{name}"
    for name in (
        "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT "
        "KILL AUDIT_WRITE"
    ).split()
)
"""What Docker leaves a container with."""
