"""Files of container-structure-test: its own program (driver tar) gives the same verdicts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.host import Host

pytestmark = pytest.mark.oracle

GOLDEN = Path(__file__).parents[1] / "golden" / "cst"
PROGRAM = str(Path(sys.executable).with_name("container-structure-test"))


@pytest.mark.parametrize("name", ["holds", "fails"])
def test_the_verdicts_are_the_same(host: Host, tmp_path: Path, name: str) -> None:
    archive = tmp_path / "image.tar"
    host.ok("save", "-o", str(archive), "busybox")
    config = str(GOLDEN / f"{name}.yaml")
    done = subprocess.run(
        [PROGRAM, "test", "--driver", "tar", "--image", str(archive), "--config", config, "--output", "json"],
        capture_output=True,
        text=True,
    )
    theirs = {result["Name"].strip(): result["Pass"] for result in json.loads(done.stdout)["Results"]}
    found = json.loads(host.run("check", "--cst", config, "--image", "busybox", "--output", "json").stdout)
    ours = {check["name"]: check["holds"] for check in found["checks"]}
    assert len(ours) == len(theirs) > 3
    assert ours == theirs
