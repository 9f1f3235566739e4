"""`kill -9` while networks are made, joined and used; and many containers at a time on one network."""

from __future__ import annotations

import json
import random
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support import leaks
from tests.support.host import Host, kill
from tests.support.namespace import IPV4, Namespace


def leases(host: Host) -> list[str]:
    """All addresses that are given out."""
    return sorted(path.name for path in host.root.glob("networks/*/leases/*"))


def elements(host: Host) -> str:
    """What the sets of our tables hold of containers."""
    table = f"specrun_{(host.root / 'id').read_text()}"
    text = ""
    for family, name in (("bridge", "macs"), ("bridge", "owners4"), ("inet", "any4"), ("inet", "one4")):
        kind = "map" if family == "inet" else "set"
        words = [*host.prefix, "nft", "list", kind, family, table, name]
        text += subprocess.run(words, capture_output=True, text=True, check=True).stdout
    return "".join(line for line in text.splitlines() if "elements" in line)


def test_a_killed_monitor_s_port_and_address_are_free_for_the_next_command(host: Host) -> None:
    host.ok("network", "create", "net")
    host.ok("run", "-d", "--name", "one", "--net", "net", "-p", "80", "busybox", "sleep", "300")
    port = host.ok("port", "one", "80").splitlines()[0].rpartition(":")[2]
    monitor = int(json.loads((next(host.root.glob("containers/*/state.json"))).read_text())["monitor_pid"])
    subprocess.run(["kill", "-9", str(monitor)], check=True)
    host.ok("run", "--rm", "--net", "net", "-p", f"{port}:80", "busybox", "true")
    assert leases(host) == []
    assert elements(host) == ""


def test_commands_killed_at_any_moment_leave_nothing_of_networks(apart: Namespace, host: Host) -> None:
    host.prefix = apart.enter
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)
    host.ok("network", "create", "net")
    for number in range(30):
        words = (
            ["network", "create", f"n{number}"],
            ["run", "--rm", "--net", "net", "-p", "80", "busybox", "true"],
            ["network", "rm", f"n{number - 2}"],
        )[number % 3]
        process = host.spawn(*words)
        time.sleep(chance.uniform(0.02, 0.16))
        kill(process)
    deadline = time.monotonic() + 10
    while host.containers() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert host.containers() == [], f"seed {seed}"
    assert leases(host) == [], f"seed {seed}"
    assert elements(host) == "", f"seed {seed}"
    # Every network that is listed works, also those whose making was killed.
    for name in host.ok("network", "ls", "--format", "{{.Name}}", "-f", "type=custom").split():
        host.ok("run", "--rm", "--net", name, "busybox", "true")
    host.ok("network", "prune", "-f")
    assert leaks.left(leaks.marks_of(host.root)) == {}, f"seed {seed}"
    assert apart.links() == ["lo"], f"seed {seed}"
    assert apart.sh("nft list ruleset") == "", f"seed {seed}"
    assert apart.get(IPV4) == "0", f"seed {seed}"


def test_two_hundred_containers_twenty_at_a_time(host: Host) -> None:
    host.ok("network", "create", "net")
    before = subprocess.run(["nft", "list", "ruleset"], capture_output=True, check=True).stdout.count(b"\n")

    def one(number: int) -> str:
        script = (
            "ip -4 address show eth0 | grep -o 'inet [0-9.]*'; sleep 0.3;"
            "ping -c 1 -W 2 -q $(ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p') >/dev/null || echo lost"
        )
        done = host.run("run", "--rm", "--net", "net", "busybox", "sh", "-c", script, timeout=120)
        assert done.returncode == 0, done.stderr
        at = time.monotonic()
        lines = done.stdout.decode().splitlines()
        assert len(lines) == 1, lines
        return f"{lines[0].split()[1]} {at}"

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(one, range(200)))
    assert len(answers) == 200
    assert leases(host) == []
    assert elements(host) == ""
    deadline = time.monotonic() + 10
    identity = (host.root / "id").read_text()
    while time.monotonic() < deadline:
        links = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True).stdout
        if f"v{identity}" not in links:
            break
        time.sleep(0.1)
    assert f"v{identity}" not in links
    assert before > 0


def test_no_address_is_given_out_twice(host: Host) -> None:
    host.ok("network", "create", "net")

    def one(number: int) -> str:
        host.ok("run", "-d", "--name", f"c{number}", "--net", "net", "busybox", "sleep", "300")
        return host.ok("inspect", "-f", "{{.NetworkSettings.Networks.net.IPAddress}}", f"c{number}").strip()

    with ThreadPoolExecutor(20) as pool:
        addresses = list(pool.map(one, range(40)))
    assert len(set(addresses)) == 40
    assert sorted(addresses) == leases(host)


@pytest.mark.parametrize("verb", ["connect", "disconnect"])
def test_a_change_of_networks_that_is_killed_at_any_message_leaves_no_rules(host: Host, verb: str) -> None:
    """The port leads to another address afterwards, so that what undoes one state does not undo the other."""
    for name, options in (("inner", ["--internal"]), ("one", []), ("two", [])):
        host.ok("network", "create", *options, name)
    change = ["network", verb, "two" if verb == "connect" else "one", "web"]
    first = "inner" if verb == "connect" else "one"
    for number in range(4, 60):  # the first ones only ask whether the rules are ours
        host.ok("run", "-d", "--name", "web", "--net", first, "-p", "80", "busybox", "sleep", "300")
        if verb == "disconnect":
            host.ok("network", "connect", "two", "web")
        host.prefix = ["strace", "-f", "-o", "/dev/null", f"--inject=sendto:signal=KILL:when={number}"]
        killed = host.run(*change).returncode != 0
        host.prefix = []
        host.ok("rm", "-f", "web")
        assert elements(host) == "", f"killed at message {number}"
        assert leases(host) == [], f"killed at message {number}"
        if not killed:
            assert number > 6
            return
    raise AssertionError("it never came to its end")
