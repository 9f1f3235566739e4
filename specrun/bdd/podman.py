"""A podman of the run's own: storage, configuration and networks are in one folder, and nobody else's are touched."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CONFIGURATION = """
[containers]
default_ulimits = [{limits}]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = {runtime}
[network]
network_backend = {backend}
network_config_dir = {networks}
default_subnet = "172.17.0.0/16"
"""
_REGISTRIES = """
unqualified-search-registries = ["docker.io"]
[[registry]]
location = "127.0.0.1:5000"
insecure = true
"""
"""Docker asks registries of the loopback network without TLS, and `docker.io` for names without a registry."""
_FOLDER = "podman"


class Store:
    """What podman keeps, for all scenarios of one worker."""

    def __init__(self, folder: Path, program: str) -> None:
        self.folder = folder / _FOLDER
        (self.folder / "networks").mkdir(parents=True)
        self.command = [program, *_places(self.folder)]
        self.environment = _environment(self.folder)
        (self.folder / "registries.conf").write_text(_REGISTRIES)
        self._configure(next(filter(shutil.which, ("crun", "runc")), "runc"))

    def settle(self, image: str, prefix: list[str]) -> None:
        """Use runc where crun, podman's own choice, cannot run a container: with some layouts of control groups.

        `image` is one that is there. Does so once.
        """
        if (self.folder / "settled").exists():
            return
        probe = [*prefix, *self.command, "run", "--rm", "--net", "none", image, "true"]
        if subprocess.run(probe, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True).returncode:
            self._configure("runc")
        (self.folder / "settled").touch()

    def close(self) -> None:
        """Remove it, with what still runs in it."""
        clear(self.folder.parent)

    def _configure(self, runtime: str) -> None:
        backend = "netavark" if Path("/usr/lib/podman/netavark").exists() else "cni"
        names = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
        # podman wants more than what some machines allow, and what it starts may have less than itself.
        limits = {name: min(resource.getrlimit(number)[1], 1024) for name, number in names.items()}
        text = _CONFIGURATION.format(
            limits=", ".join(f'"{name}={limit}:{limit}"' for name, limit in limits.items() if limit > 0),
            runtime=json.dumps(runtime),
            backend=json.dumps(backend),
            networks=json.dumps(str(self.folder / "networks")),
        )
        (self.folder / "containers.conf").write_text(text)


@contextmanager
def store(program: str) -> Iterator[Store]:
    """A store in a folder of its own, locked as those of scenarios are, so that a killed run's is cleared."""
    from specrun.bdd.scene import scene

    with scene() as folder:
        made = Store(folder, program)
        try:
            yield made
        finally:
            made.close()


def clear(scene: Path) -> None:
    """Remove what podman has in the folder `scene`, if anything."""
    folder, program = scene / _FOLDER, shutil.which("podman")
    if not folder.is_dir() or program is None:
        return
    command = [program, *_places(folder)]
    for words in (["rm", "--all", "--force", "--time", "0"], ["rmi", "--all", "--force"]):
        subprocess.run([*command, *words], env=_environment(folder), stdin=subprocess.DEVNULL, capture_output=True)
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        mounted = [path for line in file if (path := line.split()[4]).startswith(f"{folder}/")]
    for path in sorted(mounted, reverse=True):
        subprocess.run(["umount", path], capture_output=True, check=False)
    remove_groups()


def remove_groups() -> None:
    """podman leaves its empty parent groups behind."""
    for folder in sorted(Path("/sys/fs/cgroup").glob("**/libpod_parent/**/"), reverse=True):
        try:
            folder.rmdir()
        except OSError:
            continue  # of another podman


def _places(folder: Path) -> list[str]:
    return [
        "--root", f"{folder}/root", "--runroot", f"{folder}/run", "--tmpdir", f"{folder}/tmp",
        "--storage-driver", "overlay",
    ]  # fmt: skip


def _environment(folder: Path) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if name not in ("DOCKER_HOST", "CONTAINER_HOST")},
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "CONTAINERS_REGISTRIES_CONF": str(folder / "registries.conf"),
        "TMPDIR": str(folder),
    }
