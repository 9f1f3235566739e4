"""`apply --watch` mends what drifts, follows the specs, and ends when it is asked to."""

from __future__ import annotations

import json
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


SICK = """apiVersion: specrun/v1
kind: Container
metadata: {name: to-%s}
spec:
  image: busybox
  network: none
  command: [sh, -c, "touch /well; trap 'exit 0' TERM; while :; do sleep 0.1; done"]
  healthcheck: {test: [CMD, test, -e, /well], interval: 200ms, retries: 1}
  onUnhealthy: %s
---
"""


def test_what_is_unhealthy_is_treated_as_the_spec_says(host: Host, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    ways = ("restart", "replace", "stop")
    spec.write_text("".join(SICK % (way, way) for way in ways))
    names = [f"to-{way}" for way in ways]

    def of(name: str) -> tuple[str, str]:
        found = json.loads(host.ok("inspect", name))[0]
        return found["Id"], found["State"]["StartedAt"]

    host.ok("apply", "--wait", str(spec))
    before = {name: of(name) for name in names}
    for name in names:
        host.ok("exec", name, "rm", "/well")
    eventually(lambda: host.ok("ps").count("(unhealthy)") == 3)
    drift = host.run("drift", str(spec))
    assert drift.returncode == 2
    assert drift.stdout.count(b'health: wanted "healthy", found "unhealthy"') == 3
    host.ok("apply", str(spec))
    after = {name: of(name) for name in names}
    assert after["to-restart"][0] == before["to-restart"][0]
    assert after["to-restart"][1] != before["to-restart"][1]
    assert after["to-replace"][0] != before["to-replace"][0]
    assert after["to-stop"] == before["to-stop"]
    assert set(host.ok("ps", "--format", "{{.Names}}").split()) == {"to-restart", "to-replace"}
    eventually(lambda: host.ok("ps").count("(healthy)") == 2)
    done = host.ok("apply", str(spec))
    assert "nothing to change" in done
    assert "stopped, because it was unhealthy" in done
