"""kill -9 of verbs that look at a container, wait for it, sit at it or hold it: it goes on as if they had not been."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator

import pytest

from tests.support.host import Host, kill

SCRIPT = "while read line; do echo got $line; done"


def killed(host: Host, call: str, number: int, *words: str, input: bytes = b"") -> bool:
    """Run a command that gets SIGKILL at its `number`th system call `call`; whether it came to that."""
    inject = f"inject={call}:signal=KILL:when={number}"
    host.prefix = ["strace", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject]
    try:
        return host.run(*words, input=input).returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)
    finally:
        host.prefix = []


def status(host: Host) -> str:
    return host.ok("ps", "-a", "--format", "{{.State}}").strip()


@pytest.fixture
def one(host: Host) -> Iterator[str]:
    """A container that reads lines, says what it has read, and does so to the end."""
    host.ok("run", "-di", "--network", "none", "--name", "one", "busybox", "sh", "-c", SCRIPT)
    yield "one"
    assert status(host) == "running"
    with host.spawn("attach", "one", stdin=-1) as visitor:
        assert visitor.stdin is not None
        visitor.stdin.write(b"last\n")
        visitor.stdin.flush()
        for _ in range(200):
            if "got last" in host.ok("logs", "one"):
                break
        visitor.kill()
    assert host.ok("logs", "one").splitlines()[-1] == "got last"
    host.ok("stop", "-t", "0", "one")
    assert host.ok("wait", "one") == "137\n"
    host.ok("rm", "one")
    assert host.leftovers() == []


@pytest.mark.parametrize(("verb", "back"), [("pause", "unpause"), ("unpause", "pause")])
def test_pause_and_unpause_at_each_step(host: Host, one: str, verb: str, back: str) -> None:
    before, after = ("running", "paused") if verb == "pause" else ("paused", "running")
    points = 0
    for call in ("write", "flock"):
        for number in range(1, 9):
            if status(host) != before:
                host.ok(back, one)
            if not killed(host, call, number, verb, one):
                break
            points += 1
            assert status(host) in (before, after)
            assert (host.run("exec", one, "true").returncode == 0) == (status(host) == "running")
    assert points >= 4
    if status(host) == "paused":
        host.ok("unpause", one)


def test_top_and_stats_before_they_answer(host: Host, one: str) -> None:
    for words in (["top"], ["stats", "--no-stream"]):
        assert killed(host, "write", 1, *words, one)
    assert "sh -c" in host.ok("top", one)


def test_attach_at_each_step(host: Host, one: str) -> None:
    lines = b"a line\n" * 5000
    for call, number in (("connect", 1), ("sendmsg", 1), ("recvmsg", 1), ("poll", 1), ("poll", 3), ("poll", 5)):
        assert killed(host, call, number, "attach", one, input=lines)


@pytest.mark.parametrize("words", [("wait",), ("attach",), ("stats",)])
def test_a_kill_while_they_wait(host: Host, one: str, words: tuple[str, ...]) -> None:
    chance = random.Random(len(words[0]))
    for _ in range(3):
        process = host.spawn(*words, one, stdin=-1)
        time.sleep(chance.uniform(0.05, 0.4))
        kill(process)
        assert process.stdin is not None
        process.stdin.close()
        assert status(host) == "running"
