"""Volumes: what survives a container, what goes with it, and what two commands at once make of them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from tests.support.host import COMMAND, Host
from tests.support.images import spoiled

NONE = ("--network", "none")


def test_copy_up_keeps_owners_modes_and_links(host: Host) -> None:
    def fill(folder: Path) -> None:
        (folder / "d" / "sub").mkdir(parents=True)
        (folder / "d" / "f").write_text("1\n")
        os.chown(folder / "d" / "f", 5, 6)
        (folder / "d" / "f").chmod(0o4711)
        (folder / "d" / "l").symlink_to("f")
        os.chown(folder / "d", 7, 0)
        (folder / "d").chmod(0o750)

    spoiled(host, "filled", fill=fill)
    look = "stat -c '%n %a %u %g' /x /x/f /x/sub; readlink /x/l; cat /x/f"
    wanted = "/x 750 0 0\n/x/f 4711 0 0\n/x/sub 755 0 0\nf\n1\n"  # the layer is packed as root's
    host.ok("create", *NONE, "-v", "vol:/d", "filled")
    assert host.ok("run", "--rm", *NONE, "-v", "vol:/x", "busybox", "sh", "-c", look) == wanted
    host.ok("volume", "create", "there")
    assert host.ok("run", "--rm", *NONE, "-v", "there:/d", "filled", "sh", "-c", look.replace("/x", "/d")) == (
        wanted.replace("/x", "/d")
    )


def test_a_volume_has_no_devices(host: Host) -> None:
    script = "mknod /x/n c 1 3 && cat /x/n; grep ' /x ' /proc/mounts"
    done = host.run("run", "--rm", *NONE, "-v", "vol:/x", "busybox", "sh", "-c", script)
    assert b"Permission denied" in done.stderr
    assert b"nodev" in done.stdout


def test_anonymous_volumes_go_with_a_container_that_removes_itself(host: Host) -> None:
    host.ok("run", "--rm", *NONE, "-v", "/x", "busybox", "touch", "/x/f")
    assert host.ok("volume", "ls", "-q") == ""
    host.ok("run", "-d", "--rm", "--name", "keeper", *NONE, "-v", "/x", "-v", "named:/y", "busybox", "sleep", "60")
    host.ok("create", "--name", "other", *NONE, "--volumes-from", "keeper", "busybox", "true")
    host.ok("rm", "-f", "-v", "keeper")
    kept = host.ok("volume", "ls", "-q").split()
    assert len(kept) == 2 and "named" in kept, "another container still uses the anonymous one"
    host.ok("rm", "-v", "other")
    assert host.ok("volume", "ls", "-q").split() == ["named"]


def test_a_failed_run_leaves_no_volume_but_the_named_one(host: Host) -> None:
    done = host.run("run", *NONE, "-v", "/x", "--mount", "type=bind,source=/nowhere,target=/y", "busybox", "true")
    assert done.returncode == 125
    assert host.run("run", "--rm", *NONE, "-v", "/x", "busybox", "/nosuch").returncode == 127
    assert host.ok("volume", "ls", "-q") == ""
    assert host.leftovers() == []


def test_many_at_once_make_and_remove_the_same_volume(host: Host) -> None:
    users = [
        subprocess.Popen(
            [COMMAND, "run", "--rm", *NONE, "-v", "same:/etc", "busybox", "cat", "/etc/passwd"],
            env=host.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(6)
    ]
    removers = [host.spawn("volume", "rm", "-f", "same") for _ in range(6)]
    for user in users:
        output, errors = user.communicate(timeout=60)
        assert user.returncode == 0, errors
        assert output.startswith(b"root:")
    for remover in removers:
        assert remover.wait(60) in (0, 1)
    assert host.ok("volume", "rm", "-f", "same") == "same\n"
    assert host.ok("volume", "ls", "-q") == ""


def test_events_tell_of_volumes(host: Host) -> None:
    host.ok("volume", "create", "vol")
    host.ok("volume", "rm", "vol")
    told = host.ok("events", "--since", "1h", "--until", "0s", "--format", "json", "-f", "type=volume").splitlines()
    assert [(event["Action"], event["Actor"]["ID"]) for event in map(json.loads, told)] == [
        ("create", "vol"),
        ("destroy", "vol"),
    ]


def test_what_a_container_mounts_in_a_shared_bind_reaches_the_host(host: Host, tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "shared", str(tmp_path)], check=True)
    try:
        subprocess.run(["mount", "--make-shared", str(tmp_path)], check=True)
        (tmp_path / "inner").mkdir()
        words = ("--cap-add", "SYS_ADMIN", "busybox", "mount", "-t", "tmpfs", "x", "/m/inner")
        for propagation, reaches in (("rslave", False), ("rshared", True)):
            host.ok("run", "--rm", "--network", "none", "-v", f"{tmp_path}:/m:{propagation}", *words)
            assert (tmp_path / "inner").is_mount() == reaches
    finally:
        subprocess.run(["umount", "-R", str(tmp_path)], check=True)
