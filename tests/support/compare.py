"""`./dev compare`: the workshop's features on a private, real Docker, and the tests that compare with one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support.private_docker import private_docker


def main() -> int:
    """Run them; gives the exit status."""
    with private_docker() as environment:
        print("compare: the features on Docker", flush=True)
        pytest = [sys.executable, "-m", "pytest", "-q"]
        features = subprocess.run(
            [*pytest, "features", "--engine", "docker", *sys.argv[1:]], env=environment, check=False
        )
        print("compare: what Docker does, and what we do", flush=True)
        oracle = subprocess.run([*pytest, "-m", "oracle", *sys.argv[1:]], env=environment, check=False)
    return features.returncode or oracle.returncode


if __name__ == "__main__":
    sys.exit(main())
