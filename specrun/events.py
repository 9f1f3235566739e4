"""Events: what was done to containers, images, volumes and networks; each verb tells, `specrun events` reads."""

from __future__ import annotations

import select
import time

from specrun_runtime import eventlog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from specrun.paths import Root

_PAUSE = 0.05
"""Seconds between two looks at the log."""


def emit(root: Root, kind: str, action: str, identity: str, attributes: dict[str, str] | None = None) -> None:
    """Tell that `action` was done to an object; `kind` is container, image, volume or network.

    `attributes` are what Docker's events have: `name`, `image` and the labels of a container, for example.
    """
    eventlog.append(root.events, kind, action, identity, attributes or {})


def follow(root: Root, *, until: float | None = None) -> Iterator[dict[str, Any]]:
    """All events that the log has, then those that come, without a gap; ends at `until` (seconds since 1970)."""
    cursor = (0, 0)
    while True:
        # Asked before reading: what happened until then is surely read.
        over = until is not None and time.time() >= until
        for behind, event in eventlog.read(root.events, cursor):
            cursor = behind
            if until is not None and event["timeNano"] > until * 1e9:
                return
            yield event
        if over:
            return
        select.select([], [], [], _PAUSE)
