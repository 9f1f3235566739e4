"""`apply --watch` mends what drifts, follows the specs, and ends when it is asked to."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tests.support.host import Host

SPEC = """apiVersion: specrun/v1
kind: Container
metadata: {name: %s}
spec: {image: busybox, network: none, command: [sh, -c, "trap 'exit 0' TERM; while :; do sleep 0.1; done"]}
---
"""


def eventually(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.2)


def test_it_mends(host: Host, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(SPEC % "web")

    def running() -> set[str]:
        return set(host.ok("ps", "--format", "{{.Names}}").split())

    process = host.spawn("apply", "--watch", "--interval", "1", str(spec))
    try:
        eventually(lambda: running() == {"web"})
        host.ok("rm", "-f", "web")
        eventually(lambda: running() == {"web"})
        spec.write_text("broken: [")
        time.sleep(1.5)
        assert process.poll() is None
        spec.write_text(SPEC % "web" + SPEC % "second")
        eventually(lambda: running() == {"web", "second"})
    finally:
        process.terminate()
        assert process.wait(30) == 0
