"""A dockerd of our own: its own socket, data and process ids, no network of its own, gone afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def private_docker() -> Iterator[dict[str, str]]:
    """Start it, and give the environment that reaches it. Raises RuntimeError when it does not answer in 60 s."""
    folder = tempfile.mkdtemp(prefix="srd-")
    before = set(os.listdir("/sys/class/net"))
    socket = f"unix://{folder}/docker.sock"
    command = [
        "dockerd", "--host", socket, "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec",
        "--pidfile", f"{folder}/pid", "--bridge", "none", "--iptables=false", "--ip6tables=false",
        "--add-runtime", f"specrun={Path(sys.executable).with_name('specrun-runtime')}",
    ]  # fmt: skip
    environment = {**os.environ, "DOCKER_HOST": socket}
    with open(f"{folder}/log", "wb") as log:
        daemon = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        _await(daemon, environment, f"{folder}/log")
        yield environment
    finally:
        daemon.terminate()
        try:
            daemon.wait(30)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
        _unmount_below(folder)
        shutil.rmtree(folder, ignore_errors=True)
        for link in set(os.listdir("/sys/class/net")) - before:
            subprocess.run(["ip", "link", "delete", link], check=False, capture_output=True)
        _remove_groups()


def _await(daemon: subprocess.Popen[bytes], environment: dict[str, str], log: str) -> None:
    for _ in range(300):
        if subprocess.run(["docker", "version"], env=environment, capture_output=True, check=False).returncode == 0:
            return
        if daemon.poll() is not None:
            break
        time.sleep(0.2)
    with open(log, encoding="utf-8", errors="replace") as file:
        raise RuntimeError(f"the private dockerd did not start:\n{file.read()[-2000:]}")


def _unmount_below(folder: str) -> None:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        paths = [line.split()[4] for line in file]
    for path in sorted((path for path in paths if path.startswith(folder)), reverse=True):
        subprocess.run(["umount", path], check=False, capture_output=True)


def _remove_groups() -> None:
    """dockerd leaves its empty parent groups behind."""
    for hierarchy in os.listdir("/sys/fs/cgroup"):
        try:
            os.rmdir(f"/sys/fs/cgroup/{hierarchy}/docker")
        except OSError:
            continue
