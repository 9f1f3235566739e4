"""The engine under test, as a command `docker` on the PATH of every scenario."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from specrun.paths import open_root
from specrun.store.images import ImageStore
from tests.support import leaks
from tests.support.host import COMMAND, Host


class Engine:
    """What a scenario runs its command lines with."""

    def __init__(self, folder: Path, script: str, environment: dict[str, str]) -> None:
        command = folder / "bin" / "docker"
        command.parent.mkdir()
        command.write_text(f"#!/bin/sh\n{script}\n")
        command.chmod(0o755)
        self.folder = folder
        self.environment = {**environment, "PATH": f"{command.parent}:{os.environ['PATH']}"}
        self.last: subprocess.CompletedProcess[str] | None = None

    def run(self, line: str) -> subprocess.CompletedProcess[str]:
        """Run a command line in a shell, as a reader of the workshop would."""
        self.last = subprocess.run(
            ["bash", "-c", line],
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return self.last

    def check(self) -> None:
        """What must hold after every step."""


class Specrun(Engine):
    """specrun, over a state folder of the scenario's own."""

    def __init__(self, folder: Path, store: Path) -> None:
        (folder / "host").mkdir()
        self.host = Host(folder / "host", store)
        super().__init__(folder, f'exec {COMMAND} "$@"', self.host.environment)

    def check(self) -> None:
        """The store is whole, and what is running is listed."""
        root = open_root(str(self.host.root))
        assert ImageStore(root).verify() == []
        known = self.host.containers()
        prefix = f"specrun-{root.id}-"
        groups = {Path(path).name for path in leaks.present((prefix,)).get("cgroups", ())}
        assert groups <= {prefix + identity for identity in known}

    def close(self) -> None:
        self.host.close()


class Docker(Engine):
    """A real Docker, reached by DOCKER_HOST; its containers are removed before and after each scenario."""

    def __init__(self, folder: Path, store: Path) -> None:
        program = shutil.which("docker", path="/usr/bin:/usr/local/bin")
        super().__init__(folder, f'exec {program} "$@"', dict(os.environ))
        self._clean()
        root = open_root(str(store))
        layers = ImageStore(root)
        tree = layers.lower_directories(layers.resolve("busybox"))[0]
        if subprocess.run([str(program), "image", "inspect", "busybox"], capture_output=True, check=False).returncode:
            path = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
            load = f"tar -C {tree} -c . | {program} import -c 'CMD [\"sh\"]' -c '{path}' - busybox:latest"
            subprocess.run(["bash", "-c", load], check=True, capture_output=True)

    def _clean(self) -> None:
        self.run("docker ps -aq | xargs -r docker rm -f")

    def close(self) -> None:
        self._clean()


@pytest.fixture
def engine(request: pytest.FixtureRequest, busybox_store: Path) -> Iterator[Engine]:
    folder = Path(tempfile.mkdtemp(prefix="sr-"))
    chosen = request.config.getoption("--engine")
    made: Specrun | Docker = Docker(folder, busybox_store) if chosen == "docker" else Specrun(folder, busybox_store)
    try:
        yield made
    finally:
        marks = leaks.marks_of(folder / "host" / "root")
        made.close()
        shutil.rmtree(folder, ignore_errors=True)
    if chosen == "specrun":
        assert leaks.left(marks) == {}


def pytest_bdd_after_step(request: pytest.FixtureRequest) -> None:
    made: Engine = request.getfixturevalue("engine")
    made.check()
