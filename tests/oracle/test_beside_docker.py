"""specrun and a real Docker with its own rules on one machine: neither changes what is the other's."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.integration.test_network import SERVER, get, own_address, published
from tests.support.host import Host
from tests.support.private_docker import private_docker

pytestmark = pytest.mark.oracle


def ruleset() -> str:
    """All rules, without counters."""
    return subprocess.run(["nft", "-s", "list", "ruleset"], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def docker() -> Iterator[dict[str, str]]:
    with private_docker(rules=True) as environment:
        subprocess.run(["iptables", "-P", "FORWARD", "DROP"], check=True)
        try:
            yield environment
        finally:
            subprocess.run(["iptables", "-P", "FORWARD", "ACCEPT"], check=True)


def test_side_by_side(host: Host, docker: dict[str, str]) -> None:
    def run(*words: str) -> str:
        return subprocess.run(["docker", *words], env=docker, capture_output=True, text=True, check=True).stdout

    layer = next(path for path in host.root.glob("layers/*/fs"))
    load = f"tar -C {layer} -c . | docker import -c 'CMD [\"sh\"]' - busybox:latest"
    subprocess.run(["sh", "-c", load], env=docker, check=True, capture_output=True)
    before = ruleset()
    run("run", "-d", "--name", "theirs", "-p", "80", "busybox", "sh", "-c", SERVER)
    with_docker = ruleset()
    host.ok("run", "-d", "--name", "ours", "-p", "80", "busybox", "sh", "-c", SERVER)
    ours = published(host, "ours")
    theirs = int(run("port", "theirs", "80").splitlines()[0].rpartition(":")[2])
    assert get(own_address(), ours) == "hello"
    assert get(own_address(), theirs) == "hello"
    # From a container of either to what the other publishes: through the chain FORWARD, whose policy is drop.
    request = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 3"
    host.ok("network", "create", "apart")
    via = host.ok("run", "--rm", "--net", "apart", "busybox", "sh", "-c", f"{request} {own_address()} {ours}")
    assert via.endswith("hello\n")
    taken = host.run("run", "-p", f"{theirs}:80", "busybox", "true")
    assert b"port is already allocated by docker-proxy" in taken.stderr
    addresses = {
        run("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "theirs").strip().rsplit(".", 2)[0],
        host.ok("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "ours").strip().rsplit(".", 2)[0],
    }
    assert len(addresses) == 2
    for container in host.containers():
        host.ok("rm", "-f", container)
    host.ok("network", "prune", "-f")
    assert ruleset() == with_docker
    assert get(own_address(), theirs) == "hello"
    run("rm", "-f", "theirs")
    assert ruleset() == before
