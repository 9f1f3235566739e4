"""Putting right what somebody has changed of a running container behind our back, as gently as the kernel allows."""

from __future__ import annotations

import os
import resource as rlimit
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from specrun.reconcile.facts import PERIOD

if TYPE_CHECKING:
    from specrun.engine.container import Container

IN_PLACE = ("resources.", "state", "oomScoreAdj", "ulimits.")
"""Facts that can be put right while the container runs."""
BY_RESTART = ("image.layers", "mounts.", "security.", "networks.", "health")
"""Facts that a new start puts right; the container's own files stay."""


def in_place(container: Container, wanted: Mapping[str, Any]) -> None:
    """Make these facts true. Raises IsolationError or OSError for what the kernel refuses."""
    group = container.cgroup
    limits = _resources(wanted)
    if limits:
        group.limit(limits, devices=False)
    if wanted.get("state") == "running":
        group.thaw()
    pid = container.state.pid
    if "oomScoreAdj" in wanted:
        with open(f"/proc/{pid}/oom_score_adj", "w", encoding="ascii") as file:
            file.write(str(wanted["oomScoreAdj"]))
    for name, value in wanted.items():
        if name.startswith("ulimits."):
            soft, hard = (rlimit.RLIM_INFINITY if one < 0 else one for one in value)
            number = getattr(rlimit, f"RLIMIT_{name.removeprefix('ulimits.').upper()}")
            for task in os.listdir(f"/proc/{pid}/task")[:1]:
                rlimit.prlimit(int(task), number, (soft, hard))


def _resources(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """`linux.resources` of the runtime specification; None is no limit."""

    def limit(value: Any) -> Any:
        return -1 if value is None else value

    memory: dict[str, Any] = {}
    cpu: dict[str, Any] = {}
    found: dict[str, Any] = {}
    if "resources.limits.memory" in wanted:
        memory["limit"] = limit(wanted["resources.limits.memory"])
    if "resources.reservations.memory" in wanted:
        memory["reservation"] = limit(wanted["resources.reservations.memory"])
    if "resources.limits.cpus" in wanted:
        cpus = wanted["resources.limits.cpus"]
        cpu.update(period=PERIOD, quota=int(cpus * PERIOD) if cpus else -1)
    if "resources.cpuShares" in wanted:
        cpu["shares"] = wanted["resources.cpuShares"] or 1024
    if "resources.cpuset" in wanted:
        cpu["cpus"] = wanted["resources.cpuset"]
    if "resources.limits.pids" in wanted:
        found["pids"] = {"limit": limit(wanted["resources.limits.pids"])}
    if memory:
        found["memory"] = memory
    if cpu:
        found["cpu"] = cpu
    return found
