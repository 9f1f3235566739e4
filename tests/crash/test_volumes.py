"""A command that is killed at each of its durable steps leaves volumes that are there or not, and nothing half made."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from tests.support.host import COMMAND, Host

NONE = ("--network", "none")


def killed(host: Host, call: str, number: int, *words: str) -> bool:
    """Run a command that gets SIGKILL at its `number`th system call `call`; whether it came to that."""
    inject = f"inject={call}:signal=KILL:when={number}"
    done = subprocess.run(
        ["strace", "-f", "-o", "/dev/null", "-e", inject, COMMAND, *words],
        env=host.environment, stdin=subprocess.DEVNULL, capture_output=True, check=False,
    )  # fmt: skip
    return done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)


def half_made(host: Host) -> list[str]:
    folder = host.root / "volumes"
    return [name for name in os.listdir(folder) if name.startswith(".")] if folder.is_dir() else []


@pytest.mark.parametrize("call", ["mkdir", "rename", "fsync"])
def test_volume_create_and_rm(host: Host, call: str) -> None:
    for words in (("volume", "create", "vol"), ("volume", "rm", "vol")):
        for number in range(1, 6):
            host.ok("volume", "rm", "-f", "vol") if words[1] == "create" else host.ok("volume", "create", "vol")
            if not killed(host, call, number, *words):
                break
            assert host.ok("volume", "ls", "-q").split() in ([], ["vol"])
            assert host.ok("ps", "-q") == ""
            assert half_made(host) == []
            assert os.listdir(host.root / "trash") == []
            assert host.ok("volume", "create", "vol") == "vol\n"
            assert (host.root / "volumes" / "vol" / "_data").is_dir()


@pytest.mark.parametrize("call", ["rename", "mkdir"])
def test_a_container_with_volumes(host: Host, call: str) -> None:
    for number in range(1, 12, 2):
        if not killed(host, call, number, "create", "--name", "one", *NONE, "-v", "/etc", "-v", "vol:/home", "busybox"):
            break
        present = host.ok("ps", "-aq").split()
        volumes = host.ok("volume", "ls", "-q").split()
        anonymous = [name for name in volumes if len(name) == 64]
        assert len(anonymous) == len(present), "an anonymous volume is there with its container, or not at all"
        assert half_made(host) == []
        host.run("rm", "-v", "one")
        assert host.leftovers() == []
    host.run("rm", "-v", "one")
    host.ok("create", "--name", "one", *NONE, "-v", "/etc", "-v", "vol:/home", "busybox")
