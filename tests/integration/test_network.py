"""Networks on the real kernel: addresses, published ports, names, isolation, and what others do to our rules."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from pyroute2 import IPRoute

from specrun.network import observation
from specrun.network.joining import link_local
from tests.support.host import Host
from tests.support.ports import free_port

SERVER = "echo hello > /tmp/index.html; exec httpd -f -p 80 -h /tmp"


def get(address: str, port: int, timeout: float = 3.0) -> str:
    """The body of a page, or "" when nobody answers within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((address, port), 0.5) as plug:
                plug.sendall(b"GET / HTTP/1.0\r\n\r\n")
                answer = b""
                while part := plug.recv(4096):
                    answer += part
            if answer:
                return answer.partition(b"\r\n\r\n")[2].decode().strip()
        except OSError:
            time.sleep(0.05)
    return ""


def published(host: Host, name: str, port: str = "80") -> int:
    return int(host.ok("port", name, port).splitlines()[0].rpartition(":")[2])


def settings(host: Host, name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(host.ok("inspect", "-f", "{{json .NetworkSettings}}", name))
    return found


def address_of(host: Host, name: str, network: str = "bridge") -> str:
    return host.ok("inspect", "-f", f'{{{{(index .NetworkSettings.Networks "{network}").IPAddress}}}}', name).strip()


def pid_of(host: Host, name: str) -> str:
    return host.ok("inspect", "-f", "{{.State.Pid}}", name).strip()


def own_address() -> str:
    """An address of this machine that is not loopback."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as plug:
        try:
            plug.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no route to anywhere, so no address of its own")
        return str(plug.getsockname()[0])


def inside(host: Host, name: str, *command: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    """A command of the container's image in its network and mount namespaces."""
    words = ["nsenter", "-t", pid_of(host, name), "-n", "-m", *command]
    return subprocess.run(words, capture_output=True, check=False, timeout=30, **options)  # type: ignore[call-overload,no-any-return]


@pytest.fixture
def web(host: Host) -> Iterator[Host]:
    """A host whose container `web` serves a page on a random published port."""
    host.ok("run", "-d", "--name", "web", "-p", "80", "busybox", "sh", "-c", SERVER)
    yield host


def test_a_container_has_an_address_of_the_default_network(host: Host) -> None:
    script = "ifconfig; cat /etc/hosts; ip route; cat /proc/sys/net/ipv6/conf/*/disable_ipv6"
    text = host.ok("run", "--rm", "--hostname", "here", "busybox", "sh", "-c", script)
    assert "eth0      Link encap:Ethernet  HWaddr 02:42:" in text
    assert "UP BROADCAST RUNNING MULTICAST  MTU:1500" in text
    assert "inet addr:127.0.0.1  Mask:255.0.0.0" in text
    address = text.split("inet addr:")[1].split()[0]
    assert address.endswith(".0.2")
    assert f"{address}\there\n" in text
    assert f"default via {address.removesuffix('2')}1 dev eth0" in text
    assert text.endswith("1\n1\n1\n1\n"), "without IPv6 in the network there is none in the container"


@pytest.mark.parametrize(
    ("name", "domain", "names"),
    [("one", "a.example", "one.a.example one"), ("one.b", "a", "one.b.a one"), ("one.b", "", "one.b one")],
)
def test_a_container_finds_itself_by_its_name_in_its_domain(host: Host, name: str, domain: str, names: str) -> None:
    host.ok("network", "create", "front")
    host.ok("run", "-d", "--name", "box", "--hostname", name, "--domainname", domain, "busybox", "sleep", "100")
    host.ok("network", "connect", "front", "box")
    lines = host.ok("exec", "box", "tail", "-n", "2", "/etc/hosts").splitlines()
    assert [line.partition("\t")[2] for line in lines] == [names, names]


def test_a_published_port_is_reached_from_everywhere(web: Host) -> None:
    port = published(web, "web")
    assert get("127.0.0.1", port) == "hello"
    assert get("::1", port) == "hello"
    assert get(own_address(), port) == "hello"
    request = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 3"
    from_other = web.ok("run", "--rm", "busybox", "sh", "-c", f"{request} {own_address()} {port}")
    assert from_other.endswith("hello\n")
    web.ok("network", "create", "apart")
    from_apart = web.ok("run", "--rm", "--net", "apart", "busybox", "sh", "-c", f"{request} {own_address()} {port}")
    assert from_apart.endswith("hello\n")
    itself = inside(web, "web", "sh", "-c", f"{request} {own_address()} {port}")
    assert itself.stdout.endswith(b"hello\n")
    web.ok("stop", "-t", "0", "web")
    assert get("127.0.0.1", port, 0.2) == ""
    web.ok("start", "web")
    assert get("127.0.0.1", published(web, "web")) == "hello"


def test_datagrams_are_published_too(host: Host) -> None:
    host.ok("run", "-d", "--name", "echo", "-p", "127.0.0.1::9/udp", "busybox", "sleep", "60")
    code = "import socket; s = socket.socket(2, 2); s.bind(('', 9)); s.sendto(*s.recvfrom(9))"
    server = subprocess.Popen(["nsenter", "-t", pid_of(host, "echo"), "-n", sys.executable, "-c", code])
    port = published(host, "echo", "9/udp")
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as plug:
        plug.settimeout(0.3)
        for _ in range(10):
            plug.sendto(b"ping", ("127.0.0.1", port))
            try:
                assert plug.recv(100) == b"ping"
                break
            except (TimeoutError, ConnectionRefusedError):
                time.sleep(0.1)
        else:
            raise AssertionError("no answer")
    assert server.wait(5) == 0


def test_ports_are_shown_as_docker_shows_them(host: Host) -> None:
    options = ["-p", "127.0.0.1::60/udp", "-p", "7000-7001", "--expose", "90"]
    host.ok("run", "-d", "--name", "one", *options, "busybox", "sleep", "60")
    lines = host.ok("port", "one").splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["60/udp", *["7000/tcp"] * 2, *["7001/tcp"] * 2]
    column = host.ok("ps", "--format", "{{.Ports}}").strip()
    assert "->60/udp" in column
    assert "90/tcp" in column
    missing = host.run("port", "one", "99")
    assert missing.returncode == 1
    assert b"No public port '99' published for one" in missing.stderr


def test_a_taken_port_is_refused_before_anything_starts_and_its_holder_named(web: Host) -> None:
    port = published(web, "web")
    taken = web.run("run", "-p", f"{port}:80", "busybox", "touch", "/started")
    assert taken.returncode == 125
    assert b"port is already allocated by container web" in taken.stderr
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        number = other.getsockname()[1]
        taken = web.run("run", "-p", f"{number}:80", "busybox", "true")
        assert taken.returncode == 125
        assert f"port is already allocated by {'python' if b'python' in taken.stderr else 'pytest'}" in (
            taken.stderr.decode()
        )
    assert len(web.containers()) == 1


def test_a_port_of_loopback_is_for_this_machine_only(host: Host) -> None:
    host.ok("run", "-d", "--name", "web", "-p", "127.0.0.1::80", "busybox", "sh", "-c", SERVER)
    port = published(host, "web")
    assert get("127.0.0.1", port) == "hello"
    assert get(own_address(), port, 0.5) == ""


def test_a_setting_makes_loopback_the_default(host: Host) -> None:
    host.environment["SPECRUN_PUBLISH_ADDRESS"] = "127.0.0.1"
    host.ok("run", "-d", "--name", "web", "-p", "80", "busybox", "sh", "-c", SERVER)
    assert host.ok("port", "web").startswith("80/tcp -> 127.0.0.1:")
    del host.environment["SPECRUN_PUBLISH_ADDRESS"]
    host.ok("network", "create", "-o", "com.docker.network.bridge.host_binding_ipv4=127.0.0.1", "local")
    host.ok("run", "-d", "--name", "two", "-p", "80", "--net", "local", "busybox", "sleep", "60")
    assert host.ok("port", "two").startswith("80/tcp -> 127.0.0.1:")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "-p", "70000:1", "busybox"], "invalid hostPort: 70000"),
        (["run", "-p", "1.2.3.999:1:1", "busybox"], "invalid IP address: 1.2.3.999"),
        (["run", "-p", "1-3:1-2", "busybox"], "invalid ranges specified for container and host Ports: 1-2 and 1-3"),
        (["run", "-p", "1:1/foo", "busybox"], "invalid proto: foo"),
        (["run", "-p", "80 -j ACCEPT", "busybox"], "invalid containerPort: 80 -j ACCEPT"),
        (["run", "-p", "192.0.2.7:1:1", "busybox"], "this host has no address 192.0.2.7"),
        (["run", "--net", "nosuch", "busybox"], "network nosuch not found"),
        (["run", "--ip", "172.17.0.77", "busybox"], "supported on user defined networks only"),
        (["run", "--network-alias", "x", "busybox"], "only supported for user-defined networks"),
        (["run", "--mac-address", "zz", "busybox"], "zz is not a valid mac address"),
        (["run", "--add-host", "a:1.2.3.4\n6.6.6.6 b", "busybox"], "bad format for add-host"),
        (["run", "--dns-search", "a\nnameserver 6.6.6.6", "busybox"], "no blanks and no control characters"),
        (["run", "--dns", "foo", "busybox"], "IP address is not correctly formatted: foo"),
        (["network", "create", "--subnet", "10.9.0.999/24", "x"], "Invalid subnet 10.9.0.999/24"),
        (["network", "create", "--gateway", "10.9.9.1", "x"], "must have a corresponding subnet"),
        (
            ["network", "create", "--subnet", "10.9.0.0/24", "--gateway", "10.8.9.1", "x"],
            "no matching subnet for gateway",
        ),
        (["network", "create", "-d", "nope", "x"], 'driver "nope" is not supported'),
        (["network", "create", "-o", "no.such=1", "x"], "option no.such is not supported"),
        (["network", "create", "a b"], "invalid network name 'a b'"),
        (["network", "create", "host"], "operation is not permitted on predefined host network"),
        (["network", "rm", "bridge"], "bridge is a pre-defined network and cannot be removed"),
        (["network", "rm", "nosuch"], "network nosuch not found"),
    ],
)
def test_bad_input_is_refused_and_leaves_nothing(host: Host, arguments: list[str], message: str) -> None:
    done = host.run(*arguments)
    assert done.returncode in (1, 125)
    assert message in done.stderr.decode()
    assert host.leftovers() == []
    assert host.ok("network", "ls", "-q", "-f", "type=custom") == ""


def test_subnets_that_somebody_has_are_refused_with_the_holder(host: Host) -> None:
    host.ok("network", "create", "--subnet", "10.91.0.0/24", "first")
    other = host.run("network", "create", "--subnet", "10.91.0.128/25", "second")
    assert b"Pool overlaps with other one on this address space: 10.91.0.128/25 and 10.91.0.0/24 of network first" in (
        other.stderr
    )
    again = host.run("network", "create", "first")
    assert b"network with name first already exists" in again.stderr
    theirs = host.run("network", "create", "--subnet", f"{own_address()}/32", "third")
    assert theirs.returncode == 125
    theirs = host.run("network", "create", "--subnet", f"{own_address()}/30", "third")
    assert b"of the host's link" in theirs.stderr
    host.ok("run", "-d", "--net", "first", "--ip", "10.91.0.9", "busybox", "sleep", "60")
    taken = host.run("run", "--name", "late", "--net", "first", "--ip", "10.91.0.9", "busybox", "true")
    assert b"Address already in use: 10.91.0.9 on network first belongs to container" in taken.stderr
    busy = host.run("network", "rm", "first")
    assert b"has active endpoints" in busy.stderr


def test_names_are_found_and_shared_ones_take_turns(host: Host) -> None:
    host.ok("network", "create", "front")
    one = host.ok("run", "-d", "--name", "one", "--net", "front", "--network-alias", "both", "busybox", "sleep", "60")
    host.ok("run", "-d", "--name", "two", "--net", "front", "--network-alias", "both", "busybox", "sleep", "60")
    first, second = (address_of(host, name, "front") for name in ("one", "two"))
    script = f"nslookup one; nslookup {one[:12]}; nslookup two.front; nslookup {second}; cat /etc/resolv.conf"
    text = host.ok("run", "--rm", "--net", "front", "busybox", "sh", "-c", script)
    assert text.count(f"Address: {first}") == 2
    assert f"Address: {second}" in text
    assert "name = two.front" in text
    assert "nameserver 127.0.0.11\noptions ndots:0\n" in text
    heads = set()
    for _ in range(6):
        answer = host.ok("run", "--rm", "--net", "front", "busybox", "nslookup", "both")
        heads.add(answer.split("Address: ")[1].split()[0])
    assert heads == {first, second}


def test_names_are_answered_over_tcp_and_after_the_resolver_has_died(host: Host) -> None:
    host.ok("network", "create", "front")
    host.ok("run", "-d", "--name", "one", "--net", "front", "busybox", "sleep", "60")
    host.ok("run", "-d", "--name", "two", "--net", "front", "busybox", "sleep", "60")
    code = (
        "import socket; from dnslib import DNSRecord; q = DNSRecord.question('one').pack();"
        "s = socket.create_connection(('127.0.0.11', 53), 5); s.sendall(len(q).to_bytes(2, 'big') + q);"
        "print(DNSRecord.parse(s.recv(4096)[2:]).short())"
    )
    wanted = address_of(host, "one", "front").encode() + b"\n"
    ask = ["nsenter", "-t", pid_of(host, "two"), "-n", sys.executable, "-c", code]
    assert subprocess.run(ask, capture_output=True, check=False).stdout == wanted
    marker = f"specrun.network.resolver {host.root}"
    assert subprocess.run(["pkill", "-9", "-f", marker], check=False).returncode == 0  # the root's own, by its path
    assert subprocess.run(ask, capture_output=True, check=False).stdout == b""
    host.ok("ps")
    assert subprocess.run(ask, capture_output=True, check=False).stdout == wanted


def test_internal_networks_have_no_way_out_and_bridges_do_not_meet(web: Host) -> None:
    target, port = address_of(web, "web"), published(web, "web")
    web.ok("network", "create", "--internal", "inner")
    web.ok("network", "create", "apart")
    for network in ("inner", "apart"):
        web.ok("run", "-d", "--name", network, "--net", network, "busybox", "sleep", "60")
        gateway = address_of(web, network, network).rpartition(".")[0] + ".1"
        assert inside(web, network, "ping", "-c", "1", "-W", "3", gateway).returncode == 0
        assert inside(web, network, "ping", "-c", "1", "-W", "1", target).returncode == 1
    # Even a container that could set routes finds none.
    gateway = address_of(web, "inner", "inner").rpartition(".")[0] + ".1"
    assert inside(web, "inner", "ip", "route", "add", "default", "via", gateway).returncode == 0
    assert inside(web, "inner", "ping", "-c", "1", "-W", "1", target).returncode == 1
    assert inside(web, "inner", "nc", "-w", "1", own_address(), str(port)).returncode == 1
    answer = inside(web, "inner", "nslookup", "example.org", "127.0.0.11").stdout + b""
    assert b"REFUSED" in answer


def test_a_running_container_joins_and_leaves(web: Host) -> None:
    web.ok("network", "create", "--subnet", "10.92.0.0/24", "back")
    web.ok("network", "connect", "--alias", "db", "--ip", "10.92.0.7", "back", "web")
    assert b"10.92.0.7/24" in inside(web, "web", "ip", "-4", "address", "show", "eth1").stdout
    assert "10.92.0.7\t" in web.ok("run", "--rm", "--net", "container:web", "busybox", "cat", "/etc/hosts")
    assert "Address: 10.92.0.7" in web.ok("run", "--rm", "--net", "back", "busybox", "nslookup", "db")
    again = web.run("network", "connect", "back", "web")
    assert b"endpoint with name web already exists in network back" in again.stderr
    members = json.loads(web.ok("network", "inspect", "-f", "{{json .Containers}}", "back"))
    assert [member["Name"] for member in members.values()] == ["web"]
    assert json.loads(web.ok("inspect", "-f", "json", "back"))["Containers"] == members
    assert json.loads(web.ok("network", "inspect", "-f", "json", "back"))["Name"] == "back"
    assert web.run("inspect", "--type", "network", "web").returncode == 1
    # What it publishes goes by way of the other network when the first one is left.
    web.ok("network", "disconnect", "bridge", "web")
    assert get("127.0.0.1", published(web, "web")) == "hello"
    web.ok("network", "disconnect", "back", "web")
    assert b"eth1" not in inside(web, "web", "ip", "link").stdout
    gone = web.run("network", "disconnect", "back", "web")
    assert b"is not connected to network back" in gone.stderr


def test_ipv6(host: Host) -> None:
    host.ok("network", "create", "--ipv6", "--subnet", "fd00:5f:1::/64", "six")
    host.ok("run", "-d", "--name", "web", "--net", "six", "-p", "80", "busybox", "sh", "-c", SERVER)
    found = host.ok("inspect", "-f", "{{.NetworkSettings.Networks.six.GlobalIPv6Address}}", "web").strip()
    assert found == "fd00:5f:1::2"
    assert get("::1", published(host, "web")) == "hello"
    assert get("fd00:5f:1::1", published(host, "web")) == "hello", "the host's own IPv6 address"
    text = host.ok("run", "--rm", "--net", "six", "busybox", "sh", "-c", "ping -6 -c 1 -W 3 web; ip -6 route")
    assert "1 packets received" in text
    assert "default via fd00:5f:1::1" in text


def test_ports_are_reached_over_ipv6_from_containers_and_by_datagrams(host: Host) -> None:
    for number, name in enumerate(("six", "seven")):
        host.ok("network", "create", "--ipv6", "--subnet", f"fd00:5f:{number + 3}::/64", name)
    ports = ["-p", "80", "-p", "9/udp"]
    host.ok("run", "-d", "--name", "web", "--net", "six", *ports, "busybox", "sh", "-c", SERVER)
    here, port = "fd00:5f:3::1", published(host, "web")
    assert get(here, port) == "hello"
    request = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 3 {here} {port}"
    assert inside(host, "web", "sh", "-c", request).stdout.endswith(b"hello\n"), "by itself"
    for network in ("six", "seven"):
        text = host.ok("run", "--rm", "--net", network, "busybox", "sh", "-c", request)
        assert text.endswith("hello\n"), f"from network {network}"
    code = "import socket; s = socket.socket(10, 2); s.bind(('::', 9))\nwhile 1: s.sendto(*s.recvfrom(9))"
    echo = subprocess.Popen(["nsenter", "-t", pid_of(host, "web"), "-n", sys.executable, "-c", code])
    try:
        for address in (here, "::1"):
            assert echoed(address, published(host, "web", "9/udp")), address
    finally:
        echo.kill()
        echo.wait()


def echoed(address: str, port: int) -> bool:
    """Whether a datagram comes back."""
    with closing(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)) as plug:
        plug.settimeout(0.3)
        for _ in range(10):
            plug.sendto(b"ping", (address, port))
            try:
                return plug.recv(100) == b"ping"
            except (TimeoutError, ConnectionRefusedError):
                time.sleep(0.1)
    return False


def test_a_range_of_host_ports_gives_each_container_the_first_that_is_free(host: Host) -> None:
    first = free_port() // 10 * 10
    found = []
    for name in ("one", "two"):
        words = ["-p", f"127.0.0.1:{first}-{first + 9}:80", "busybox", "sh", "-c", SERVER]
        host.ok("run", "-d", "--name", name, *words)
        found.append(published(host, name))
        assert get("127.0.0.1", found[-1]) == "hello"
    assert first <= found[0] < found[1] < first + 10


def test_a_macvlan_network_is_on_its_parent(host: Host) -> None:
    parent = f"m{os.getpid()}"
    subprocess.run(["ip", "link", "add", parent, "type", "veth", "peer", "name", f"{parent}p"], check=True)
    try:
        for link in (parent, f"{parent}p"):
            subprocess.run(["ip", "link", "set", link, "up"], check=True)
        host.ok("network", "create", "-d", "macvlan", "-o", f"parent={parent}", "--subnet", "10.93.0.0/24", "lan")
        host.ok("run", "-d", "--name", "one", "--net", "lan", "busybox", "sleep", "60")
        text = host.ok("run", "--rm", "--net", "lan", "busybox", "sh", "-c", "ip address; ping -c 1 -W 3 10.93.0.2")
        assert "10.93.0.3/24" in text
        assert "1 packets received" in text
        missing = host.run("network", "create", "-d", "macvlan", "-o", "parent=nolink", "--subnet", "10.94.0.0/24", "x")
        assert b"there is no link nolink on this host" in missing.stderr
        vlan = ("-o", f"parent={parent}.50", "--subnet", "10.95.0.0/24", "tagged")
        made = host.run("network", "create", "-d", "macvlan", *vlan)
        if made.returncode:  # tests/vm looks at the rest
            assert b"this kernel has no VLANs" in made.stderr
        else:
            host.ok("network", "rm", "tagged")
        assert not os.path.exists(f"/sys/class/net/{parent}.50")
        assert host.ok("network", "ls", "-q", "--filter", "name=tagged") == ""
    finally:
        subprocess.run(["ip", "link", "delete", parent], check=True)


def test_another_container_s_network_is_shared(web: Host) -> None:
    text = web.ok(
        "run", "--rm", "--net", "container:web", "busybox", "sh", "-c", "nc -w 1 127.0.0.1 80 </dev/null; ip a"
    )
    assert address_of(web, "web") in text
    conflict = web.run("run", "--net", "container:web", "-p", "1:1", "busybox", "true")
    assert b"conflicting options: port publishing and the container type network mode" in conflict.stderr
    web.ok("stop", "-t", "0", "web")
    stopped = web.run("run", "--rm", "--net", "container:web", "busybox", "true")
    assert b"cannot join network of a non running container" in stopped.stderr


@pytest.mark.parametrize("damage", ["flush table inet", "delete table inet", "delete table bridge"])
def test_rules_that_somebody_took_are_mended_by_the_next_command(web: Host, damage: str) -> None:
    port = published(web, "web")
    table = f"specrun_{(web.root / 'id').read_text()}"
    before = subprocess.run(["nft", "-s", "list", "table", "inet", table], capture_output=True, check=True).stdout
    subprocess.run(["nft", *damage.split(), table], check=True)
    assert get("127.0.0.1", port) == "hello", "the process that holds the port passes it on meanwhile"
    web.ok("ps")
    after = subprocess.run(["nft", "-s", "list", "table", "inet", table], capture_output=True, check=True).stdout
    assert after == before
    subprocess.run(["nft", "list", "table", "bridge", table], capture_output=True, check=True)
    assert get(own_address(), port) == "hello"


def _elements(table: str) -> dict[tuple[str, str], list[str]]:
    """(family, set or map) -> its elements, as nft(8) shows them."""
    found = {}
    for family in ("inet", "bridge"):
        command = ["nft", "-j", "list", "table", family, table]
        document = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        for item in document["nftables"]:
            if one := item.get("set") or item.get("map"):
                found[family, one["name"]] = sorted(json.dumps(element) for element in one.get("elem", []))
    return found


def _text(value: Any) -> str:
    """An element of `nft -j` as nft(8) reads it."""
    if isinstance(value, list):
        return f"{_text(value[0])} : {_text(value[1])}"
    if isinstance(value, dict) and "concat" in value:
        return " . ".join(_text(part) for part in value["concat"])
    if isinstance(value, dict) and "prefix" in value:
        return f"{value['prefix']['addr']}/{value['prefix']['len']}"
    return str(value) if str(value)[:1].isdigit() or value in ("tcp", "udp") else f'"{value}"'


def test_an_element_that_somebody_deleted_is_there_again_after_the_next_command(host: Host) -> None:
    """Each one of every set and map, but for that of numbers that nft(8) writes otherwise than it reads them."""
    host.ok("network", "create", "--ipv6", "six")
    host.ok("network", "create", "--internal", "inner")
    busy = ("busybox", "sleep", "300")
    host.ok("run", "-d", "-p", "80", "-p", "127.0.0.1::81/udp", *busy)
    host.ok("run", "-d", "--network", "six", "-p", "80", *busy)
    host.ok("run", "-d", "--network", "inner", *busy)
    table = f"specrun_{(host.root / 'id').read_text()}"
    before = _elements(table)
    deleted = 0
    for (family, name), elements in before.items():
        for element in elements[:1] if name != "targets6" else []:
            text = f"delete element {family} {table} {name} {{ {_text(json.loads(element))} }}"
            subprocess.run(["nft", text], check=True)
            assert _elements(table) != before
            host.ok("ps")
            assert _elements(table) == before, text
            deleted += 1
    assert deleted >= 12


def test_a_network_is_removed_with_all_that_it_was(host: Host) -> None:
    identity = (host.root / "id").read_text().encode()
    host.ok("network", "create", "one")
    host.ok("run", "--rm", "--net", "one", "busybox", "true")
    host.ok("run", "--rm", "busybox", "true")
    host.ok("network", "rm", "one")
    host.ok("network", "prune", "-f")
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        now = subprocess.run(["ip", "-br", "link"], capture_output=True, check=True).stdout
        if identity not in now:
            break
        time.sleep(0.05)
    assert identity not in now
    assert identity not in subprocess.run(["nft", "list", "ruleset"], capture_output=True, check=True).stdout


def test_what_was_made_is_what_pyroute2_reads(host: Host) -> None:
    """The messages are of our own making; an independent library says what the kernel understood."""
    options = ["-o", "com.docker.network.driver.mtu=1400", "-o", "com.docker.network.bridge.enable_icc=false"]
    pools = ["--subnet", "10.96.0.0/20", "--ipv6", "--subnet", "fd00:5f:2::/64"]
    host.ok("network", "create", *options, *pools, "odd")
    mac = "02:42:0a:60:00:99"
    words = ["--net", "odd", "--mac-address", mac, "--ip", "10.96.15.254", "-p", "80", "busybox", "sleep", "60"]
    host.ok("run", "-d", "--name", "one", *words)
    inside = observation.of_process(int(pid_of(host, "one")))
    assert sorted(inside) == ["eth0", "lo"]
    assert inside["lo"].up
    eth0 = inside["eth0"]
    assert (eth0.up, eth0.mac, eth0.mtu, eth0.bridge) == (True, mac, 1400, "")
    own = link_local(mac)
    assert eth0.addresses == {"10.96.15.254/20", "fd00:5f:2::2/64", f"{own}/64"}
    assert eth0.gateways == {"10.96.0.1", "fd00:5f:2::1"}
    identity = (host.root / "id").read_text()
    with IPRoute() as kernel:
        messages = {one.get("ifname"): one for one in kernel.get_links(family=socket.AF_BRIDGE)}
    (outer,) = (name for name in messages if name.startswith(f"v{identity}"))
    port = messages[outer].get("protinfo")
    assert (port.get_attr("IFLA_BRPORT_ISOLATED"), port.get_attr("IFLA_BRPORT_MODE")) == (1, 1)
    here = observation.look()
    assert here[outer].addresses == frozenset(), "the host does not speak on the container's link"
    bridge = here[here[outer].bridge]
    assert bridge.addresses >= {"10.96.0.1/20", "fd00:5f:2::1/64"}
    assert (bridge.up, bridge.mtu) == (True, 1400)
