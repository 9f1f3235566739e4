"""Mounts of a user's choice in a root file system of a stranger's: nothing may land outside, or over /proc and /sys."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.host import Host
from tests.support.images import spoiled

NONE = ("--network", "none")


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    folder = tmp_path / "canary"
    folder.mkdir()
    (folder / "secret").write_text("canary")
    return folder


def state(folder: Path) -> list[tuple[str, int, str]]:
    found = []
    for path in sorted([folder, *folder.rglob("*")]):
        info = path.lstat()
        found.append((str(path), info.st_mode, path.read_text() if path.is_file() else ""))
    return found


def test_nothing_is_mounted_over_proc_and_sys(host: Host, canary: Path) -> None:
    for target in ("/proc", "/sys", "/proc/self/attr", "/proc/sys", "/sys/fs/cgroup", "/x/../proc/1"):
        for option in (
            ("-v", f"{canary}:{target}"),
            ("--mount", f"type=volume,source=vol,target={target}"),
            ("--tmpfs", target),
        ):
            done = host.run("run", "--rm", *NONE, *option, "busybox", "true")
            assert done.returncode == 125
            assert b"nothing may be mounted" in done.stderr
    assert host.leftovers() == [] and host.ok("volume", "ls", "-q") == ""


def test_an_image_s_link_does_not_lead_a_mount_out_or_into_proc(host: Host, canary: Path) -> None:
    links = {"out": str(canary), "deep": "../../../../../.." + str(canary), "kernel": "/proc/self", "inside": "/etc"}
    spoiled(host, "links", links)
    before = state(canary)
    for name in ("out", "deep"):
        done = host.run("run", "--rm", *NONE, "-v", f"vol:/{name}/sub", "links", "sh", "-c", f"echo 1 > /{name}/sub/f")
        assert done.returncode == 125 and b"Not a directory" in done.stderr, "inside, the link leads to nothing"
        assert state(canary) == before
    host.ok("run", "--rm", *NONE, "-v", "vol:/inside/sub", "links", "sh", "-c", "echo 1 > /etc/sub/f")
    done = host.run("run", "--rm", *NONE, "-v", "vol:/kernel/attr", "links", "true")
    assert done.returncode == 125 and b"/proc" in done.stderr


def test_seeding_reads_nothing_of_the_host(host: Host, canary: Path) -> None:
    spoiled(host, "links", {"data": str(canary), "up": f"../../../..{canary}"})
    for name in ("data", "up"):
        done = host.run("run", "--rm", *NONE, "-v", f"vol:/{name}", "links", "true")
        assert done.returncode == 125 and b"Not a directory" in done.stderr
        assert host.ok("run", "--rm", *NONE, "-v", "vol:/x", "busybox", "ls", "/x") == ""


def test_an_image_s_volume_that_leads_astray_is_refused(host: Host, canary: Path) -> None:
    before = state(canary)
    for path in ("", "/", "..", "/../..", "/proc/x"):
        spoiled(host, "bad", Volumes={path: {}})
        done = host.run("run", "--rm", *NONE, "bad", "true")
        assert done.returncode == 125 and b"volume" in done.stderr
    assert state(canary) == before and host.leftovers() == [] and host.ok("volume", "ls", "-q") == ""


def test_a_target_that_is_swapped_while_containers_start(host: Host, canary: Path) -> None:
    """CVE-2021-30465: one container turns a folder of a shared volume into a link and back, others mount below it."""
    swap = f"mkdir -p /v/a/b /v/k; while :; do mv /v/a /v/k/a; ln -s {canary} /v/a; rm /v/a; mv /v/k/a /v/a; done"
    host.ok("run", "-d", "--name", "swapper", *NONE, "-v", "shared:/v", "busybox", "sh", "-c", swap)
    before = state(canary)
    mounts = Path("/proc/self/mountinfo").read_text()
    for _ in range(15):
        host.run("run", "--rm", *NONE, "-v", "shared:/v", "-v", "other:/v/a/b", "busybox", "touch", "/v/a/b/f")
    assert state(canary) == before
    assert Path("/proc/self/mountinfo").read_text() == mounts
    host.ok("rm", "-f", "swapper")


def test_names_that_are_no_names(host: Host) -> None:
    for name in ("../x", "a/b", ".", "..", "-x", "a\nb", "x" * 129, "é"):
        done = host.run("volume", "create", f"--name={name}")
        assert done.returncode == 1 and not done.stdout, name
        assert (
            host.run("run", "--rm", *NONE, "--mount", f"source={name},target=/x", "busybox", "true").returncode == 125
        )
    assert host.ok("volume", "ls", "-q") == "" and host.leftovers() == []


def test_the_rights_of_a_volume_s_folder_keep_others_out(host: Host) -> None:
    host.ok("volume", "create", "vol")
    done = subprocess.run(
        ["ls", str(host.root / "volumes" / "vol" / "_data")],
        user=65534,
        group=65534,
        extra_groups=[],
        capture_output=True,
    )
    assert done.returncode != 0
