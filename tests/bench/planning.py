"""Planning in numbers: 100, 1,000 and 10,000 objects with nothing to do, over an observed state made up for it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAM = """
import sys, time
began = time.perf_counter()
from specrun.spec.loader import load
from specrun.reconcile.changes import Found, FoundImage, Observed
from specrun.reconcile.plan import plan
from specrun.reconcile.project import Entry, Project
specs = load([sys.argv[1]])
record = Project("p", {key: Entry(one.kind, one.metadata.name, one.values, "t", made=True)
                       for key, one in specs.resources.items()})
container = Found("c" * 64, "running", "t", {}, {"image_id": "i", "exit_code": 0})
observed = Observed({"docker.io/library/busybox:latest": FoundImage("i")},
                    {key: container for key in specs.resources})
assert not plan(specs, observed, record).needed
print(time.perf_counter() - began)
"""
SPEC = """apiVersion: specrun/v1
kind: Container
metadata: {{name: c{0}, labels: {{tier: web}}}}
spec:
  image: busybox
  command: [sleep, "60"]
  env: {{A: "1", B: "2"}}
  ports: ["127.0.0.1:{1}:80"]
  volumes: ["data:/data:ro"]
  dependsOn: [{2}]
---
"""


def seconds(count: int, runs: int = 3) -> float:
    """The least time of a fresh process that loads and plans `count` containers."""
    with tempfile.TemporaryDirectory(prefix="srb-") as folder:
        for first in range(0, count, 1000):
            numbers = range(first, min(first + 1000, count))
            text = "".join(
                SPEC.format(number, 1024 + number, f"{{container: c{number - 1}}}" if number % 10 else "")
                for number in numbers
            )
            Path(folder, f"{first:06}.yaml").write_text(text)
        found = []
        for _ in range(runs):
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", PROGRAM, folder], check=True, capture_output=True)
            found.append(time.perf_counter() - began)
        return min(found)
