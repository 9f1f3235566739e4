"""What this host can do, found by looking, each finding with what to do about it."""

from __future__ import annotations

import os

from specrun_runtime import capabilities, cgroups, libc, netlink, nft
from specrun_runtime.constants import Clone
from specrun_runtime.netlink import Netlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

NEEDED = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "MKNOD", "NET_ADMIN", "SETGID", "SETPCAP", "SETUID", "SYS_ADMIN")
OLDEST = (5, 12)
"""mount_setattr(2) is from this release."""


class Finding:
    """One examined thing: `needed` says whether containers can't run without it."""

    __slots__ = ("detail", "name", "needed", "ok", "remedy")

    def __init__(self, name: str, ok: bool, detail: str, remedy: str, *, needed: bool = True) -> None:
        self.name = name
        self.ok = ok
        self.detail = detail
        self.remedy = "" if ok else remedy
        self.needed = needed


def examine() -> list[Finding]:
    """All findings; changes nothing."""
    return [
        _kernel(),
        _privileges(),
        _namespaces(),
        _file_system("overlay", "load the module: modprobe overlay"),
        _cgroup_mode(),
        _cgroup_devices(),
        _memfd(),
        _packet_filter(),
        _bridges(),
    ]


def _packet_filter() -> Finding:
    """Whether nft works here, asked in a network namespace of its own."""
    path = nft.program()
    if path is None:
        return Finding("nftables", False, "no nft", "install nftables, or use --network none or host", needed=False)
    script = "table inet t { chain c { type nat hook output priority 0; }\n}\ntable bridge t { chain c { }\n}\n"
    detail = _in_new_network(lambda: nft.apply(script))
    remedy = f"load the modules nf_tables, nft_nat and nf_tables_bridge: {detail}"
    return Finding("nftables", not detail, detail or path, remedy, needed=False)


def _bridges() -> Finding:
    """Whether bridges and pairs of links can be made."""

    def make() -> None:
        with Netlink() as kernel:
            for kind in ("bridge", "veth"):
                about = netlink.nested(18, netlink.text(1, kind))  # IFLA_LINKINFO, IFLA_INFO_KIND
                body = bytes(16) + netlink.text(3, f"t{kind}") + about
                kernel.ask(16, body, netlink.CREATE | netlink.EXCLUSIVE, subject=kind)

    detail = _in_new_network(make)
    remedy = f"load the modules bridge and veth: {detail}"
    return Finding("bridges", not detail, detail or "bridge and veth", remedy, needed=False)


def _in_new_network(work: Callable[[], None]) -> str:
    """Do it in a child with a network namespace of its own; gives what went wrong, or ""."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        try:
            libc.unshare(Clone.NEWNET)
            work()
        except OSError as error:
            os.write(writer, str(error).encode()[:400])
        finally:
            os._exit(0)
    os.close(writer)
    try:
        return os.read(reader, 400).decode("utf-8", "replace")
    finally:
        os.close(reader)
        os.waitpid(child, 0)


def _kernel() -> Finding:
    release = os.uname().release
    numbers = tuple(int(part) if part.isdigit() else 0 for part in release.split("-")[0].split(".")[:2])
    remedy = f"specrun needs Linux {OLDEST[0]}.{OLDEST[1]} or newer"
    return Finding("kernel", numbers >= OLDEST, f"Linux {release} on {os.uname().machine}", remedy)


def _privileges() -> Finding:
    effective = libc.capget()[0]
    lacking = [name for name in NEEDED if not effective >> capabilities.NUMBERS[f"CAP_{name}"] & 1]
    detail = f"uid {os.geteuid()}" + (f", without {', '.join(lacking)}" if lacking else ", all that is needed")
    return Finding("privileges", not lacking, detail, "run as root, with these capabilities")


def _namespaces() -> Finding:
    kinds = ("cgroup", "ipc", "mnt", "net", "pid", "uts")
    lacking = [kind for kind in kinds if not os.path.exists(f"/proc/self/ns/{kind}")]
    detail = f"no {', '.join(lacking)}" if lacking else " ".join(kinds)
    return Finding("namespaces", not lacking, detail, "use a kernel with these namespaces")


def _file_system(name: str, remedy: str) -> Finding:
    try:
        with open("/proc/filesystems", encoding="ascii") as file:
            known = any(line.split()[-1] == name for line in file)
    except OSError:
        known = False
    return Finding(name, known, "known to the kernel" if known else "not known to the kernel", remedy)


def _cgroup_mode() -> Finding:
    found = cgroups.hierarchies()
    old = [hierarchy for hierarchy in found if not hierarchy.unified]
    mode = "hybrid" if old and len(old) < len(found) else "version 1" if old else "version 2" if found else "none"
    writable = all(os.access(hierarchy.path, os.W_OK) for hierarchy in found)
    detail = mode + ("" if writable else ", not writable")
    return Finding("cgroups", bool(found) and writable, detail, "mount them: mount -t cgroup2 cgroup2 /sys/fs/cgroup")


def _cgroup_devices() -> Finding:
    there = any("devices" in hierarchy.controllers for hierarchy in cgroups.hierarchies())
    remedy = "this version limits devices by the version 1 controller only; boot with it"
    return Finding("device rules", there, "by the devices controller" if there else "no devices controller", remedy)


def _memfd() -> Finding:
    there = os.path.isdir("/proc/self/fd") and hasattr(os, "memfd_create")
    return Finding("sealed interpreter", there, "memfd_create and /proc" if there else "no /proc", "mount /proc")
