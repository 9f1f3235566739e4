"""The step library as its users have it: a folder with nothing but features, and the installed command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from xml.etree.ElementTree import parse

import pytest

from specrun.bdd.bases import Bases
from tests.support import leaks
from tests.support.host import COMMAND

SERVE = 'trap "exit 0" INT; httpd -p 8080 -h /etc; while :; do sleep 0.1; done'
FEATURE = f"""Feature: Mine
  Background:
    Given the image "busybox"

  Scenario: A command
    When I run `docker run --rm busybox echo hello`
    Then its output is "hello"

  Scenario: Files and folders
    Given a file "notes/one.txt" with
      \"\"\"
      a line
      \"\"\"
    When I run `cd notes`
    And I run `cat one.txt`
    Then its output is "a line"
    And the file "notes/one.txt" contains "line"

  Scenario: A server
    Given I started `docker run --rm --network host busybox sh -c '{SERVE}'` in the background
    When I run `docker ps`
    Then eventually within 10s http://127.0.0.1:8080/passwd answers with a page that contains "root:"
    When I press Ctrl-C there
    Then it ends within 10 seconds
    And nothing answers at http://127.0.0.1:8080/

  Scenario: A terminal
    When I run `read name; echo "hello, $name"; tty; exit 3` in a terminal
    And I type "world"
    Then the terminal shows "hello, world"
    And the terminal shows "/dev/pts/"
    And the command in the terminal exits with 3
"""
FAILING = """Feature: Failing
  Scenario: A claim
    Given the image "busybox"
    When I run `docker run --rm busybox sh -c 'echo seen; exit 3'`
    Then it succeeds
    And it prints nothing

  Scenario: A container that ends while it is waited for
    Given the image "busybox"
    And I ran `docker run -d --name web busybox sh -c 'echo starting; exit 4'`
    When I run `docker logs web`
    Then eventually within 60s the log of "web" contains "ready"

  Scenario: A claim that nothing can break
    When I run `echo hello`
    Then its output contains ""

  Scenario: An unknown sentence
    When I ran `true`
"""


def specrun(folder: Path, *words: str, bases: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SPECRUN_BASES": str(bases)}
    return subprocess.run(
        [COMMAND, *words], cwd=folder, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


@pytest.fixture
def base_images(bases: Bases) -> Path:
    """Those of the run, so that none is assembled twice."""
    return bases.folder


@pytest.mark.parametrize("workers", [[], ["-n", "2"]])
def test_a_folder_of_features_is_a_test_project(tmp_path: Path, base_images: Path, workers: list[str]) -> None:
    (tmp_path / "mine.feature").write_text(FEATURE)
    done = specrun(tmp_path, "test", "mine.feature", *workers, bases=base_images)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "specrun: 4 passed" in done.stdout
    assert (tmp_path / "reports/report.html").exists() and (tmp_path / "reports/report.md").exists()
    again = specrun(tmp_path, "report", "reports/results.json", "--out", "again", bases=base_images)
    assert again.returncode == 0
    for name in ("report.html", "report.md", "junit.xml", "results.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "reports" / name).read_bytes()


def test_what_fails_says_why(tmp_path: Path, base_images: Path) -> None:
    (tmp_path / "failing.feature").write_text(FAILING)
    began = time.monotonic()
    done = specrun(tmp_path, "test", "failing.feature", "--retries", "1", bases=base_images)
    assert done.returncode == 1
    assert time.monotonic() - began < 55  # the wait of 60 s was not sat through
    (first, second) = json.loads((tmp_path / "reports/results.json").read_text())["runs"]
    assert len(first["scenarios"]) == len(second["scenarios"]) == 4
    for wanted in (
        "exit status 3",
        "    seen",
        "the container web has ended (Exited (4)",
        "this claim can't fail",
        "no step says so; the nearest are:",
        "I run `{line}`",
        "   -  And it prints nothing",
    ):
        assert wanted in done.stdout, wanted
    assert "Traceback" not in done.stdout
    assert len(parse(tmp_path / "reports/junit.xml").findall(".//failure")) == 4


KILLED = """Feature: Killed
  Background:
    Given the image "busybox"

  Scenario: A step of each kind
    Given I ran `docker run -d --name one busybox sleep {mark}`
    And I ran `(setsid sleep {mark}; :) >/dev/null 2>&1 &`
    And I ran `env -i setsid --fork sleep {mark} >/dev/null 2>&1`
    And a file "spec.yaml" with
      \"\"\"
      {{apiVersion: specrun/v1, kind: Registry, metadata: {{name: r}}, spec: {{listen: "127.0.0.1:5000"}}}}
      \"\"\"
    And I ran `specrun apply spec.yaml`
    And I started `docker run --rm busybox sleep {mark}` in the background
    When I run `trap '' HUP TERM; docker run -it --rm busybox sleep {mark}` in a terminal
    And I run `touch reached; env -i sh -c 'sleep {mark}; :'; true`
"""


def running(mark: str) -> set[str]:
    """Processes with `mark` in their command line."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_text().split("\0")
        except OSError:
            continue
        if any(mark in word for word in words):
            found.add(f"{path.parent.name} {' '.join(words)}")
    return found


def test_a_killed_run_is_cleared_by_the_next(tmp_path: Path, base_images: Path) -> None:
    mark = f"86{os.getpid()}"
    (tmp_path / "slow.feature").write_text(KILLED.format(mark=mark))
    (tmp_path / "quick.feature").write_text(
        "Feature: Quick\n  Scenario: One\n    When I run `echo 1`\n    Then it succeeds\n"
    )
    scenes = tmp_path / "tmp"
    scenes.mkdir()
    environment = {**os.environ, "SPECRUN_BASES": str(base_images), "TMPDIR": str(scenes)}
    command = [COMMAND, "test", "slow.feature", "-n", "1"]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True)
    try:
        for _ in range(600):
            if list(scenes.glob("srf-*/work/reached")):
                break
            time.sleep(0.1)
        (scene,) = scenes.glob("srf-*")
        marks = leaks.marks_of(scene / "root")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert leaks.present(marks).get("processes")
    assert len(running(mark)) >= 7
    done = subprocess.run(
        [COMMAND, "test", "quick.feature"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(scenes.glob("srf-*")) == []
    assert leaks.left(marks) == {}
    assert running(mark) == set()


def test_what_outlives_its_command_ends_with_the_scenario(tmp_path: Path, base_images: Path) -> None:
    mark = f"88{os.getpid()}"
    (tmp_path / "daemon.feature").write_text(
        f"Feature: Daemon\n  Scenario: One\n    When I run `env -i setsid --fork sleep {mark} >/dev/null 2>&1`\n"
        "    Then it succeeds\n"
        f"    When I run `pgrep -f 'sleep {mark}$'`\n    Then it succeeds\n"
    )
    done = specrun(tmp_path, "test", "daemon.feature", bases=base_images)
    assert done.returncode == 0, done.stdout + done.stderr
    assert running(mark) == set()


def test_a_run_ends_with_its_command(tmp_path: Path, base_images: Path) -> None:
    mark = f"87{os.getpid()}"
    (tmp_path / "slow.feature").write_text(
        f"Feature: Slow\n  Scenario: One\n    When I run `touch reached; setsid sleep {mark}; true`\n"
    )
    scenes = tmp_path / "tmp"
    scenes.mkdir()
    environment = {**os.environ, "SPECRUN_BASES": str(base_images), "TMPDIR": str(scenes)}
    process = subprocess.Popen([COMMAND, "test", "slow.feature", "-n", "1"], cwd=tmp_path, env=environment)
    try:
        for _ in range(600):
            if list(scenes.glob("srf-*/work/reached")):
                break
            time.sleep(0.1)
        (_,) = scenes.glob("srf-*")
    finally:
        process.kill()
        process.wait()
    for _ in range(40):  # not even the worker has a reason to wait
        if not running(mark) and not list(scenes.glob("srf-*")):
            break
        time.sleep(0.1)
    assert list(scenes.glob("srf-*")) == []
    assert running(mark) == set()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["no-such"], "no-such: No such file or directory"),
        (["ok.feature", "-n", "-1"], "--workers -1: expected 0 or more"),
        (["ok.feature", "--out", "/proc/no-such"], "--out /proc/no-such: No such file or directory"),
        (["ok.feature", "--form", "pdf"], "--form pdf: expected one of html, md, junit, json"),
        (["ok.feature", "--earlier", "old.json"], "old.json: No such file or directory"),
        (["ok.feature", "--waivers", "ok.feature"], "--waivers: ok.feature:"),
    ],
)
def test_a_mistake_is_said_before_anything_runs(tmp_path: Path, words: list[str], said: str) -> None:
    (tmp_path / "ok.feature").write_text("Feature: Fine\n  Scenario: One\n    When I run `touch ran`\n")
    done = specrun(tmp_path, "test", *words, bases=tmp_path)
    assert done.returncode in (1, 125) and done.stdout == ""
    assert done.stderr.startswith(f"specrun: {said}"), done.stderr


def test_a_file_that_is_no_feature_is_said_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "none.feature").write_text("Feature: None\n")
    (tmp_path / "torn.feature").write_text("Feature: Torn\n  Scenario: One\n    When I run `true`\n    Whatever\n")
    done = specrun(tmp_path, "test", ".", bases=tmp_path)
    assert done.returncode == 1
    assert "none.feature: there is no scenario in it" in done.stdout
    assert "torn.feature:4: " in done.stdout and "Whatever" in done.stdout
    assert "Traceback" not in done.stdout and "gherkin_parser.py" not in done.stdout
