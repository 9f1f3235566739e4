"""A specrun of a test's own: its own state folder, the real command, and nothing left when it ends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from specrun.registry.service import Service
from tests.support import leaks

COMMAND = str(Path(sys.executable).with_name("specrun"))


class Host:
    """Runs the installed `specrun` over a private root."""

    def __init__(self, folder: Path, store: Path | None = None) -> None:
        self.folder = folder
        self.root = folder / "root"
        if store is not None:
            subprocess.run(["cp", "-a", str(store), str(self.root)], check=True)
            # Two roots must not share an id, or they would see each other's control groups.
            (self.root / "id").write_text(os.urandom(4).hex())
        self.environment = {**os.environ, "SPECRUN_ROOT": str(self.root), "SPECRUN_RUN": str(folder / "run")}
        self.environment.pop("NO_COLOR", None)
        self.prefix: list[str] = []
        """What stands before each command, such as `nsenter` and its options."""

    def run(
        self, *arguments: str, input: bytes | None = None, timeout: float = 60
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command to its end; stdin is empty unless `input` is given."""
        return subprocess.run(
            [*self.prefix, COMMAND, *arguments],
            input=input if input is not None else b"",
            capture_output=True,
            env=self.environment,
            timeout=timeout,
            check=False,
        )

    def ok(self, *arguments: str, input: bytes | None = None) -> str:
        """Run a command that must succeed; gives its standard output."""
        done = self.run(*arguments, input=input)
        if done.returncode:
            raise AssertionError(f"specrun {' '.join(arguments)}: status {done.returncode}\n{done.stderr.decode()}")
        return done.stdout.decode("utf-8", "surrogateescape")

    def spawn(self, *arguments: str, **options: object) -> subprocess.Popen[bytes]:
        """Start a command and do not wait."""
        defaults: dict[str, object] = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.DEVNULL,
            "stderr": subprocess.DEVNULL,
        }
        return subprocess.Popen([*self.prefix, COMMAND, *arguments], env=self.environment, **{**defaults, **options})  # type: ignore[call-overload,no-any-return]

    def containers(self) -> list[str]:
        """The ids of all containers."""
        return self.ok("ps", "-aq", "--no-trunc").split()

    def leftovers(self) -> list[str]:
        """What is in the state folder of containers that are no more, or never were."""
        found = []
        for name in ("containers", "names", "trash"):
            folder = self.root / name
            found += [f"{name}/{entry}" for entry in os.listdir(folder)] if folder.is_dir() else []
        return found

    def close(self) -> None:
        """Remove all containers and the state folder."""
        if (self.root / "id").exists():
            identities = self.containers()
            if identities:
                self.run("rm", "-f", *identities)
            self.run("network", "prune", "-f")
        for kept in (self.root / "registries").glob("*/*/command.json"):
            Service(str(kept.parent)).stop()  # of a test that did not come to its end
        shutil.rmtree(self.folder, ignore_errors=True)


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL, and reap."""
    process.send_signal(signal.SIGKILL)
    process.wait()


@contextmanager
def own_host(store: Path | None = None) -> Iterator[Host]:
    """A host that is gone afterwards. AssertionError when it leaves anything on the machine."""
    host = Host(Path(tempfile.mkdtemp(prefix="sr-")), store)
    try:
        yield host
    finally:
        marks = leaks.marks_of(host.root)
        host.close()
    assert leaks.left(marks) == {}
