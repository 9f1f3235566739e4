"""The workshop's features on several engines, and the tests that compare with Docker: `./dev compare`, `./dev report`.

Docker is a private one that ends with this process; podman has a storage of its own (specrun.bdd.podman).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOP = Path(__file__).parents[2]
sys.path.insert(0, str(TOP))

from tests.support.private_docker import private_docker  # noqa: E402

PYTEST = [sys.executable, "-m", "pytest", "-q"]
WORKERS = {"specrun": "2", "docker": "0", "podman": "2"}
"""Engine -> how many scenarios at once. All of them are on the one Docker, one after the other."""


def features(engines: list[str], environment: dict[str, str], folder: Path, arguments: list[str]) -> int:
    """Run them on all `engines` at once, and write one report into `folder`; gives the exit status."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="srb-") as bases:
        shared = {**environment, "SPECRUN_BASES": bases}
        began = time.monotonic()
        running = {engine: _start(engine, shared, folder, arguments) for engine in engines}
        for engine, process in running.items():
            output, _ = process.communicate()
            print(f"compare: the features on {engine}, {time.monotonic() - began:.0f} s\n{output}", flush=True)
    results = [str(file) for engine in engines if (file := folder / f"{engine}.json").exists()]
    if len(results) < len(engines) or any(process.returncode not in (0, 1, 5) for process in running.values()):
        return 1
    specrun = str(Path(sys.executable).with_name("specrun"))
    words = ["report", "--waivers", "features/waivers.yaml", "--out", str(folder), *results]
    return subprocess.run([specrun, *words], cwd=TOP, check=False).returncode


def _start(engine: str, environment: dict[str, str], folder: Path, arguments: list[str]) -> subprocess.Popen[str]:
    results = folder / f"{engine}.json"
    results.unlink(missing_ok=True)
    words = ["features", "--engine", engine, "-n", WORKERS[engine], "--results", str(results), "--tb=line"]
    return subprocess.Popen(
        [*PYTEST, *words, *arguments],
        cwd=TOP,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def main() -> int:
    """With `--report FOLDER` write a report of all engines, else compare; gives the exit status."""
    with private_docker() as environment:
        if sys.argv[1:2] == ["--report"]:
            return features(["specrun", "docker", "podman"], environment, Path(sys.argv[2]), sys.argv[3:])
        status = features(["docker", "podman"], environment, TOP / "build" / "compare", sys.argv[1:])
        print("compare: what Docker does, and what we do", flush=True)
        oracle = subprocess.run([*PYTEST, "-m", "oracle", *sys.argv[1:]], cwd=TOP, env=environment, check=False)
    return status or oracle.returncode


if __name__ == "__main__":
    os.chdir(TOP)
    sys.exit(main())
