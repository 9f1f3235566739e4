"""What running containers use now, as `stats` shows it."""

from __future__ import annotations

import os
import time

from specrun_runtime import stats

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from specrun.engine.container import Container


class Usage:
    """One look at one container: sizes in bytes, `cpu` in percent of one CPU."""

    __slots__ = ("cpu", "limit", "memory", "pids", "read", "received", "sent", "written")

    def __init__(self, document: dict[str, Any], cpu: float, network: tuple[int, int]) -> None:
        memory = document["memory"]
        raw = memory["raw"]
        inactive = raw.get("total_inactive_file", raw.get("inactive_file", 0))
        self.cpu = cpu
        self.memory = max(0, memory["usage"]["usage"] - inactive)
        self.limit = min(memory["usage"]["limit"], os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        self.pids = document["pids"]["current"]
        self.received, self.sent = network
        self.read, self.written = (
            sum(item["value"] for item in document["blkio"]["ioServiceBytesRecursive"] if item["op"] == kind)
            for kind in ("Read", "Write")
        )


def look(containers: list[Container], period: float = 1.0) -> list[Usage | None]:
    """What each of them uses; the share of the CPUs over `period` seconds. None for one that does not run."""
    groups = [container.cgroup if container.state.pid else None for container in containers]
    before = [stats.document(group)["cpu"]["usage"]["total"] if group else 0 for group in groups]
    began = time.monotonic_ns()
    time.sleep(period)
    found: list[Usage | None] = []
    for container, group, earlier in zip(containers, groups, before, strict=True):
        if group is None or not group.exists:
            found.append(None)
            continue
        document = stats.document(group)
        spent = max(0, document["cpu"]["usage"]["total"] - earlier)
        share = spent / (time.monotonic_ns() - began) * 100
        found.append(Usage(document, share, _network(container.state.pid)))
    return found


def _network(pid: int) -> tuple[int, int]:
    """Bytes received and sent by the container's interfaces, without loopback."""
    received = sent = 0
    try:
        with open(f"/proc/{pid}/net/dev", encoding="ascii") as file:
            for line in file:
                name, colon, numbers = line.partition(":")
                if colon and name.strip() != "lo":
                    fields = numbers.split()
                    received, sent = received + int(fields[0]), sent + int(fields[8])
    except OSError:
        pass
    return received, sent
