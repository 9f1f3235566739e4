"""`specrun workshop`: the sections as a learner goes through them."""

from __future__ import annotations

from pathlib import Path

from specrun.bdd.bases import Bases
from tests.support.host import Host
from tests.support.mutants import copy_of, replace_once, run_features


def test_a_section_is_shown_checked_and_begun_anew(host: Host) -> None:
    listing = host.ok("workshop")
    assert " 15  Starting and stopping containers" in listing and "  1  Hello, world" in listing
    assert " 1 command,  6 scenarios\n" in listing
    assert "docker stop simple1" in host.ok("workshop", "show", "15")
    assert "Nothing that section 11 gives a name to" in host.ok("workshop", "reset", "11")
    before = host.run("workshop", "check", "15")
    assert before.returncode == 1
    assert b"  NO  Then the container" in before.stdout and b"$ docker stop simple1" in before.stdout
    host.ok("run", "-d", "--name", "simple1", "--network", "none", "busybox", "sleep", "300")
    assert "done" in host.ok("workshop", "check", "15")
    assert "removed the container simple1" in host.ok("workshop", "reset", "11")
    assert host.containers() == []
    assert "nothing behind" in host.ok("workshop", "check", "14")


def test_a_section_of_builds_is_checked(host: Host) -> None:
    assert b"there is no image hello:v5" in host.run("workshop", "check", "22").stdout
    host.ok("tag", "busybox", "hello:v5")
    assert "done" in host.ok("workshop", "check", "22")
    assert "removed the image hello:v5" in host.ok("workshop", "reset", "22")
    assert host.run("workshop", "check", "22").returncode == 1


def test_a_section_that_there_is_not(host: Host) -> None:
    done = host.run("workshop", "check", "99")
    assert done.returncode == 1 and b"there is no section 99" in done.stderr
    assert host.run("workshop", "chek", "1").returncode == 125
    assert b"show needs the number of a section" in host.run("workshop", "show").stderr


def test_a_command_that_the_text_has_otherwise_fails_its_scenario_alone(tmp_path: Path, bases: Bases) -> None:
    code = copy_of(tmp_path / "code")
    text = code / "specrun" / "workshop" / "workshop.md"
    replace_once(text, "$ docker run --rm -e HELLO=world busybox env", "$ docker run --rm -e HELLO=you busybox env")
    status, scenarios, said = run_features(code, tmp_path, bases, ["03", "04"])
    assert status == 1, said
    verdicts = {one["scenario"]: one["status"] for one in scenarios}
    assert len(verdicts) > 6
    assert [name for name, verdict in verdicts.items() if verdict != "passed"] == ["A variable more"]
    assert "$ docker run --rm -e HELLO=you busybox env" in said  # what the section says now
