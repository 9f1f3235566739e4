"""What the kernel says of a running container, each fact with the place that it was read from.

Beside each fact stands what it should be where the engine decided that and not the spec: read from config.json, which
the engine wrote for the runtime. So a default that the engine filled in is never drift.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from specrun.reconcile.changes import Fact
from specrun_runtime import capabilities

if TYPE_CHECKING:
    from specrun.engine.container import Container

UNLIMITED = 1 << 62
"""Version 1 says "no limit" by the largest multiple of a page."""
PERIOD = 100_000
_FLAGS = ("ro", "nosuid", "nodev", "noexec")


class Kernel:
    """What the kernel says of the containers of this host."""

    def of_container(self, container: Container) -> tuple[dict[str, Fact], dict[str, Any]]:
        """The facts by field, and what they should be. A container that ends meanwhile has none."""
        try:
            with open(f"{container.directory}/config.json", "rb") as file:
                config = json.load(file)
            facts = dict(self._limits(container))
            facts.update(_process(container.state.pid))
            facts.update(_mounts(container.state.pid, config))
        except (OSError, ValueError):
            return {}, {}
        return facts, _made(config, facts)

    def _limits(self, container: Container) -> Iterator[tuple[str, Fact]]:
        group = container.cgroup
        version_2 = group.unified if group.pure else None
        for field, controller, one, two in _FILES:
            folder = version_2 or group.find(controller)
            path = f"{folder}/{two if version_2 else one}"
            text = _read(path) if folder else None
            if text is not None:
                yield field, Fact(_number(text), path)
        cpu = version_2 or group.find("cpu")
        path = f"{cpu}/{'cpu.max' if version_2 else 'cpu.cfs_quota_us'}"
        if cpu and (text := _read(path)) is not None:
            period = text.split()[1] if version_2 else _read(f"{cpu}/cpu.cfs_period_us") or str(PERIOD)
            quota = _number(text.split()[0])
            yield "resources.limits.cpus", Fact(quota / int(period) if quota else None, path)
        cpuset = version_2 or group.find("cpuset")
        path = f"{cpuset}/cpuset.cpus"
        if cpuset and (text := _read(path)) is not None:
            yield "resources.cpuset", Fact(text or None, path)
        freezer = group.find("freezer")
        path = f"{freezer}/freezer.state" if freezer else f"{group.unified}/cgroup.freeze"
        if (text := _read(path)) is not None:
            yield "state", Fact("paused" if text in ("FROZEN", "FREEZING", "1") else "running", path)


_FILES = (
    ("resources.limits.memory", "memory", "memory.limit_in_bytes", "memory.max"),
    ("resources.reservations.memory", "memory", "memory.soft_limit_in_bytes", "memory.low"),
    ("resources.limits.pids", "pids", "pids.max", "pids.max"),
    ("resources.cpuShares", "cpu", "cpu.shares", "cpu.weight"),
)


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return None


def _number(text: str) -> int | None:
    """A limit; None for none."""
    if text == "max" or not text.lstrip("-").isdigit():
        return None
    number = int(text)
    return None if number < 0 or number >= UNLIMITED else number


def _process(pid: int) -> Iterator[tuple[str, Fact]]:
    """What /proc says of the first process."""
    path = f"/proc/{pid}/status"
    with open(path, encoding="utf-8", errors="replace") as file:
        lines = dict(line.rstrip().split(":\t", 1) for line in file if ":\t" in line)
    bounding = int(lines["CapBnd"], 16)
    names = [f"CAP_{name}" for number, name in enumerate(capabilities.NAMES) if bounding >> number & 1]
    yield "security.capabilities", Fact(sorted(names), path)
    yield "security.seccomp", Fact("filtered" if lines.get("Seccomp", "0") == "2" else "unconfined", path)
    path = f"/proc/{pid}/oom_score_adj"
    yield "oomScoreAdj", Fact(int(_read(path) or "0"), path)
    path = f"/proc/{pid}/limits"
    with open(path, encoding="ascii") as file:
        for line in file.readlines()[1:]:
            name = _LIMITS.get(line[:26].strip())
            if name:
                soft, hard = line[26:].split()[:2]
                yield f"ulimits.{name}", Fact([_number_of(soft), _number_of(hard)], path)


_LIMITS = {
    "Max open files": "nofile",
    "Max processes": "nproc",
    "Max core file size": "core",
    "Max locked memory": "memlock",
    "Max stack size": "stack",
}


def _number_of(text: str) -> int:
    return -1 if text == "unlimited" else int(text)


def _mounts(pid: int, config: dict[str, Any]) -> Iterator[tuple[str, Fact]]:
    """The flags of every mount that was asked for; None for one that is not there."""
    path = f"/proc/{pid}/mountinfo"
    found: dict[str, str] = {}
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields = line.split(" ")
            point = fields[4].encode().decode("unicode_escape") if "\\" in fields[4] else fields[4]
            flags = [flag for flag in _FLAGS if flag in fields[5].split(",")]
            found[point] = ",".join(flags or ["rw"]) + (" (source deleted)" if fields[3].endswith("//deleted") else "")
    for mount in config.get("mounts") or ():
        point = mount["destination"].rstrip("/") or "/"
        yield f"mounts.{point}", Fact(found.get(point), path)


def _made(config: dict[str, Any], facts: dict[str, Fact]) -> dict[str, Any]:
    """What config.json asked for, in the words of the facts."""
    resources = (config.get("linux") or {}).get("resources") or {}
    memory, cpu = resources.get("memory") or {}, resources.get("cpu") or {}
    quota = cpu.get("quota") or 0
    process = config["process"]
    pids = (resources.get("pids") or {}).get("limit") or 0
    made: dict[str, Any] = {
        "resources.limits.memory": _positive(memory.get("limit")),
        "resources.reservations.memory": _positive(memory.get("reservation")),
        "resources.limits.pids": _positive(pids),
        "resources.limits.cpus": quota / (cpu.get("period") or PERIOD) if quota > 0 else None,
        "state": "running",
        "oomScoreAdj": process.get("oomScoreAdj", 0),
        "security.seccomp": "filtered" if (config.get("linux") or {}).get("seccomp") else "unconfined",
        **{f"mounts.{mount['destination'].rstrip('/') or '/'}": _flags(mount) for mount in config.get("mounts") or ()},
    }
    if cpu.get("shares"):
        made["resources.cpuShares"] = cpu["shares"]
    if cpu.get("cpus"):
        made["resources.cpuset"] = cpu["cpus"]
    bounding = (process.get("capabilities") or {}).get("bounding")
    if bounding is not None and (found := facts.get("security.capabilities")):
        # A process may give capabilities up; it can't have more than it was given.
        made["security.capabilities"] = found.value if set(found.value) <= set(bounding) else sorted(bounding)
    for limit in process.get("rlimits") or ():
        made[f"ulimits.{limit['type'].removeprefix('RLIMIT_').lower()}"] = [
            _limit(limit["soft"]),
            _limit(limit["hard"]),
        ]
    return made


def _limit(value: int) -> int:
    return -1 if value >= (1 << 63) else value


def _positive(value: Any) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def _flags(mount: dict[str, Any]) -> str:
    options = ["ro" if option == "rro" else option for option in mount.get("options") or []]
    return ",".join([flag for flag in _FLAGS if flag in options] or ["rw"])
