"""Nothing stays: many runs, and runs that are killed."""

from __future__ import annotations

import random
import time

from tests.support import leaks
from tests.support.host import Host, kill


def test_two_hundred_runs_leave_nothing(host: Host) -> None:
    for _ in range(200):
        assert host.run("run", "--rm", "busybox", "true").returncode == 0
    host.ok("network", "prune", "-f")
    assert leaks.left(leaks.marks_of(host.root)) == {}
    assert host.leftovers() == []


def test_a_killed_command_leaves_nothing_that_the_next_does_not_clear(host: Host) -> None:
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)
    for _ in range(60):
        process = host.spawn("run", "--rm", "busybox", "true")
        time.sleep(chance.uniform(0.0, 0.13))
        kill(process)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        host.ok("ps", "-a")
        if not host.leftovers():
            break
        time.sleep(0.1)  # a container that had started already ends by itself
    assert host.leftovers() == [], f"seed {seed}"
    host.ok("network", "prune", "-f")
    assert leaks.left(leaks.marks_of(host.root)) == {}, f"seed {seed}"
