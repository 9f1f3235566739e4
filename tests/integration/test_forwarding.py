"""`net.ipv4.ip_forward` in a network namespace of the test's own: on while networks need it, and back as it was."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.support.host import Host
from tests.support.namespace import IPV4, IPV6, Namespace

RECORDS = "/run/specrun/forwarding"


@pytest.fixture
def roots(apart: Namespace, host: Host, empty_host: Host) -> tuple[Host, Host]:
    """Two roots in it, with run folders of their own."""
    host.prefix = empty_host.prefix = apart.enter
    return host, empty_host


def records(*roots: Host) -> list[str]:
    """The roots that have recorded what they have changed."""
    known = [(root.root / "id").read_text() for root in roots if (root.root / "id").exists()]
    return [name for _, _, names in os.walk(RECORDS) for name in names if name in known]


def test_the_last_root_that_needs_it_switches_it_off(apart: Namespace, roots: tuple[Host, Host]) -> None:
    one, two = roots
    one.ok("network", "create", "--internal", "inner")
    assert apart.get() == "0", "an internal network leads nowhere"
    one.ok("network", "create", "a")
    one.ok("network", "create", "--ipv6", "b")
    assert (apart.get(), apart.get(IPV6)) == ("1", "1")
    two.ok("network", "create", "c")
    one.ok("network", "rm", "b")
    assert (apart.get(), apart.get(IPV6)) == ("1", "0")
    one.ok("network", "rm", "a")
    assert apart.get() == "1", "the other root needs it still"
    two.ok("network", "rm", "c")
    assert apart.get() == "0", "the other root knows what the first one found"
    assert records(*roots) == []


def test_links_that_heed_router_advertisements_do_so_still(apart: Namespace, roots: tuple[Host, Host]) -> None:
    apart.sh("ip link add plug type veth peer name other")
    roots[0].ok("network", "create", "--ipv6", "six")
    assert apart.get("net/ipv6/conf/plug/accept_ra") == "2"
    roots[0].ok("network", "rm", "six")
    assert apart.get("net/ipv6/conf/plug/accept_ra") == "1"


@pytest.mark.parametrize(
    "script",
    [
        "ip link add docker0 type bridge",
        "ip tuntap add dev tun0 mode tun",
        "nft add table ip nat; nft 'add chain ip nat POSTROUTING { type nat hook postrouting priority 100; }';"
        "nft add rule ip nat POSTROUTING masquerade",
    ],
)
def test_it_stays_on_where_others_rely_on_it(apart: Namespace, roots: tuple[Host, Host], script: str) -> None:
    roots[0].ok("network", "create", "a")
    apart.sh(script)
    roots[0].ok("network", "rm", "a")
    assert apart.get() == "1"
    assert records(*roots) == []


def test_what_was_on_or_was_changed_by_others_is_left_alone(apart: Namespace, roots: tuple[Host, Host]) -> None:
    apart.put(IPV4, "1")
    roots[0].ok("network", "create", "a")
    assert records(*roots) == []
    roots[0].ok("network", "rm", "a")
    assert apart.get() == "1"
    apart.put(IPV4, "0")
    roots[0].ok("network", "create", "a")
    apart.put(IPV4, "0")
    roots[0].ok("network", "rm", "a")
    assert apart.get() == "0"


def without_networks(apart: Namespace, root: Host) -> None:
    """Take away what a root has there, as `rm` does before it looks at forwarding."""
    identity = (root.root / "id").read_text()
    for family in ("inet", "bridge"):
        apart.sh(f"nft delete table {family} specrun_{identity}")
    for link in apart.links():
        if link.startswith(f"b{identity}"):
            apart.sh(f"ip link delete {link}")


def test_a_root_whose_folder_was_removed_counts_no_more(apart: Namespace, roots: tuple[Host, Host]) -> None:
    one, two = roots
    one.ok("network", "create", "a")
    two.ok("network", "create", "b")
    without_networks(apart, one)
    two.ok("network", "rm", "b")
    assert apart.get() == "0"
    assert records(*roots) == []


def test_what_a_killed_root_has_not_switched_back_the_next_one_does(apart: Namespace, roots: tuple[Host, Host]) -> None:
    one, two = roots
    one.ok("network", "create", "a")
    without_networks(apart, one)
    two.ok("network", "create", "--ipv6", "b")
    assert records(*roots) == [(two.root / "id").read_text()]
    one.ok("network", "rm", "a")  # as if it had been about to look
    assert apart.get() == "1"
    two.ok("network", "rm", "b")
    assert (apart.get(), apart.get(IPV6)) == ("0", "0")
    assert records(*roots) == []


def test_records_end_with_their_namespace(apart: Namespace, roots: tuple[Host, Host]) -> None:
    one, two = roots
    place = one.folder / "mounted"
    place.touch()
    ended, mounted = Namespace(), Namespace()
    subprocess.run(["mount", "--bind", mounted.path, str(place)], check=True)
    try:
        one.prefix, two.prefix = ended.enter, ["nsenter", f"--net={place}"]
        for namespace, root in zip((ended, mounted), roots, strict=True):
            namespace.put(IPV4, "0")
            root.ok("network", "create", "a")
        ended.close()
        mounted.close()
        one.prefix = apart.enter
        one.ok("network", "create", "b")
        assert sorted(records(one, two)) == sorted((root.root / "id").read_text() for root in roots)
        two.ok("network", "rm", "a")
        assert len(records(one, two)) == 1
    finally:
        two.prefix = apart.enter
        ended.close()
        mounted.close()
        subprocess.run(["umount", str(place)], check=True)
