"""The workshop's features on several engines, and the tests that compare with Docker: `./dev compare`, `./dev report`.

All of it runs at once: Docker for the features and for the comparisons, each in a network of its own, and podman, which
has storage and networks of its own (specrun.bdd.podman).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

TOP = Path(__file__).parents[2]
sys.path.insert(0, str(TOP))

from specrun.bdd.network import Network  # noqa: E402
from tests.support.private_docker import private_docker  # noqa: E402

PYTEST = [sys.executable, "-m", "pytest", "-q"]
ON_DOCKER = [sys.executable, __file__, "--on-docker"]
SCRIPTS = "tests/oracle/test_scripts.py"
COMPARISONS = {
    "the same scripts on Docker and on specrun": [SCRIPTS],
    "what else Docker, podman and others do, and what we do": ["tests", "--ignore", SCRIPTS],
}
"""Name -> pytest's arguments. Each has a Docker of its own."""
WORKERS = {"specrun": "2", "docker": "0", "podman": "2"}
"""Engine -> how many scenarios at once. All of them are on one Docker, one after the other."""


class Part:
    """A process beside the others, whose output is printed when it has ended."""

    def __init__(self, name: str, words: list[str], environment: dict[str, str]) -> None:
        self.name = name
        self._began = time.monotonic()
        self._output = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        self._process = subprocess.Popen(
            words, cwd=TOP, env=environment, stdin=subprocess.DEVNULL, stdout=self._output, stderr=subprocess.STDOUT
        )

    def wait(self) -> int:
        """Print what it said; gives its exit status."""
        status = self._process.wait()
        self._output.seek(0)
        print(f"== {self.name}: {time.monotonic() - self._began:.0f} s\n{self._output.read()}", flush=True)
        self._output.close()
        return status


def run(engines: list[str], folder: Path, arguments: list[str], oracle: bool) -> int:
    """Run the features on `engines`, and the comparisons if `oracle`; gives the exit status.

    The report of the features goes into `folder`. `arguments` are pytest's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        bases = stack.enter_context(tempfile.TemporaryDirectory(prefix="srb-"))
        environment = {**os.environ, "SPECRUN_BASES": bases}
        parts = []
        for engine in engines:
            words = [*_apart(stack), *ON_DOCKER] if engine == "docker" else PYTEST
            results = _results(folder, engine)
            results.unlink(missing_ok=True)
            words = [*words, "features", "--engine", engine, "-n", WORKERS[engine], "--results", str(results)]
            parts.append(Part(f"features on {engine}", [*words, "--tb=no", "--no-summary", *arguments], environment))
        for name, chosen in COMPARISONS.items() if oracle else ():
            apart = _apart(stack) if SCRIPTS in chosen[:1] else []
            words = [*apart, *ON_DOCKER, "-m", "oracle", *chosen, *arguments]
            parts.append(Part(name, words, environment))
        statuses = {part.name: part.wait() for part in parts}
    judged = _report(engines, folder) if all(_results(folder, engine).exists() for engine in engines) else 1
    # What failed among the features is the report's to judge: some of it is waived.
    fine = {True: (0, 1), False: (0, 5)}  # 5: none of them was chosen
    rest = [status for name, status in statuses.items() if status not in fine[name.startswith("features")]]
    return max([judged, *rest])


def _apart(stack: ExitStack) -> list[str]:
    """What to put before a command that is to have a network of its own, with a way out."""
    network = Network()
    stack.callback(network.close)
    network.connect()
    return network.prefix


def _results(folder: Path, engine: str) -> Path:
    return folder / f"{engine}.json"


def _report(engines: list[str], folder: Path) -> int:
    specrun = str(Path(sys.executable).with_name("specrun"))
    results = [str(_results(folder, engine)) for engine in engines]
    words = [specrun, "report", "--waivers", "features/waivers.yaml", "--out", str(folder), *results]
    return subprocess.run(words, cwd=TOP, check=False).returncode


def on_docker(arguments: list[str]) -> int:
    """Run pytest beside a Docker of its own; gives the exit status."""
    with private_docker() as environment:
        return subprocess.run([*PYTEST, *arguments], env=environment, check=False).returncode


def main(arguments: list[str]) -> int:
    """Gives the exit status."""
    match arguments:
        case ["--on-docker", *rest]:
            return on_docker(rest)
        case ["--report", folder, *rest]:
            return run(["specrun", "docker", "podman"], Path(folder), rest, oracle=False)
    return run(["docker", "podman"], TOP / "build" / "compare", arguments, oracle=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
