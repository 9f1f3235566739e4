"""The runtime against runc, in turn: a start by library call, and one process more."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable

from specrun_runtime import launch
from specrun_runtime.container import Container
from tests.support.oci import Bundle, Runtime


def rows(runs: int) -> list[list[object]]:
    """Lines of the table: case, our median and least, runc's median, and their ratio."""
    runtime = Runtime()
    null = os.open(os.devnull, os.O_RDWR)
    try:
        bundle = runtime.bundle()
        bundle.process["args"] = ["true"]
        bundle.write()
        with launch.Launcher() as launcher:
            start = _compared(
                runs, lambda: _start(runtime, bundle, null, launcher), lambda: _runc(runtime, "run", bundle)
            )
        return [["start, to the exec (runc run)", *start], ["exec true", *_exec(runtime, bundle, null, runs)]]
    finally:
        os.close(null)
        runtime.close()


def _compared(runs: int, mine: Callable[[], float], other: Callable[[], float]) -> list[float]:
    samples = [(mine() * 1000, other() * 1000) for _ in range(runs + 1)][1:]  # the first warms up
    ours, theirs = zip(*samples, strict=True)
    median, reference = statistics.median(ours), statistics.median(theirs)
    return [median, min(ours), reference, median / reference]


def _start(runtime: Runtime, bundle: Bundle, null: int, launcher: launch.Launcher) -> float:
    began = time.perf_counter()
    container, _ = Container.create(
        str(runtime.root), "ours", str(bundle.folder), streams=(null, null, null), launcher=launcher
    )
    container.start()
    took = time.perf_counter() - began
    while container.status() != "stopped":
        time.sleep(0.001)
    container.delete()
    return took


def _runc(runtime: Runtime, *arguments: str | Bundle) -> float:
    words = [f"--bundle={word.folder}" if isinstance(word, Bundle) else word for word in arguments]
    began = time.perf_counter()
    subprocess.run(["runc", "--root", str(runtime.folder / "runc"), *words, "theirs"], check=True, **_QUIET)
    return time.perf_counter() - began


_QUIET: dict[str, int] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def _exec(runtime: Runtime, bundle: Bundle, null: int, runs: int) -> list[float]:
    """By library call here; runc has its command only."""
    bundle.process["args"] = ["sleep", "1000"]
    runtime.start(bundle, "ours")
    container = Container(str(runtime.root), "ours")
    bundle.linux["cgroupsPath"] += "-runc"
    bundle.write()
    command = ["runc", "--root", str(runtime.folder / "runc")]
    subprocess.run([*command, "run", "--detach", f"--bundle={bundle.folder}", "theirs"], check=True, **_QUIET)
    process = {"args": ["true"], "cwd": "/", "env": ["PATH=/bin"]}

    def mine() -> float:
        began = time.perf_counter()
        _, monitor = container.exec(process, streams=(null, null, null))
        monitor.next_report()
        monitor.reap()
        return time.perf_counter() - began

    def other() -> float:
        began = time.perf_counter()
        subprocess.run([*command, "exec", "theirs", "true"], check=True, **_QUIET)
        return time.perf_counter() - began

    try:
        return _compared(runs, mine, other)
    finally:
        subprocess.run([*command, "delete", "--force", "theirs"], check=False, **_QUIET)
