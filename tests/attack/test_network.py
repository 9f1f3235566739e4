"""What a container with CAP_NET_RAW can send, and what neighbours of the host can: each with a witness that it works.

The frames are sent by a process of the test in the container's network namespace: a container can send no others.
Attacks of containers on each other are made twice: as things are, and with the guard taken away, when they have to
succeed.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.support.host import Host

_SEND = """
import socket, sys
plug = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
plug.bind(("eth0", 0))
for _ in range(3):
    plug.send(bytes.fromhex(sys.argv[1]))
"""


class Peer:
    """A running container and its addresses."""

    def __init__(self, host: Host, name: str, network: str = "lab") -> None:
        host.ok("run", "-d", "--name", name, "--net", network, "busybox", "sleep", "300")
        document = json.loads(host.ok("inspect", name))[0]
        endpoint = document["NetworkSettings"]["Networks"][network]
        self.pid = str(document["State"]["Pid"])
        self.address, self.address6 = endpoint["IPAddress"], endpoint["GlobalIPv6Address"]
        self.gateway, self.mac = endpoint["Gateway"], endpoint["MacAddress"]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        words = ["nsenter", "-t", self.pid, "-n", *command]
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=20)

    def ping(self, *words: str) -> bool:
        """By the image's own command."""
        command = ["nsenter", "-t", self.pid, "-n", "-m", "/bin/ping", "-c", "1", "-W", "2", *words]
        return subprocess.run(command, capture_output=True, check=False, timeout=20).returncode == 0

    def send(self, frame: bytes) -> None:
        done = self.run(sys.executable, "-c", _SEND, frame.hex())
        assert done.returncode == 0, done.stderr


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def checksum(data: bytes) -> bytes:
    total = sum(int.from_bytes(data[at : at + 2].ljust(2, b"\0"), "big") for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return (~total & 0xFFFF).to_bytes(2, "big")


def ipv4(source: str, target: str, protocol: int, body: bytes) -> bytes:
    head = b"\x45\x00" + (20 + len(body)).to_bytes(2, "big") + b"\0\0\0\0\x40" + bytes([protocol]) + b"\0\0"
    head += socket.inet_aton(source) + socket.inet_aton(target)
    return head[:10] + checksum(head) + head[12:] + body


def udp(port: int, text: bytes) -> bytes:
    return (4444).to_bytes(2, "big") + port.to_bytes(2, "big") + (8 + len(text)).to_bytes(2, "big") + b"\0\0" + text


def icmp6(source: str, target: str, body: bytes) -> bytes:
    ends = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, target)
    whole = body[:2] + checksum(ends + len(body).to_bytes(4, "big") + b"\0\0\0\x3a" + body) + body[4:]
    return b"\x60\0\0\0" + len(body).to_bytes(2, "big") + b"\x3a\xff" + ends + whole


def arp_reply(sender_mac: str, sender: str, target_mac: str, target: str) -> bytes:
    ends = mac(sender_mac) + socket.inet_aton(sender) + mac(target_mac) + socket.inet_aton(target)
    return mac(target_mac) + mac(sender_mac) + b"\x08\x06\0\x01\x08\0\x06\x04\0\x02" + ends


@pytest.fixture
def lab(host: Host) -> Iterator[Host]:
    host.ok("network", "create", "--ipv6", "lab")
    yield host


def bridge_mac(host: Host) -> tuple[str, str]:
    """Name and MAC address of the bridge of `lab`."""
    identity = (host.root / "id").read_text()
    network = host.ok("network", "inspect", "-f", "{{.Id}}", "lab").strip()
    name = f"b{identity}{network[:6]}"
    with open(f"/sys/class/net/{name}/address", encoding="ascii") as file:
        return name, file.read().strip()


def unguard(host: Host) -> None:
    """Let containers send whatever they like, until a command of specrun mends that."""
    table = f"specrun_{(host.root / 'id').read_text()}"
    subprocess.run(["nft", "flush", "chain", "bridge", table, "guard"], check=True)


def heard(plug: socket.socket) -> bytes:
    try:
        return plug.recv(1000)
    except TimeoutError:
        return b""


def test_a_container_speaks_with_its_own_addresses_only(lab: Host) -> None:
    bad, victim = Peer(lab, "bad"), Peer(lab, "victim")
    _, gateway_mac = bridge_mac(lab)
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as plug:
        plug.bind((bad.gateway, 0))
        plug.settimeout(0.5)
        port = plug.getsockname()[1]

        def frame(source_mac: str, source: str, text: bytes) -> bytes:
            packet = ipv4(source, bad.gateway, 17, udp(port, text))
            return mac(gateway_mac) + mac(source_mac) + b"\x08\0" + packet

        bad.send(frame(bad.mac, bad.address, b"honest"))
        assert heard(plug) == b"honest", "the way itself is open"
        while heard(plug):
            continue

        def lie() -> None:
            bad.send(frame(bad.mac, victim.address, b"stolen address"))
            bad.send(frame(victim.mac, victim.address, b"stolen both"))
            bad.send(frame("02:42:00:00:00:99", bad.address, b"stolen mac"))
            bad.send(frame(bad.mac, "127.0.0.1", b"loopback"))

        lie()
        assert heard(plug) == b""
        unguard(lab)
        lie()
        assert {heard(plug) for _ in range(9)} >= {b"stolen address", b"stolen both", b"stolen mac"}


def test_arp_for_another_s_address_is_not_believed(lab: Host) -> None:
    bad, victim = Peer(lab, "bad"), Peer(lab, "victim")
    name, gateway_mac = bridge_mac(lab)
    # Otherwise what was learned just now is kept for a second, whatever is said.
    victim.run("sh", "-c", "echo 0 > /proc/sys/net/ipv4/neigh/eth0/locktime")
    subprocess.run(["sh", "-c", f"echo 0 > /proc/sys/net/ipv4/neigh/{name}/locktime"], check=True)
    assert victim.ping(bad.gateway)

    def believed() -> tuple[bool, bool]:
        """By the host, of the victim's address; and by the victim, of the gateway's."""
        bad.send(arp_reply(bad.mac, victim.address, gateway_mac, bad.gateway))
        bad.send(arp_reply(bad.mac, bad.gateway, victim.mac, victim.address))
        time.sleep(0.2)
        host = subprocess.run(["ip", "neighbor", "show", "dev", name], capture_output=True, text=True, check=True)
        lines = [line for line in host.stdout.splitlines() if line.startswith(f"{victim.address} ")]
        return any(bad.mac in line for line in lines), bad.mac in victim.run("ip", "neighbor").stdout

    assert believed() == (False, False)
    assert gateway_mac in victim.run("ip", "neighbor").stdout
    unguard(lab)
    assert believed() == (True, True)


def test_router_advertisements_and_neighbor_advertisements_of_containers_are_dropped(lab: Host) -> None:
    bad, victim = Peer(lab, "bad"), Peer(lab, "victim")
    name, gateway_mac = bridge_mac(lab)
    # A victim that would listen, which ours does not.
    victim.run("sh", "-c", "echo 2 > /proc/sys/net/ipv6/conf/eth0/accept_ra")
    own = f"fe80::42:{bad.mac[6:8]}ff:fe{bad.mac[9:11]}:{bad.mac[12:14]}{bad.mac[15:]}"
    prefix = b"\x03\x04\x40\xc0" + b"\xff" * 8 + b"\0" * 4 + socket.inet_pton(socket.AF_INET6, "2001:db8:bad::")
    advertisement = b"\x86\0\0\0\x40\0\x07\x08" + b"\0" * 8 + prefix
    gateway = lab.ok("inspect", "-f", "{{.NetworkSettings.Networks.lab.IPv6Gateway}}", "bad").strip()
    claim = b"\x88\0\0\0\x20\0\0\0" + socket.inet_pton(socket.AF_INET6, victim.address6) + b"\x02\x01" + mac(bad.mac)
    assert victim.ping("-6", gateway)
    assert victim.ping("-6", bad.address6)

    def believed() -> tuple[bool, bool]:
        """The prefix, by the victim; and by the host, that the victim's address is the attacker's."""
        bad.send(mac("33:33:00:00:00:01") + mac(bad.mac) + b"\x86\xdd" + icmp6(own, "ff02::1", advertisement))
        bad.send(mac(gateway_mac) + mac(bad.mac) + b"\x86\xdd" + icmp6(bad.address6, gateway, claim))
        time.sleep(0.3)
        host = subprocess.run(["ip", "neighbor", "show", "dev", name], capture_output=True, text=True, check=True)
        lines = [line for line in host.stdout.splitlines() if line.startswith(f"{victim.address6} ")]
        return "2001:db8:bad" in victim.run("ip", "-6", "address").stdout, any(bad.mac in line for line in lines)

    assert believed() == (False, False)
    unguard(lab)
    assert believed() == (True, True)


def test_the_host_s_loopback_is_not_reached_from_a_bridge(lab: Host) -> None:
    bad = Peer(lab, "bad")
    _, gateway_mac = bridge_mac(lab)
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as plug:
        plug.bind(("127.0.0.1", 0))
        plug.settimeout(0.5)
        packet = ipv4(bad.address, "127.0.0.1", 17, udp(plug.getsockname()[1], b"inside"))
        bad.send(mac(gateway_mac) + mac(bad.mac) + b"\x08\0" + packet)
        assert heard(plug) == b"", "route_localnet is on for published ports on 127.0.0.1"


@pytest.fixture
def neighbor() -> Iterator[tuple[list[str], str]]:
    """A machine beside this one: how to run there, and the address of this one on the link between."""
    name = f"n{os.getpid()}"
    holder = subprocess.Popen(["unshare", "-n", "sleep", "300"])
    deadline = time.monotonic() + 5
    while os.readlink(f"/proc/{holder.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    third = os.getpid() % 250
    there = ["nsenter", "-t", str(holder.pid), "-n"]
    try:
        for words in (
            ["ip", "link", "add", name, "type", "veth", "peer", "name", "out", "netns", str(holder.pid)],
            ["ip", "address", "add", f"198.18.{third}.1/24", "dev", name],
            ["ip", "link", "set", name, "up"],
            [*there, "ip", "address", "add", f"198.18.{third}.2/24", "dev", "out"],
            [*there, "ip", "link", "set", "out", "up"],
            [*there, "ip", "route", "add", "default", "via", f"198.18.{third}.1"],
            [*there, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet"],
            [*there, "ip", "route", "add", "127.0.0.0/8", "via", f"198.18.{third}.1", "dev", "out", "table", "7"],
            [*there, "ip", "rule", "add", "to", "127.0.0.0/8", "table", "7", "pref", "0"],
            [*there, "ip", "rule", "del", "pref", "0", "table", "local"],
            [*there, "ip", "rule", "add", "pref", "5", "table", "local"],
        ):
            subprocess.run(words, check=True)
        yield there, f"198.18.{third}.1"
    finally:
        holder.kill()
        holder.wait()
        subprocess.run(["ip", "link", "delete", name], check=False, capture_output=True)


def answers(there: list[str], address: str, port: int) -> bool:
    code = (
        "import socket, sys; s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 1);"
        "s.send(b'GET / HTTP/1.0\\r\\n\\r\\n'); sys.exit(not s.recv(9))"
    )
    words = [*there, sys.executable, "-c", code, address, str(port)]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def test_a_neighbor_reaches_what_is_published_to_it_and_nothing_else(
    host: Host, neighbor: tuple[list[str], str]
) -> None:
    there, here = neighbor
    server = ["busybox", "sh", "-c", "echo hello > /tmp/index.html; exec httpd -f -p 80 -h /tmp"]
    host.ok("run", "-d", "--name", "open", "-p", "80", *server)
    host.ok("run", "-d", "--name", "local", "-p", "127.0.0.1::80", *server)
    public, private = (
        int(host.ok("port", name, "80").splitlines()[0].rpartition(":")[2]) for name in ("open", "local")
    )
    inner = host.ok("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "local").strip()
    deadline = time.monotonic() + 5
    while not answers(there, here, public):
        assert time.monotonic() < deadline, "the published port is not reached"
    assert answers([], "127.0.0.1", private)
    assert not answers(there, here, private)
    assert not answers(there, "127.0.0.1", private), "by a route for 127.0.0.0/8 to this machine"
    assert not answers(there, inner, 80), "by a route for the container's subnet to this machine"


def test_what_a_container_asks_cannot_hurt_the_resolver(lab: Host) -> None:
    bad = Peer(lab, "bad")
    code = (
        "import os, socket; s = socket.socket(2, 2); s.connect(('127.0.0.11', 53))\n"
        "for size in (0, 1, 11, 12, 40, 512, 9000): s.send(os.urandom(size))\n"
        "s.send(bytes.fromhex('0001010000010000000000000000c00c00010001'[:34]) + b'\\xc0\\x0c\\0\\1\\0\\1')\n"
        "s.send(bytes.fromhex('000100000001000000000000c00c00010001'))\n"
        "t = socket.create_connection(('127.0.0.11', 53)); t.send(b'\\xff\\xff' + os.urandom(70)); t.close()\n"
    )
    done = bad.run(sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr
    marker = f"specrun.network.resolver\0{lab.root}".encode()
    alive = [pid for pid in filter(str.isdigit, os.listdir("/proc")) if marker in _cmdline(pid)]
    assert len(alive) == 1
    with open(f"/proc/{alive[0]}/status", encoding="ascii") as file:
        assert "CapEff:\t0000000000000000" in file.read()
    assert bad.address in lab.ok("run", "--rm", "--net", "lab", "busybox", "nslookup", "bad")


def _cmdline(pid: str) -> bytes:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except OSError:
        return b""
