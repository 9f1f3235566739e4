"""What a user has who installs the wheel: a fresh environment, an empty folder, and no checkout."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import venv
from pathlib import Path
from xml.etree.ElementTree import parse

import pytest

from specrun.bdd.bases import Bases
from tests.support import leaks

pytestmark = pytest.mark.oracle

TOP = Path(__file__).parents[2]
DOCKERFILE = """FROM busybox
ARG WHO
ENV WHO=$WHO
CMD ["sh", "-c", "echo hello, $WHO"]
"""
SPEC = """apiVersion: specrun/v1
kind: Build
metadata: {name: greeting}
spec: {tags: [greeting:v1], args: {WHO: Bob}}
---
apiVersion: specrun/v1
kind: Job
metadata: {name: greet}
spec: {image: greeting:v1, network: none}
"""
FEATURE = """Feature: The greeting
  Background:
    Given the image "busybox"
    And the files beside this feature

  Scenario: From the Dockerfile
    Given I ran `docker build --build-arg WHO=Alice -t greeting .`
    When I run `docker run --rm greeting`
    Then its output is "hello, Alice"

  @specrun
  Scenario: From the spec
    When I run `specrun apply spec.yaml`
    Then it succeeds
    And its output contains "hello, Bob"
    When I run `specrun plan spec.yaml`
    Then its output contains "nothing to change"
"""
WAITING = """Feature: Waiting
  Scenario: For ever
    Given the image "busybox"
    And I ran `docker run -d --name one busybox sleep 300`
    When I run `touch reached; sleep 300`
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The command of an environment that has the wheel with its extra for features."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", str(folder), str(TOP)], check=True)
    (wheel,) = folder.glob("specrun-*.whl")
    venv.create(folder / "venv", with_pip=True)
    install = [str(folder / "venv/bin/python"), *pip[1:], "install", f"{wheel}[bdd]", "pytest-xdist"]
    subprocess.run(install, check=True)
    return str(folder / "venv/bin/specrun")


def run(program: str, folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command in `folder`, with nothing of this environment's Python."""
    own = str(Path(sys.executable).parent)
    path = os.pathsep.join(part for part in os.environ["PATH"].split(os.pathsep) if part != own)
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "VIRTUAL", "PYTHONPATH"))
    }
    return subprocess.run(
        [program, *words], cwd=folder, env={**kept, "PATH": path, **environment}, capture_output=True, text=True,
        stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip


def test_the_workshop_is_in_the_wheel(program: str, tmp_path: Path, bases: Bases) -> None:
    def ok(*words: str) -> str:
        done = run(program, tmp_path, *words, SPECRUN_BASES=str(bases.folder), SPECRUN_ROOT=str(tmp_path / "root"))
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "  1  Hello, world" in ok("workshop") and " 27  Publishing images" in ok("workshop")
    assert 'docker run busybox echo "hello world"' in ok("workshop", "show", "1")
    assert "leaves nothing behind" in ok("workshop", "check", "1")
    assert "specrun: 1 passed" in ok("test", "-k", "the_classic")
    assert "specrun: 1 passed" in ok("report", "reports/results.json", "--out", "again")
    assert (tmp_path / "again/report.html").read_bytes() == (tmp_path / "reports/report.html").read_bytes()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project without Python: a Dockerfile, a spec and a feature."""
    for name, text in (("Dockerfile", DOCKERFILE), ("spec.yaml", SPEC), ("greeting.feature", FEATURE)):
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_project_of_features(program: str, project: Path, bases: Bases, workers: str) -> None:
    done = run(program, project, "test", ".", "-n", workers, SPECRUN_BASES=str(bases.folder))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "specrun: 2 passed" in done.stdout
    assert [suite.get("failures") for suite in parse(project / "reports/junit.xml").getroot()] == ["0"]


def test_a_run_that_is_killed_leaves_nothing_after_the_next(
    program: str, project: Path, bases: Bases, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (project / "waiting.feature").write_text(WAITING)
    scenes = tmp_path_factory.mktemp("scenes")
    shared = {"SPECRUN_BASES": str(bases.folder), "TMPDIR": str(scenes)}
    process = subprocess.Popen(
        [program, "test", "waiting.feature", "-n", "2"],
        cwd=project,
        env={**os.environ, **shared},
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not list(scenes.glob("srf-*/work/reached")) and time.monotonic() < deadline:
            time.sleep(0.1)
        (scene,) = (path.parents[1] for path in scenes.glob("srf-*/work/reached"))
        marks = leaks.marks_of(scene / "root")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert leaks.present(marks).get("processes")
    done = run(program, project, "test", "greeting.feature", "-k", "Dockerfile", **shared)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(scenes.glob("srf-*")) == []
    assert leaks.left(marks) == {}
