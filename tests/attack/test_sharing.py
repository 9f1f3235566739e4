"""A container that shares its IPC namespace, with something else in the place of the memory that goes with it."""

from __future__ import annotations

import pytest

from tests.support.host import Host

LOOSE = ("--network", "none", "--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined")


@pytest.mark.parametrize("target", ["/", "/proc/1/root", "/etc"])
def test_what_is_joined_is_never_reached_by_a_link(host: Host, target: str) -> None:
    script = f"umount /dev/shm && rmdir /dev/shm && ln -s {target} /dev/shm && echo ready && sleep 300"
    host.ok("run", "-d", "--name", "one", *LOOSE, "--ipc", "shareable", "busybox", "sh", "-c", script)
    while "ready" not in host.ok("logs", "one"):
        continue
    done = host.run("run", "--rm", "--network", "none", "--ipc", "container:one", "busybox", "ls", "/dev/shm")
    assert done.returncode == 125 and done.stdout == b""
