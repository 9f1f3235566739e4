"""`kill -9` of apply at any moment: the next apply converges, and nothing is orphaned."""

from __future__ import annotations

import random
import time
from pathlib import Path

from tests.support import leaks
from tests.support.host import Host, kill

SPEC = """apiVersion: specrun/v1
kind: Job
metadata: {name: first}
spec: {image: busybox, command: [echo, first]}
---
apiVersion: specrun/v1
kind: Container
metadata: {name: second}
spec: {image: busybox, command: [sh, -c, "trap 'exit 0' TERM; while :; do sleep 0.1; done"], dependsOn: [{job: first}]}
"""


def test_the_next_apply_converges(host: Host, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(SPEC)
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)
    for _ in range(12):
        process = host.spawn("apply", str(spec))
        time.sleep(chance.uniform(0.1, 0.9))
        kill(process)
        host.ok("apply", str(spec))
        assert host.run("plan", str(spec)).returncode == 0, f"seed {seed}"
        assert sorted(host.ok("ps", "-a", "--format", "{{.Names}}").split()) == ["first", "second"], f"seed {seed}"
        host.ok("delete", str(spec))
        assert host.leftovers() == [], f"seed {seed}"
    left = leaks.left(leaks.marks_of(host.root))
    # The bridge of the default network, its rules and the forwarding of packets stay, as docker0 does, until `host`
    # is closed.
    assert set(left) <= {"links", "tables", "forwarding"} and len(left.get("links", ())) <= 1, f"seed {seed}: {left}"
