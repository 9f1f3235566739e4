"""`specrun apply` and docker-compose in turn: 30 containers from nothing, and 30 with nothing to do."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMAND = str(Path(sys.executable).with_name("specrun"))
COUNT = 30
_RUN = "trap 'exit 0' TERM; while :; do sleep 1; done"
_OURS = """apiVersion: specrun/v1
kind: Container
metadata: {{name: c{0}}}
spec: {{image: busybox, network: none, stopTimeout: 1, command: [sh, -c, "{1}"]}}
---
"""
_THEIRS = """  c{0}:
    image: busybox
    network_mode: none
    stop_grace_period: 1s
    command: [sh, -c, "{1}"]
"""


def rows(ours: dict[str, str], theirs: dict[str, str] | None, runs: int = 3) -> list[list[object]]:
    """Rows of the bench's table: milliseconds, and the ratio where docker-compose is there."""
    with tempfile.TemporaryDirectory(prefix="srb-") as folder:
        spec, compose = Path(folder, "spec.yaml"), Path(folder, "compose.yaml")
        spec.write_text("".join(_OURS.format(number, _RUN) for number in range(COUNT)))
        services = "".join(_THEIRS.format(number, _RUN) for number in range(COUNT))
        compose.write_text(f"version: '2.4'\nservices:\n{services}")
        up, down = ["up", "-d"], ["down", "-t", "1"]
        mine = _measure([COMMAND, "apply", str(spec)], [COMMAND, "delete", str(spec)], ours, runs)
        base = ["docker-compose", "-p", "bench", "-f", str(compose)]
        other = _measure([*base, *up], [*base, *down], theirs, runs) if theirs else ([0.0], [0.0])
    return [
        _row(f"apply of {COUNT} containers", mine[0], other[0]),
        _row(f"apply of {COUNT}, nothing to do", mine[1], other[1]),
    ]


def _measure(up: list[str], down: list[str], environment: dict[str, str], runs: int) -> tuple[list[float], list[float]]:
    """Times from nothing, and with nothing to do."""
    made, idle = [], []
    for _ in range(runs):
        made.append(_seconds(up, environment))
        idle.append(_seconds(up, environment))
        _seconds(down, environment)
    return made, idle


def _seconds(command: list[str], environment: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    return time.perf_counter() - began


def _row(name: str, mine: list[float], other: list[float]) -> list[object]:
    middle, theirs = sorted(mine)[len(mine) // 2], sorted(other)[len(other) // 2]
    row: list[object] = [name, middle * 1000, min(mine) * 1000]
    return [*row, theirs * 1000, middle / theirs] if theirs else [*row, "-", "-"]
