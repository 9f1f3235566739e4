"""iperf3 from a machine beside this one through a published port: of specrun and of Docker in turn, in one run."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

ROUNDS, SECONDS = 11, 1
HERE, THERE = "198.19.0.1", "198.19.0.2"


@contextmanager
def neighbor() -> Iterator[list[str]]:
    """How to run a command on the machine beside this one, which reaches this one at HERE."""
    name = f"t{os.getpid()}"
    holder = subprocess.Popen(["unshare", "-n", "sleep", "600"])
    there = ["nsenter", "-t", str(holder.pid), "-n"]
    try:
        while os.readlink(f"/proc/{holder.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            time.sleep(0.01)
        for words in (
            ["ip", "link", "add", name, "type", "veth", "peer", "name", "out", "netns", str(holder.pid)],
            ["ip", "address", "add", f"{HERE}/24", "dev", name],
            ["ip", "link", "set", name, "up"],
            [*there, "ip", "address", "add", f"{THERE}/24", "dev", "out"],
            [*there, "ip", "link", "set", "out", "up"],
        ):
            subprocess.run(words, check=True)
        yield there
    finally:
        holder.kill()
        holder.wait()
        subprocess.run(["ip", "link", "delete", name], check=False, capture_output=True)


class Server:
    """iperf3 in the network of a container that publishes its port."""

    def __init__(self, command: str, environment: dict[str, str]) -> None:
        self._command, self._environment = command, environment
        self._container = self._ask("run", "-d", "-p", "5201", "busybox", "sleep", "600")
        pid = self._ask("inspect", "-f", "{{.State.Pid}}", self._container)
        self.port = self._ask("port", self._container, "5201").splitlines()[0].rpartition(":")[2]
        words = ["nsenter", "-t", pid, "-n", "iperf3", "-s"]
        self._server = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        time.sleep(0.5)

    def _ask(self, *words: str) -> str:
        done = subprocess.run(
            [self._command, *words], env=self._environment, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def measure(self, there: list[str]) -> float:
        """Gigabits a second that arrive."""
        words = [*there, "iperf3", "-c", HERE, "-p", self.port, "-t", str(SECONDS), "-J"]
        done = subprocess.run(words, check=True, capture_output=True)
        return float(json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"]) / 1e9

    def close(self) -> None:
        """End it."""
        self._server.kill()
        self._server.wait()
        self._ask("rm", "-f", self._container)


def compare(ours: tuple[str, dict[str, str]], theirs: tuple[str, dict[str, str]]) -> tuple[float, float]:
    """Medians of specrun and of Docker."""
    with neighbor() as there:
        servers = [Server(*ours), Server(*theirs)]
        try:
            results = [[server.measure(there) for server in servers] for _ in range(ROUNDS)]
        finally:
            for server in servers:
                server.close()
    return statistics.median(mine for mine, _ in results), statistics.median(other for _, other in results)
