"""Docker's restart policies: whether a container that has ended is started again, and after how long."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FIRST_DELAY = 0.1
LONGEST_DELAY = 60.0
LONG_ENOUGH = 10.0
"""A container that ran for so many seconds has started well, and its next delay is the first one again."""


def wanted(policy: dict[str, Any], status: int, count: int, *, stopped: bool) -> bool:
    """Whether a container that exited with `status`, and was restarted `count` times, is to be started again.

    `policy` is Docker's RestartPolicy; what somebody has `stopped` stays down.
    """
    if stopped:
        return False
    name = policy["Name"]
    if name == "on-failure":
        most = policy.get("MaximumRetryCount") or 0
        return status != 0 and (most == 0 or count < most)
    return name in ("always", "unless-stopped")


def delay(before: float, lasted: float) -> float:
    """Seconds to wait, after a delay of `before` (0.0 for none yet) and a life of `lasted` seconds."""
    if before == 0.0 or lasted >= LONG_ENOUGH:
        return FIRST_DELAY
    return min(before * 2, LONGEST_DELAY)
