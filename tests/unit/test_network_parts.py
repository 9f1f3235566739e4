"""The pure parts of networks: published ports as they are written, subnets, columns, and what rules are made of."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specrun.engine.networking import NetworkRequest, in_groups
from specrun.errors import SpecrunError
from specrun.network.joining import link_local
from specrun.network.ports import parse_expose, parse_publish
from specrun.network.rules import Publication
from specrun.network.subnets import Subnet, default_pools, parse, show


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("80", [("80/tcp", "", "")]),
        (":80", [("80/tcp", "", "")]),
        ("8080:80", [("80/tcp", "", "8080")]),
        ("8080:80/udp", [("80/udp", "", "8080")]),
        ("127.0.0.1:8080:80", [("80/tcp", "127.0.0.1", "8080")]),
        ("127.0.0.1::80", [("80/tcp", "127.0.0.1", "")]),
        ("[::1]:8080:80", [("80/tcp", "::1", "8080")]),
        ("[2001:db8::7]::80/tcp", [("80/tcp", "2001:db8::7", "")]),
        ("7000-7001:80-81", [("80/tcp", "", "7000"), ("81/tcp", "", "7001")]),
        ("7000-7001", [("7000/tcp", "", ""), ("7001/tcp", "", "")]),
        ("8000-8010:80", [("80/tcp", "", "8000-8010")]),
    ],
)
def test_every_form_of_publish(text: str, expected: list[tuple[str, str, str]]) -> None:
    assert [(port, one["HostIp"], one["HostPort"]) for port, one in parse_publish(text)] == expected


@pytest.mark.parametrize("text", ["", "x", "0", "80:0", "65536", "1:2:3:4", "80/icmp", "80:", "9-8", "1-2-3", "²"])
def test_what_is_no_port_is_refused(text: str) -> None:
    with pytest.raises(SpecrunError):
        parse_publish(text)


def test_exposed_ports() -> None:
    assert parse_expose("90-91/udp") == ["90/udp", "91/udp"]
    assert parse_expose("80") == ["80/tcp"]


@given(st.ip_addresses(), st.integers(0, 128))
def test_subnets_agree_with_the_standard_library(address: ipaddress.IPv4Address, prefix: int) -> None:
    prefix = min(prefix, address.max_prefixlen)
    theirs = ipaddress.ip_network(f"{address}/{prefix}", strict=False)
    ours = Subnet.parse(f"{address}/{prefix}")
    assert (ours.first, ours.last) == (int(theirs.network_address), int(theirs.broadcast_address))
    assert ours.holds(str(address))
    found = parse(str(address))
    assert found is not None
    assert ipaddress.ip_address(show(*found)) == address


@given(st.ip_addresses(v=4), st.ip_addresses(v=4), st.integers(0, 32), st.integers(0, 32))
def test_overlaps_agree_too(one: ipaddress.IPv4Address, two: ipaddress.IPv4Address, first: int, second: int) -> None:
    theirs = [ipaddress.ip_network(f"{at}/{bits}", strict=False) for at, bits in ((one, first), (two, second))]
    ours = [Subnet.parse(f"{at}/{bits}") for at, bits in ((one, first), (two, second))]
    assert ours[0].overlaps(ours[1]) == theirs[0].overlaps(theirs[1])
    assert ours[0].contains(ours[1]) == theirs[1].subnet_of(theirs[0])


def test_hosts_leave_out_what_no_host_may_have() -> None:
    assert list(Subnet.parse("10.0.0.0/29").hosts()) == [f"10.0.0.{last}" for last in range(1, 7)]
    assert not Subnet.parse("10.0.0.0/29").usable("10.0.0.7")
    assert not Subnet.parse("10.0.0.0/29").usable("10.0.0.0")
    assert Subnet.parse("fd00::/64").usable("fd00::ffff:ffff:ffff:ffff")
    assert str(next(default_pools())) == "172.17.0.0/16"


@pytest.mark.parametrize(
    "text", ["10.0.0.0", "10.0.0.0/33", "10.0.0/8", "x/8", "10.0.0.0/-1", "10.0.0.0/²", "fd00::/129"]
)
def test_what_is_no_subnet_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a subnet"):
        Subnet.parse(text)


def test_a_publication_is_an_element_of_the_map_for_its_address() -> None:
    everywhere = Publication("tcp", "0.0.0.0", 8080, "172.17.0.2", 80)
    assert everywhere.member().text() == "any4 { tcp . 8080 : 172.17.0.2 . 80 }"
    here = Publication("udp", "::1", 8080, "fd00::2", 80)
    assert here.member().text() == "one6 { ::1 . udp . 8080 : fd00::2 . 80 }"


def test_ports_are_grouped_as_docker_groups_them() -> None:
    same = [(port, address, port, "tcp") for port in (7000, 7001, 7002, 7010) for address in ("0.0.0.0", "::")]
    other = [(60, "127.0.0.1", 6000, "udp"), (61, "127.0.0.1", 6001, "udp"), (99, "", 0, "tcp")]
    assert in_groups([*other, *same]) == [
        "0.0.0.0:7000-7002->7000-7002/tcp",
        "[::]:7000-7002->7000-7002/tcp",
        "99/tcp",
        "0.0.0.0:7010->7010/tcp",
        "[::]:7010->7010/tcp",
        "127.0.0.1:6000->60/udp",
        "127.0.0.1:6001->61/udp",
    ]


def test_the_address_that_a_link_gives_itself() -> None:
    assert link_local("02:42:ac:11:00:02") == "fe80::42:acff:fe11:2"


@pytest.mark.parametrize(
    "request_",
    [
        NetworkRequest("container:x", ports={"80/tcp": []}),
        NetworkRequest("container:x", exposed=["80/tcp"]),
        NetworkRequest("host", mac="02:42:ac:11:00:02"),
        NetworkRequest("net", mac="03:42:ac:11:00:02"),
        NetworkRequest("bridge", aliases=["x"]),
        NetworkRequest("net", aliases=["a b"]),
        NetworkRequest("net", extra_hosts=["a:1.2.3.4 b"]),
        NetworkRequest("net", dns_search=["a\nnameserver 6.6.6.6"]),
    ],
)
def test_contradictions_are_refused(request_: NetworkRequest) -> None:
    with pytest.raises(SpecrunError):
        request_.check()
