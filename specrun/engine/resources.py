"""What a container may use of the host: limits as asked for, as Docker records them, and as the runtime takes them.

The record's `HostConfig` is the one form that is kept; `update` changes it, and a start makes `linux.resources` of it.
"""

from __future__ import annotations

import os

from specrun.errors import SpecrunError, UsageError
from specrun_runtime import rlimits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LEAST_MEMORY = 6 << 20


class Resources:
    """Limits of one container; 0 and "" stand for none. Sizes are in bytes, -1 is no limit."""

    __slots__ = (
        "blkio_weight",
        "cpu_period",
        "cpu_quota",
        "cpu_shares",
        "cpus",
        "cpuset_cpus",
        "cpuset_mems",
        "devices",
        "memory",
        "memory_reservation",
        "memory_swap",
        "oom_kill_disable",
        "oom_score_adj",
        "pids_limit",
        "shm_size",
        "ulimits",
    )

    def __init__(
        self,
        *,
        memory: int = 0,
        memory_swap: int = 0,
        memory_reservation: int = 0,
        cpus: float = 0.0,
        cpu_shares: int = 0,
        cpu_period: int = 0,
        cpu_quota: int = 0,
        cpuset_cpus: str = "",
        cpuset_mems: str = "",
        pids_limit: int = 0,
        blkio_weight: int = 0,
        oom_kill_disable: bool = False,
        oom_score_adj: int = 0,
        shm_size: int = 0,
        ulimits: list[str] | None = None,
        devices: list[str] | None = None,
    ) -> None:
        self.memory = memory
        self.memory_swap = memory_swap
        """Memory and swap together; twice `memory` where it is left out."""
        self.memory_reservation = memory_reservation
        self.cpus = cpus
        self.cpu_shares = cpu_shares
        self.cpu_period = cpu_period
        """Microseconds, as `cpu_quota`."""
        self.cpu_quota = cpu_quota
        self.cpuset_cpus = cpuset_cpus
        self.cpuset_mems = cpuset_mems
        self.pids_limit = pids_limit
        self.blkio_weight = blkio_weight
        self.oom_kill_disable = oom_kill_disable
        self.oom_score_adj = oom_score_adj
        self.shm_size = shm_size
        self.ulimits = ulimits or []
        """`NAME=SOFT[:HARD]`, each."""
        self.devices = devices or []
        """`DEVICE[:PATH_IN_CONTAINER][:rwm]`, each."""

    def host_config(self) -> dict[str, Any]:
        """What was asked for, by the names of Docker's HostConfig; what was not is left out."""
        values = {
            "Memory": self.memory,
            "MemorySwap": self.memory_swap,
            "MemoryReservation": self.memory_reservation,
            "NanoCpus": round(self.cpus * 1e9),
            "CpuShares": self.cpu_shares,
            "CpuPeriod": self.cpu_period,
            "CpuQuota": self.cpu_quota,
            "CpusetCpus": self.cpuset_cpus,
            "CpusetMems": self.cpuset_mems,
            "PidsLimit": self.pids_limit,
            "BlkioWeight": self.blkio_weight,
            "OomKillDisable": self.oom_kill_disable,
            "OomScoreAdj": self.oom_score_adj,
            "ShmSize": self.shm_size,
            "Ulimits": [parse_ulimit(text) for text in self.ulimits],
            "Devices": [parse_device(text) for text in self.devices],
        }
        if self.memory > 0 and not self.memory_swap:
            values["MemorySwap"] = 2 * self.memory
        return {name: value for name, value in values.items() if value}


def check(host: dict[str, Any]) -> None:
    """Refuse limits that contradict each other or that this host cannot set, with Docker's words."""
    memory, swap = host.get("Memory") or 0, host.get("MemorySwap") or 0
    if 0 < memory < LEAST_MEMORY:
        raise UsageError("Minimum memory limit allowed is 6MB.")
    if swap > 0 and memory <= 0:
        raise UsageError("You should always set the Memory limit when using Memoryswap limit, see usage.")
    if 0 < swap < memory:
        raise UsageError("Minimum memoryswap limit should be larger than memory limit, see usage.")
    if (reservation := host.get("MemoryReservation") or 0) and 0 < memory < reservation:
        raise UsageError("Minimum memory limit can not be less than memory reservation limit, see usage.")
    if host.get("NanoCpus") and (host.get("CpuPeriod") or host.get("CpuQuota")):
        raise UsageError("Conflicting options: Nano CPUs and CPU Period or Quota cannot both be set.")
    _check_cpus(host)
    if (period := host.get("CpuPeriod") or 0) and not 1000 <= period <= 1_000_000:
        raise UsageError("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    if 0 < (host.get("CpuQuota") or 0) < 1000:
        raise UsageError("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if (weight := host.get("BlkioWeight") or 0) and not 10 <= weight <= 1000:
        raise UsageError("Range of blkio weight is from 10 to 1000")
    if not -1000 <= (host.get("OomScoreAdj") or 0) <= 1000:
        raise UsageError(
            f"Invalid value {host['OomScoreAdj']}, range for oom score adj is [-1000, 1000]",
        )


def _check_cpus(host: dict[str, Any]) -> None:
    count = os.cpu_count() or 1
    if not 0 <= (host.get("NanoCpus") or 0) <= count * 1_000_000_000:
        raise UsageError(
            f"Range of CPUs is from 0.01 to {count}.00, as there are only {count} CPUs available",
        )
    for key, what in (("CpusetCpus", "cpus"), ("CpusetMems", "memory nodes")):
        text = host.get(key) or ""
        if text and not set(text) <= set("0123456789,-"):
            raise UsageError(f"Invalid value {text} for cpuset {what}", hint="expected a list such as 0-3,7")
        numbers = [int(part) for part in text.replace("-", ",").split(",") if part]
        if key == "CpusetCpus" and numbers and max(numbers) >= count:
            raise UsageError(
                f"Requested CPUs are not available - requested {text}, available: 0-{count - 1}",
            )


def runtime_resources(host: dict[str, Any]) -> dict[str, Any]:
    """`linux.resources` (config-linux.md) of the limits in a HostConfig, without devices."""
    cpu: dict[str, Any] = {"shares": host.get("CpuShares"), "quota": host.get("CpuQuota")}
    cpu |= {"period": host.get("CpuPeriod"), "cpus": host.get("CpusetCpus"), "mems": host.get("CpusetMems")}
    if nano := host.get("NanoCpus"):
        cpu |= {"period": 100_000, "quota": nano // 10_000}
    limits: dict[str, Any] = {
        "limit": host.get("Memory"),
        "swap": host.get("MemorySwap"),
        "reservation": host.get("MemoryReservation"),
        "disableOOMKiller": host.get("OomKillDisable"),
    }
    found: dict[str, Any] = {
        "cpu": {key: value for key, value in cpu.items() if value},
        "memory": {key: value for key, value in limits.items() if value},
        "pids": {"limit": pids} if (pids := host.get("PidsLimit")) else {},
        "blockIO": {"weight": weight} if (weight := host.get("BlkioWeight")) else {},
    }
    return {key: value for key, value in found.items() if value}


def limited(document: dict[str, Any], host: dict[str, Any]) -> dict[str, Any]:
    """config.json with the limits, devices and kernel parameters that a HostConfig asks for. Raises SpecrunError."""
    process, linux = document["process"], document["linux"]
    process["rlimits"] = runtime_rlimits(host)
    if host.get("OomScoreAdj"):
        process["oomScoreAdj"] = host["OomScoreAdj"]
    linux["resources"] = {**linux["resources"], **runtime_resources(host)}
    if host.get("Devices"):
        nodes, rules = devices(host)
        linux["devices"] = [*linux.get("devices", ()), *nodes]
        linux["resources"]["devices"] = [*linux["resources"]["devices"], *rules]
    if host.get("Sysctls"):
        linux["sysctl"] = {**linux["sysctl"], **host["Sysctls"]}
    if host.get("ShmSize"):
        document["mounts"] = [_sized(mount, host["ShmSize"]) for mount in document["mounts"]]
    return document


def _sized(mount: dict[str, Any], size: int) -> dict[str, Any]:
    if mount["destination"] != "/dev/shm" or mount["type"] != "tmpfs":
        return mount
    options = [option for option in mount["options"] if not option.startswith("size=")]
    return {**mount, "options": [*options, f"size={size}"]}


def parse_ulimit(text: str) -> dict[str, Any]:
    """`nofile=1024:2048` as Docker records it. Raises UsageError."""
    name, equals, value = text.partition("=")
    if f"RLIMIT_{name.upper()}" not in rlimits.NUMBERS:
        raise UsageError(f"invalid ulimit type: {name}", hint="expected NAME=SOFT[:HARD], such as nofile=1024:2048")
    soft, _, hard = value.partition(":")
    numbers = [soft, hard or soft]
    if not equals or not all(number.lstrip("-").isdigit() for number in numbers):
        raise UsageError(f"invalid ulimit argument: {text}", hint="expected NAME=SOFT[:HARD], such as nofile=1024:2048")
    first, second = (int(number) for number in numbers)
    if second != -1 and (first > second or first == -1):
        raise UsageError(f"ulimit soft limit must be less than or equal to hard limit: {first} > {second}")
    return {"Name": name, "Hard": second, "Soft": first}


def runtime_rlimits(host: dict[str, Any]) -> list[dict[str, str | int]]:
    """`process.rlimits`: the defaults, with those in place that were asked for. Raises SpecrunError.

    A hard limit above our own is refused where it was asked for, as nobody could set it; the defaults are clamped.
    """
    limits = {name: (soft, hard) for name, soft, hard in rlimits.DEFAULT}
    for item in host.get("Ulimits") or ():
        name = f"RLIMIT_{item['Name'].upper()}"
        wanted = item["Soft"], item["Hard"]
        if rlimits.clamp(name, *wanted) != wanted:
            raise SpecrunError(
                f"ulimit {item['Name']}={item['Soft']}:{item['Hard']} is more than this process may have itself",
                hint="the host's own hard limit, which `ulimit -H` shows, cannot be exceeded here",
            )
        limits[name] = wanted
    return [rlimits.document(name, *values) for name, values in limits.items()]


def parse_device(text: str) -> dict[str, str]:
    """`/dev/fuse[:/dev/x][:rwm]` as Docker records it. Raises UsageError."""
    parts = text.split(":")
    source, target, access = parts[0], parts[0], "rwm"
    if len(parts) == 2:
        if _is_access(parts[1]):
            access = parts[1]
        else:
            target = parts[1]
    elif len(parts) == 3:
        target, access = parts[1], parts[2]
    if not source or len(parts) > 3 or not _is_access(access) or not target.startswith("/"):
        raise UsageError(
            f"invalid device specification: {text}", hint="expected DEVICE[:PATH_IN_CONTAINER][:PERMISSIONS of r, w, m]"
        )
    return {"PathOnHost": source, "PathInContainer": target, "CgroupPermissions": access}


def _is_access(text: str) -> bool:
    return 0 < len(text) <= 3 and set(text) <= set("rwm") and len(set(text)) == len(text)


def devices(host: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """`linux.devices` and the rules of `linux.resources.devices` for what was asked for. Raises SpecrunError."""
    nodes, rules = [], []
    for item in host.get("Devices") or ():
        source = os.path.realpath(item["PathOnHost"])
        for path, target in _device_files(source, item["PathInContainer"]):
            info = os.stat(path)
            kind = "b" if info.st_mode & 0o170000 == 0o060000 else "c"
            number = {"major": os.major(info.st_rdev), "minor": os.minor(info.st_rdev)}
            owner = {"uid": info.st_uid, "gid": info.st_gid}
            nodes.append({"path": target, "type": kind, "fileMode": info.st_mode & 0o777, **number, **owner})
            rules.append({"allow": True, "type": kind, "access": item["CgroupPermissions"], **number})
    return nodes, rules


def _device_files(source: str, target: str) -> list[tuple[str, str]]:
    """The device, or all devices below a folder."""
    if os.path.isdir(source):
        found = []
        for folder, _, names in os.walk(source):
            for name in names:
                path = f"{folder}/{name}"
                if _is_device(path):
                    found.append((path, target.rstrip("/") + path.removeprefix(source)))
        return sorted(found)
    if not os.path.exists(source):
        raise SpecrunError(
            f'error gathering device information while adding custom device "{source}": no such file or directory'
        )
    if not _is_device(source):
        raise SpecrunError(
            f'error gathering device information while adding custom device "{source}": not a device node'
        )
    return [(source, target)]


def _is_device(path: str) -> bool:
    try:
        return os.stat(path).st_mode & 0o170000 in (0o020000, 0o060000)
    except OSError:
        return False
