"""`linux.resources` of the runtime specification as files of a control group and what is written into them.

Pure: nothing here touches the system. Both versions of control groups are covered; what a version cannot do is
refused, because a limit that is silently left out is worse than a container that does not start.
"""

from __future__ import annotations

from specrun_runtime.errors import SpecError, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Write = tuple[str, str, str]
    """Controller, file and text."""

_THROTTLES = (
    ("throttleReadBpsDevice", "read_bps", "rbps"),
    ("throttleWriteBpsDevice", "write_bps", "wbps"),
    ("throttleReadIOPSDevice", "read_iops", "riops"),
    ("throttleWriteIOPSDevice", "write_iops", "wiops"),
)
_FIELD = "linux.resources"


def version_1(resources: dict[str, Any]) -> list[Write]:
    """The writes for hierarchies of version 1 (Documentation/admin-guide/cgroup-v1)."""
    writes: list[Write] = []
    cpu = resources.get("cpu") or {}
    for name, controller, file in (
        ("cpus", "cpuset", "cpuset.cpus"),
        ("mems", "cpuset", "cpuset.mems"),
        ("shares", "cpu", "cpu.shares"),
        ("period", "cpu", "cpu.cfs_period_us"),
        ("quota", "cpu", "cpu.cfs_quota_us"),
        ("burst", "cpu", "cpu.cfs_burst_us"),
        ("idle", "cpu", "cpu.idle"),
    ):
        if cpu.get(name):
            writes.append((controller, file, str(cpu[name])))
    writes += _memory_1(resources.get("memory") or {})
    writes += _pids(resources)
    block = resources.get("blockIO") or {}
    for name, file in (("weight", "weight"), ("leafWeight", "leaf_weight")):
        if block.get(name):
            writes.append(("blkio", f"blkio.{file}", str(block[name])))
    for device in block.get("weightDevice") or ():
        for name, file in (("weight", "weight_device"), ("leafWeight", "leaf_weight_device")):
            if device.get(name):
                writes.append(("blkio", f"blkio.{file}", f"{_device(device)} {device[name]}"))
    for name, file, _ in _THROTTLES:
        for device in block.get(name) or ():
            writes.append(("blkio", f"blkio.throttle.{file}_device", f"{_device(device)} {device['rate']}"))
    for limit in resources.get("hugepageLimits") or ():
        writes.append(("hugetlb", f"hugetlb.{limit['pageSize']}.limit_in_bytes", str(limit["limit"])))
    return writes


def _memory_1(memory: dict[str, Any]) -> list[Write]:
    writes: list[Write] = []
    limit, swap = memory.get("limit"), memory.get("swap")
    if limit == -1 and not swap:
        swap = -1
    if limit:
        writes.append(("memory", "memory.limit_in_bytes", str(limit)))
    if swap:
        writes.append(("memory", "memory.memsw.limit_in_bytes", str(swap)))
    if memory.get("reservation"):
        writes.append(("memory", "memory.soft_limit_in_bytes", str(memory["reservation"])))
    swappiness = memory.get("swappiness")
    if swappiness is not None:
        if swappiness > 100:
            raise SpecError(f"{_FIELD}.memory.swappiness", f"found {swappiness}, expected 0 to 100")
        writes.append(("memory", "memory.swappiness", str(swappiness)))
    if memory.get("disableOOMKiller"):
        writes.append(("memory", "memory.oom_control", "1"))
    return writes


def version_2(resources: dict[str, Any]) -> list[Write]:
    """The writes for the hierarchy of version 2 (Documentation/admin-guide/cgroup-v2.rst)."""
    writes: list[Write] = []
    cpu = resources.get("cpu") or {}
    if cpu.get("cpus"):
        writes.append(("cpuset", "cpuset.cpus", cpu["cpus"]))
    if cpu.get("mems"):
        writes.append(("cpuset", "cpuset.mems", cpu["mems"]))
    if cpu.get("shares"):
        writes.append(("cpu", "cpu.weight", str(weight_of_shares(cpu["shares"]))))
    if cpu.get("quota") or cpu.get("period"):
        quota = cpu.get("quota") or -1
        writes.append(("cpu", "cpu.max", f"{quota if quota > 0 else 'max'} {cpu.get('period') or 100000}"))
    if cpu.get("burst"):
        writes.append(("cpu", "cpu.max.burst", str(cpu["burst"])))
    if cpu.get("idle"):
        writes.append(("cpu", "cpu.idle", str(cpu["idle"])))
    writes += _memory_2(resources.get("memory") or {})
    writes += _pids(resources)
    writes += _io(resources.get("blockIO") or {})
    for limit in resources.get("hugepageLimits") or ():
        writes.append(("hugetlb", f"hugetlb.{limit['pageSize']}.max", str(limit["limit"])))
    writes += unified(resources)
    return writes


def unified(resources: dict[str, Any]) -> list[Write]:
    """The keys of `unified`: files of version 2 by their own names."""
    writes = []
    for file, value in (resources.get("unified") or {}).items():
        if "/" in file or "." not in file:
            raise SpecError(f"{_FIELD}.unified.{file}", "is not the name of a file of a control group")
        writes.append((file.partition(".")[0], file, value))
    return writes


def _memory_2(memory: dict[str, Any]) -> list[Write]:
    if memory.get("disableOOMKiller"):
        raise Unsupported(f"{_FIELD}.memory.disableOOMKiller", "control groups of version 2 have no such switch")
    if memory.get("swappiness") is not None:
        raise Unsupported(f"{_FIELD}.memory.swappiness", "control groups of version 2 have no such setting")
    writes: list[Write] = []
    limit, swap = memory.get("limit") or 0, memory.get("swap") or 0
    if limit == -1 and swap == 0:
        swap = -1
    if swap:
        if swap != -1 and (limit <= 0 or swap < limit):
            raise SpecError(f"{_FIELD}.memory.swap", f"found {swap}, expected no less than limit ({limit})")
        writes.append(("memory", "memory.swap.max", "max" if swap == -1 else str(swap - limit)))
    if limit:
        writes.append(("memory", "memory.max", "max" if limit == -1 else str(limit)))
    if memory.get("reservation"):
        reservation = memory["reservation"]
        writes.append(("memory", "memory.low", "max" if reservation == -1 else str(reservation)))
    return writes


def _pids(resources: dict[str, Any]) -> list[Write]:
    limit = (resources.get("pids") or {}).get("limit") or 0
    return [("pids", "pids.max", str(limit) if limit > 0 else "max")] if limit else []


def _io(block: dict[str, Any]) -> list[Write]:
    if block.get("leafWeight"):
        raise Unsupported(f"{_FIELD}.blockIO.leafWeight", "control groups of version 2 have no such setting")
    writes: list[Write] = []
    if block.get("weight"):
        writes.append(("io", "io.weight", f"default {weight_of_block(block['weight'])}"))
    for device in block.get("weightDevice") or ():
        if device.get("weight"):
            writes.append(("io", "io.weight", f"{_device(device)} {weight_of_block(device['weight'])}"))
    for name, _, key in _THROTTLES:
        for device in block.get(name) or ():
            writes.append(("io", "io.max", f"{_device(device)} {key}={device['rate'] or 'max'}"))
    return writes


def weight_of_shares(shares: int) -> int:
    """cpu.shares (2 to 262144) on the scale of cpu.weight (1 to 10000), linearly."""
    return 1 + (max(2, min(shares, 262144)) - 2) * 9999 // 262142


def weight_of_block(weight: int) -> int:
    """blkio.weight (10 to 1000) on the scale of io.weight (1 to 10000), linearly."""
    return 1 + (max(10, min(weight, 1000)) - 10) * 9999 // 990


def _device(device: dict[str, Any]) -> str:
    return f"{device['major']}:{device['minor']}"
