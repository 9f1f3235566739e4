"""Push and pull of a 128 MiB image against one docker-registry: specrun, Docker and skopeo in turn, in one run."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import time
from pathlib import Path

from tests.support.registries import debian_registry

CASES = ("push", "pull", "registry")
RUNS = 5
SIZE = 128 << 20
FILES = 32
FORMATS = (".0f", ".0f", ".0f", ".0f", ".2f", ".0f", ".2f")
HEADERS = ["registry", "specrun ms", "(least)", "docker ms", "ratio", "skopeo ms", "ratio"]


def available() -> bool:
    """Whether there is a registry to talk to."""
    return shutil.which("docker-registry") is not None


def table(command: str, ours: dict[str, str], theirs: dict[str, str] | None, folder: Path) -> str:
    """The rows, to be printed."""
    from tabulate import tabulate

    return str(tabulate(rows(command, ours, theirs, folder), HEADERS, tablefmt="plain", floatfmt=FORMATS))


def rows(command: str, ours: dict[str, str], theirs: dict[str, str] | None, folder: Path) -> list[list[object]]:
    """The medians. Docker's column is empty without one, and so is skopeo's."""
    storage = folder / "registry"
    with debian_registry(storage) as address:
        sides = [_Specrun(command, ours, address, folder)]
        if theirs:
            sides.append(_Docker("docker", theirs, address, folder))
        if shutil.which("skopeo"):
            sides.append(_Skopeo("skopeo", dict(os.environ), address, folder))
        took: dict[str, dict[str, list[float]]] = {
            verb: {side.program: [] for side in sides} for verb in ("push", "pull")
        }
        for number in range(RUNS + 1):
            for side in sides:
                shutil.rmtree(storage / "docker", ignore_errors=True)  # or the layers would be there already
                pushed = side.push()
                side.forget()
                pulled = side.pull()
                if number:  # the first warms up
                    took["push"][side.program].append(pushed)
                    took["pull"][side.program].append(pulled)
        return [[f"{verb} 128 MiB", *_cells(took[verb], command)] for verb in took]


def _cells(took: dict[str, list[float]], command: str) -> list[object]:
    mine = took[command]
    cells: list[object] = [statistics.median(mine) * 1000, min(mine) * 1000]
    for other in ("docker", "skopeo"):
        if other in took:
            cells += [statistics.median(took[other]) * 1000, statistics.median(mine) / statistics.median(took[other])]
        else:
            cells += ["-", "-"]
    return cells


def make_tree(folder: Path) -> Path:
    """128 MiB that nobody can pack, so that all send the same number of bytes."""
    tree = folder / "large"
    if not tree.exists():
        tree.mkdir()
        for number in range(FILES):
            (tree / f"file{number}").write_bytes(os.urandom(SIZE // FILES))
    return tree


class _Side:
    """A client with the image in a store of its own."""

    def __init__(self, program: str, environment: dict[str, str], address: str, folder: Path) -> None:
        self.program = program
        self.environment = environment
        self.folder = folder
        self.name = f"{address}/large:{Path(program).name}"
        self.prepare()

    def run(self, *words: str) -> float:
        """Seconds that a command takes, which must succeed."""
        began = time.perf_counter()
        done = subprocess.run(
            [self.program, *words], env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        took = time.perf_counter() - began
        if done.returncode:
            raise RuntimeError(f"{self.program} {' '.join(words)}: {done.stderr.decode()}")
        return took

    def prepare(self) -> None:
        """Make the image."""
        tree = make_tree(self.folder)
        dockerfile = self.folder / "large.dockerfile"
        dockerfile.write_text("FROM scratch\nCOPY . /\n")
        self.run("build", "-q", "-f", str(dockerfile), "-t", self.name, str(tree))

    def push(self) -> float:
        return self.run("push", self.name)

    def forget(self) -> None:
        self.run("rmi", self.name)

    def pull(self) -> float:
        return self.run("pull", self.name)


class _Specrun(_Side):
    pass


class _Docker(_Side):
    def prepare(self) -> None:
        archive = self.folder / "large.tar"
        subprocess.run(["tar", "-C", str(make_tree(self.folder)), "-cf", str(archive), "."], check=True)
        self.run("import", str(archive), self.name)


class _Skopeo(_Side):
    """From and to an OCI layout: it sends what is packed already, as specrun does, and unpacks nothing, unlike it."""

    def prepare(self) -> None:
        archive = self.folder / "large.tar"
        subprocess.run(["tar", "-C", str(make_tree(self.folder)), "-cf", str(archive), "."], check=True)
        subprocess.run(["gzip", "-1", "-k", "-f", str(archive)], check=True)
        self.layout = f"oci:{self.folder}/layout"
        self.run("copy", f"tarball:{archive}.gz", f"{self.layout}:x")

    def push(self) -> float:
        return self.run("copy", "--dest-tls-verify=false", f"{self.layout}:x", f"docker://{self.name}")

    def forget(self) -> None:
        shutil.rmtree(self.folder / "pulled", ignore_errors=True)

    def pull(self) -> float:
        return self.run("copy", "--src-tls-verify=false", f"docker://{self.name}", f"oci:{self.folder}/pulled:x")
