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
        "cgroup_rules",
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
        "memory_swappiness",
        "oom_kill_disable",
        "oom_score_adj",
        "pids_limit",
        "shm_size",
        "throttles",
        "ulimits",
        "weights",
    )

    def __init__(
        self,
        *,
        memory: int = 0,
        memory_swap: int = 0,
        memory_reservation: int = 0,
        memory_swappiness: int = -1,
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
        cgroup_rules: list[str] | None = None,
        weights: list[str] | None = None,
        throttles: dict[str, list[str]] | None = None,
    ) -> None:
        self.memory = memory
        self.memory_swap = memory_swap
        """Memory and swap together; twice `memory` where it is left out."""
        self.memory_reservation = memory_reservation
        self.memory_swappiness = memory_swappiness
        """0 to 100; -1 for the host's."""
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
        self.cgroup_rules = cgroup_rules or []
        """`TYPE MAJOR:MINOR ACCESS`, each: what a device may be used for whose node the container makes itself."""
        self.weights = weights or []
        """`DEVICE:WEIGHT`, each."""
        self.throttles = throttles or {}
        """`DEVICE:RATE`, each, by the name of its HostConfig field, as THROTTLES has them."""

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
            "DeviceCgroupRules": [_cgroup_rule(text) for text in self.cgroup_rules],
            "BlkioWeightDevice": [parse_weight(text) for text in self.weights],
        }
        for name, rates in self.throttles.items():
            values[name] = [parse_rate(text, sized=name.endswith("Bps")) for text in rates]
        if self.memory > 0 and not self.memory_swap:
            values["MemorySwap"] = 2 * self.memory
        found = {name: value for name, value in values.items() if value}
        if self.memory_swappiness != -1:
            found["MemorySwappiness"] = self.memory_swappiness
        return found


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
    swappiness = host.get("MemorySwappiness")
    if swappiness is not None and not 0 <= swappiness <= 100:
        raise UsageError(f"Invalid value: {swappiness}, valid memory swappiness range is 0-100")
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
    memory = {key: value for key, value in limits.items() if value}
    if (swappiness := host.get("MemorySwappiness")) is not None:
        memory["swappiness"] = swappiness
    found: dict[str, Any] = {
        "cpu": {key: value for key, value in cpu.items() if value},
        "memory": memory,
        "pids": {"limit": pids} if (pids := host.get("PidsLimit")) else {},
        "blockIO": _block_io(host),
    }
    return {key: value for key, value in found.items() if value}


THROTTLES = {
    "BlkioDeviceReadBps": "throttleReadBpsDevice",
    "BlkioDeviceWriteBps": "throttleWriteBpsDevice",
    "BlkioDeviceReadIOps": "throttleReadIOPSDevice",
    "BlkioDeviceWriteIOps": "throttleWriteIOPSDevice",
}
"""HostConfig -> `linux.resources.blockIO`."""


def _block_io(host: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"weight": weight} if (weight := host.get("BlkioWeight")) else {}
    if weights := host.get("BlkioWeightDevice"):
        found["weightDevice"] = [{**_block_device(item["Path"]), "weight": item["Weight"]} for item in weights]
    for name, field in THROTTLES.items():
        if rates := host.get(name):
            found[field] = [{**_block_device(item["Path"]), "rate": item["Rate"]} for item in rates]
    return found


def _block_device(path: str) -> dict[str, int]:
    try:
        info = os.stat(path)
    except OSError as error:
        raise SpecrunError(f"the device {path} cannot be looked at: {error.strerror}") from error
    if info.st_mode & 0o170000 != 0o060000:
        raise SpecrunError(f"{path} is no block device", hint="limits of input and output are those of block devices")
    return {"major": os.major(info.st_rdev), "minor": os.minor(info.st_rdev)}


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
    if texts := host.get("DeviceCgroupRules"):
        linux["resources"]["devices"] = [*linux["resources"]["devices"], *map(_runtime_rule, texts)]
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


def _cgroup_rule(text: str) -> str:
    """`c 10:229 rwm`, as Docker takes it. Raises UsageError."""
    kind, _, rest = text.partition(" ")
    numbers, _, access = rest.partition(" ")
    major, colon, minor = numbers.partition(":")
    known = all(number == "*" or number.isascii() and number.isdigit() for number in (major, minor))
    if kind not in ("a", "b", "c") or not colon or not known or not _is_access(access):
        raise UsageError(
            f"invalid device cgroup format '{text}'", hint='expected TYPE MAJOR:MINOR ACCESS, such as "c 10:229 rwm"'
        )
    return text


def _runtime_rule(text: str) -> dict[str, Any]:
    kind, numbers, access = text.split(" ")
    major, _, minor = numbers.partition(":")
    rule: dict[str, Any] = {"allow": True, "type": kind, "access": access}
    return rule | {name: int(value) for name, value in (("major", major), ("minor", minor)) if value != "*"}


def parse_weight(text: str) -> dict[str, Any]:
    """`/dev/sda:200` as Docker records it. Raises UsageError."""
    path, value = _of_device(text)
    if not value.isascii() or not value.isdigit() or not (value == "0" or 10 <= int(value) <= 1000):
        raise UsageError(f"invalid weight for device: {text}", hint="weights are 10 to 1000, or 0 for none")
    return {"Path": path, "Weight": int(value)}


def parse_rate(text: str, *, sized: bool) -> dict[str, Any]:
    """`/dev/sda:1mb`, or `/dev/sda:1000` operations a second, as Docker records it. Raises UsageError."""
    from specrun.engine.policies import parse_size

    path, value = _of_device(text)
    form = "<device-path>:<number>[<unit>], with kb, mb or gb as unit" if sized else "<device-path>:<number>"
    try:
        rate = parse_size(value, "rate") if sized else int(value)
    except (SpecrunError, ValueError):
        rate = -1
    if rate < 0:
        raise UsageError(f"invalid rate for device: {text}", hint=f"expected {form}")
    return {"Path": path, "Rate": rate}


def _of_device(text: str) -> tuple[str, str]:
    path, colon, value = text.partition(":")
    if not path or not colon:
        raise UsageError(f"bad format: {text}", hint="expected DEVICE:VALUE, such as /dev/sda:200")
    if not path.startswith("/dev/"):
        raise UsageError(f"bad format for device path: {text}", hint="devices are files of /dev")
    return path, value


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
