"""What a container uses and what happened to it: statistics in runc's form, and the kernel's out-of-memory kills."""

from __future__ import annotations

import os

from specrun_runtime.cgroups import pairs, read
from specrun_runtime.errors import IsolationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from specrun_runtime.cgroups import Cgroup

UNLIMITED = 2**64 - 1


def document(cgroup: Cgroup) -> dict[str, Any]:
    """`data` of `events --stats`: sizes in bytes, times in nanoseconds."""
    if cgroup.pure:
        return _version_2(cgroup.unified or "")
    return _version_1(cgroup)


def _version_1(cgroup: Cgroup) -> dict[str, Any]:
    cpu, account, memory = (cgroup.find(name) or "" for name in ("cpu", "cpuacct", "memory"))
    pids, block = cgroup.find("pids") or "", cgroup.find("blkio") or ""
    throttling, ticks = _pairs(f"{cpu}/cpu.stat"), _pairs(f"{account}/cpuacct.stat")
    tick = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    return {
        "cpu": {
            "usage": {
                "total": _number(f"{account}/cpuacct.usage"),
                "percpu": [int(part) for part in _text(f"{account}/cpuacct.usage_percpu").split()],
                "kernel": ticks.get("system", 0) * tick,
                "user": ticks.get("user", 0) * tick,
            },
            "throttling": {
                "periods": throttling.get("nr_periods", 0),
                "throttledPeriods": throttling.get("nr_throttled", 0),
                "throttledTime": throttling.get("throttled_time", 0),
            },
        },
        "memory": {
            "usage": _memory_1(memory, "memory"),
            "swap": _memory_1(memory, "memory.memsw"),
            "kernel": _memory_1(memory, "memory.kmem"),
            "raw": _pairs(f"{memory}/memory.stat"),
            "cache": _pairs(f"{memory}/memory.stat").get("cache", 0),
        },
        "pids": {"current": _number(f"{pids}/pids.current"), "limit": _number(f"{pids}/pids.max", unlimited=0)},
        "blkio": {
            "ioServiceBytesRecursive": list(_io_1(f"{block}/blkio.throttle.io_service_bytes_recursive")),
            "ioServicedRecursive": list(_io_1(f"{block}/blkio.throttle.io_serviced_recursive")),
        },
        "hugetlb": {},
        "intel_rdt": {},
        "network_interfaces": None,
    }


def _memory_1(folder: str, prefix: str) -> dict[str, int]:
    return {
        "limit": _number(f"{folder}/{prefix}.limit_in_bytes"),
        "usage": _number(f"{folder}/{prefix}.usage_in_bytes"),
        "max": _number(f"{folder}/{prefix}.max_usage_in_bytes"),
        "failcnt": _number(f"{folder}/{prefix}.failcnt"),
    }


def _io_1(path: str) -> Iterator[dict[str, Any]]:
    for line in _text(path).splitlines():
        parts = line.split()
        if len(parts) == 3:
            major, minor = parts[0].split(":")
            yield {"major": int(major), "minor": int(minor), "op": parts[1], "value": int(parts[2])}


def _version_2(folder: str) -> dict[str, Any]:
    cpu, memory = _pairs(f"{folder}/cpu.stat"), _pairs(f"{folder}/memory.stat")
    current = _number(f"{folder}/memory.current")
    return {
        "cpu": {
            "usage": {
                "total": cpu.get("usage_usec", 0) * 1000,
                "kernel": cpu.get("system_usec", 0) * 1000,
                "user": cpu.get("user_usec", 0) * 1000,
            },
            "throttling": {
                "periods": cpu.get("nr_periods", 0),
                "throttledPeriods": cpu.get("nr_throttled", 0),
                "throttledTime": cpu.get("throttled_usec", 0) * 1000,
            },
        },
        "memory": {
            "usage": {"limit": _number(f"{folder}/memory.max"), "usage": current, "failcnt": 0},
            "swap": {
                "limit": _number(f"{folder}/memory.swap.max"),
                "usage": _number(f"{folder}/memory.swap.current"),
                "failcnt": 0,
            },
            "raw": memory,
            "cache": memory.get("file", 0),
        },
        "pids": {"current": _number(f"{folder}/pids.current"), "limit": _number(f"{folder}/pids.max", unlimited=0)},
        "blkio": {"ioServiceBytesRecursive": list(_io_2(f"{folder}/io.stat"))},
        "hugetlb": {},
        "intel_rdt": {},
        "network_interfaces": None,
    }


def _io_2(path: str) -> Iterator[dict[str, Any]]:
    for line in _text(path).splitlines():
        device, *values = line.split()
        major, minor = device.split(":")
        for value in values:
            key, _, number = value.partition("=")
            operation = {"rbytes": "Read", "wbytes": "Write"}.get(key)
            if operation:
                yield {"major": int(major), "minor": int(minor), "op": operation, "value": int(number)}


def killed_processes(cgroup: Cgroup) -> list[dict[str, Any]]:
    """The processes of the group that the kernel killed for want of memory, as far as its log still says."""
    found = []
    # The log counts from the root of the machine's hierarchy, of which our own root may be a part.
    wanted = f"/{cgroup.name}/"
    for message in _kernel_log():
        # oom-kill:constraint=...,task_memcg=/<group>,task=<name>,pid=<pid>,uid=<uid>
        if not message.startswith("oom-kill:"):
            continue
        fields = dict(part.partition("=")[::2] for part in message.removeprefix("oom-kill:").split(","))
        if wanted in f"{fields.get('task_memcg')}/" and fields.get("pid", "").isdigit():
            found.append({"pid": int(fields["pid"]), "name": fields.get("task", "")})
    return found


def _kernel_log() -> Iterator[str]:
    try:
        descriptor = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    try:
        while True:
            try:
                record = os.read(descriptor, 8192)
            except BrokenPipeError:  # records were overwritten meanwhile; the next read goes on after them
                continue
            except OSError:
                return
            yield record.partition(b";")[2].split(b"\n")[0].decode("utf-8", "replace")
    finally:
        os.close(descriptor)


def _text(path: str) -> str:
    try:
        return read(path)
    except IsolationError:
        return ""


def _pairs(path: str) -> dict[str, int]:
    return pairs(_text(path))


def _number(path: str, unlimited: int = UNLIMITED) -> int:
    text = _text(path)
    return unlimited if text == "max" else int(text) if text.isdigit() else 0
