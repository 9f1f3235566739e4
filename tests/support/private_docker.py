"""A dockerd of our own: its own socket, data, process ids and bridge, gone afterwards."""

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
def private_docker(*, rules: bool = False, below: str | None = None) -> Iterator[dict[str, str]]:
    """Start it, and give the environment that reaches it. Raises RuntimeError when it does not answer in 60 s.

    Its folder is made in the folder `below`, by default the one for temporary files.

    Without `rules` it leaves the host's packet filter alone, and publishes ports by its proxy only; a table of our
    own lets its containers out.
    """
    folder = tempfile.mkdtemp(prefix="srd-", dir=below)
    before = set(os.listdir("/sys/class/net"))
    saved = _Filter() if rules else None
    bridge, addresses = _make_bridge()
    if not rules:
        _let_out(bridge, addresses)
    filtering = "true" if rules else "false"
    socket = f"unix://{folder}/docker.sock"
    command = [
        "dockerd", "--host", socket, "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec",
        "--pidfile", f"{folder}/pid", "--bridge", bridge, f"--iptables={filtering}", "--ip6tables=false",
        "--containerd-namespace", bridge, "--containerd-plugins-namespace", f"{bridge}-plugins",
        "--add-runtime", f"specrun={Path(sys.executable).with_name('specrun-runtime')}",
    ]  # fmt: skip
    environment = {**os.environ, "DOCKER_HOST": socket, "SPECRUN_EMPTY_DOCKER": "1"}
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
            if link == bridge or link.startswith(("br-", "docker", "veth")):
                subprocess.run(["ip", "link", "delete", link], check=False, capture_output=True)
        if not rules:
            subprocess.run(["nft", "delete", "table", "ip", bridge], check=True)
        _remove_groups()
        if saved:
            saved.restore()


def _make_bridge() -> tuple[str, str]:
    """A bridge of a name and an address range that nobody else has; gives both."""
    names = (f"srd{os.getpid()}{suffix}" for suffix in ("", *"abcdefgh"))
    name = next(name for name in names if not os.path.exists(f"/sys/class/net/{name}"))
    routes = subprocess.run(["ip", "-4", "route"], capture_output=True, text=True, check=True).stdout
    second = next(number for number in range(30, 16, -1) if f"172.{number}." not in routes)
    for words in (["link", "add", name, "type", "bridge"], ["address", "add", f"172.{second}.0.1/16", "dev", name]):
        subprocess.run(["ip", *words], check=True)
    subprocess.run(["ip", "link", "set", name, "up"], check=True)
    return name, f"172.{second}.0.0/16"


def _let_out(bridge: str, addresses: str) -> None:
    """Have what the bridge's containers send elsewhere bear the host's address."""
    rule = f'ip saddr {addresses} oifname != "{bridge}" masquerade'
    hook = "type nat hook postrouting priority srcnat"
    subprocess.run(
        ["nft", "-f", "-"], input=f"table ip {bridge} {{ chain out {{ {hook}; {rule}; }}; }}", text=True, check=True
    )


class _Filter:
    """The tables of iptables as they are now, to be put back."""

    def __init__(self) -> None:
        self._tables = self._listed()
        self._rules = subprocess.run(["iptables-save"], capture_output=True, check=True).stdout

    def _listed(self) -> set[str]:
        listing = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
        return {line for line in listing.splitlines() if line.startswith(("table ip ", "table ip6 "))}

    def restore(self) -> None:
        """Remove what was not there, and put back what was."""
        for table in self._listed() - self._tables:
            subprocess.run(["nft", "delete", *table.split()], check=True)
        if self._tables:
            subprocess.run(["iptables-restore"], input=self._rules, check=True)


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
