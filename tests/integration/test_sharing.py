"""What containers share with each other and with the host: control groups above theirs, IPC, and the users."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.host import Host

QUIET = ("--network", "none")


def _groups(name: str) -> list[Path]:
    return [path for path in Path("/sys/fs/cgroup").glob(f"*/{name}") if path.is_dir()] + [
        path for path in [Path("/sys/fs/cgroup", name)] if path.is_dir()
    ]


@pytest.fixture
def parent() -> Iterator[str]:
    """The name of a control group that nobody else has."""
    name = f"sr-test-{os.urandom(4).hex()}"
    yield name
    assert _groups(name) == []


@pytest.mark.parametrize("slash", ["/", ""])
def test_a_parent_goes_with_the_last_container_below_it(host: Host, parent: str, slash: str) -> None:
    options = (*QUIET, "--cgroup-parent", f"{slash}{parent}/deep")
    host.ok("run", "-d", "--name", "one", *options, "-m", "64m", "busybox", "sleep", "300")
    host.ok("run", "-d", "--name", "two", *options, "busybox", "sleep", "300")
    assert host.ok("inspect", "-f", "{{.HostConfig.CgroupParent}}", "one") == f"{slash}{parent}/deep\n"
    pid = host.ok("inspect", "-f", "{{.State.Pid}}", "one").strip()
    assert f"/{parent}/deep/" in Path(f"/proc/{pid}/cgroup").read_text()
    assert "64MiB" in host.ok("stats", "--no-stream", "one")
    host.ok("update", "-m", "80m", "--memory-swap", "80m", "one")
    assert "80MiB" in host.ok("stats", "--no-stream", "one")
    host.ok("pause", "one")
    assert "(Paused)" in host.ok("ps")
    host.ok("unpause", "one")
    host.ok("exec", "one", "true")
    host.ok("rm", "-f", "one")
    assert _groups(parent) != []
    host.ok("stop", "-t", "0", "two")
    assert _groups(parent) == []
    host.ok("start", "two")
    assert _groups(parent) != []
    host.ok("rm", "-f", "two")


def test_a_parent_of_somebody_else_s_stays(host: Host, parent: str) -> None:
    hierarchy = next(path for path in Path("/sys/fs/cgroup").glob("memory*") if path.is_dir())
    Path(hierarchy, parent).mkdir()
    try:
        host.ok("run", "--rm", *QUIET, "--cgroup-parent", parent, "busybox", "true")
        assert _groups(parent) == [Path(hierarchy, parent)]
    finally:
        Path(hierarchy, parent).rmdir()


def test_what_a_killed_monitor_leaves_below_a_parent_is_cleared(host: Host, parent: str) -> None:
    host.ok("run", "-d", "--name", "one", *QUIET, "--cgroup-parent", parent, "busybox", "sleep", "300")
    pid = host.ok("inspect", "-f", "{{.State.Pid}}", "one").strip()
    os.kill(int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]), 9)
    assert "Exited (137)" in host.ok("ps", "-a")
    assert _groups(parent) == []
    host.ok("rm", "one")


def test_a_parent_is_a_path_below_the_root(host: Host) -> None:
    done = host.run("run", *QUIET, "--cgroup-parent", "a/../..", "busybox", "true")
    assert done.returncode == 125 and b"--cgroup-parent" in done.stderr


def test_a_shareable_ipc_namespace_is_joined_with_its_memory(host: Host) -> None:
    host.ok("run", "-d", "--name", "one", *QUIET, "--ipc", "shareable", "busybox", "sleep", "300")
    host.ok("exec", "one", "sh", "-c", "echo shared > /dev/shm/file")
    script = "cat /dev/shm/file; readlink /proc/self/ns/ipc; echo back > /dev/shm/other"
    out = host.ok("run", "--rm", *QUIET, "--ipc", "container:one", "busybox", "sh", "-c", script).splitlines()
    assert out == ["shared", host.ok("exec", "one", "readlink", "/proc/self/ns/ipc").strip()]
    assert host.ok("exec", "one", "cat", "/dev/shm/other") == "back\n"
    host.ok("stop", "-t", "0", "one")
    assert host.run("run", "--rm", *QUIET, "--ipc", "container:one", "busybox", "true").returncode == 125


@pytest.mark.parametrize("mode", ["", "private", "none"])
def test_another_one_is_not_to_be_shared(host: Host, mode: str) -> None:
    host.ok("run", "-d", "--name", "one", *QUIET, *(["--ipc", mode] if mode else []), "busybox", "sleep", "300")
    done = host.run("run", "--rm", *QUIET, "--ipc", "container:one", "busybox", "true")
    assert done.returncode == 125 and b"non-shareable IPC" in done.stderr


def _has_user_namespaces() -> bool:
    return subprocess.run(["unshare", "--user", "true"], capture_output=True, check=False).returncode == 0


users = pytest.mark.skipif(
    not _has_user_namespaces() or tuple(map(int, os.uname().release.split(".")[:2])) < (6, 13),
    reason="needs user namespaces, and layers by descriptor (Linux 6.13)",
)


@users
def test_the_root_of_a_user_namespace_is_nobody_on_the_host(host: Host, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("for root alone")
    secret.chmod(0o600)
    tmp_path.chmod(0o755)
    options = ("--userns", "private", "-v", f"{tmp_path}:/host", "-v", "data:/data")
    host.ok("run", "-d", "--name", "one", *options, "busybox", "sleep", "300")
    pid = host.ok("inspect", "-f", "{{.State.Pid}}", "one").strip()
    assert os.stat(f"/proc/{pid}").st_uid >= 2_000_000_000
    assert host.ok("exec", "one", "id", "-u") == "0\n"
    assert b"Permission denied" in host.run("exec", "one", "cat", "/host/secret").stderr
    assert host.run("exec", "one", "touch", "/host/made").returncode != 0
    script = (
        "touch /data/file /made; chown 7:8 /made; stat -c %u:%g /etc /made /data/file /etc/hosts; ls /sys/class/net"
    )
    assert host.ok("exec", "one", "sh", "-c", script).split() == ["0:0", "7:8", "0:0", "0:0", "eth0", "lo"]
    assert os.stat(next(host.root.glob("containers/*/upper/made"))).st_uid == 7
    assert os.stat(host.root / "volumes/data/_data/file").st_uid == 0
    assert "A /made" in host.ok("diff", "one")
    assert host.run("cp", "one:/made", str(tmp_path)).returncode == 1
    host.ok("commit", "one", "kept")
    assert host.ok("run", "--rm", *QUIET, "kept", "stat", "-c", "%u:%g", "/made") == "7:8\n"
    host.ok("restart", "-t", "0", "one")
    assert host.ok("exec", "one", "stat", "-c", "%u", "/made") == "7\n"
    host.ok("rm", "-f", "one")


@users
def test_two_of_them_have_other_numbers(host: Host) -> None:
    maps = {host.ok("run", "--rm", *QUIET, "--userns", "private", "busybox", "cat", "/proc/self/uid_map") for _ in "ab"}
    assert len(maps) == 2


@pytest.mark.parametrize(
    "option", [("--privileged",), ("--pid", "host"), ("--network", "host"), ("--ipc", "host"), ("--uts", "host")]
)
def test_a_user_namespace_shares_nothing_of_the_host_s(host: Host, option: tuple[str, ...]) -> None:
    done = host.run("run", "--rm", "--userns", "private", *option, "busybox", "true")
    assert done.returncode == 125 and b"user namespaces" in done.stderr
