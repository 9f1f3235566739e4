"""The configuration that `spec` writes to begin with."""

from __future__ import annotations

from specrun_runtime.constants import DEFAULT_CAPABILITIES
from specrun_runtime.spec import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MOUNTS: tuple[tuple[str, str, str, list[str]], ...] = (
    ("/proc", "proc", "proc", []),
    ("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
    ("/dev/pts", "devpts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
    ("/dev/shm", "tmpfs", "shm", ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
    ("/dev/mqueue", "mqueue", "mqueue", ["nosuid", "noexec", "nodev"]),
    ("/sys", "sysfs", "sysfs", ["nosuid", "noexec", "nodev", "ro"]),
    ("/sys/fs/cgroup", "cgroup", "cgroup", ["nosuid", "noexec", "nodev", "relatime", "ro"]),
)
_MASKED = "acpi asound kcore keys latency_stats timer_list timer_stats sched_debug scsi"
_READ_ONLY = "bus fs irq sys sysrq-trigger"


def configuration() -> dict[str, Any]:
    """A shell on a terminal, in namespaces of its own, with a folder `rootfs` beside the file as its root."""
    sets = dict.fromkeys(("bounding", "effective", "permitted"), list(DEFAULT_CAPABILITIES))
    return {
        "ociVersion": VERSION,
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": sets,
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "specrun",
        "mounts": [
            {"destination": destination, "type": kind, "source": source, **({"options": options} if options else {})}
            for destination, kind, source, options in _MOUNTS
        ],
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "cgroup", "mount")],
            "maskedPaths": [*(f"/proc/{name}" for name in _MASKED.split()), "/sys/firmware"],
            "readonlyPaths": [f"/proc/{name}" for name in _READ_ONLY.split()],
        },
    }
