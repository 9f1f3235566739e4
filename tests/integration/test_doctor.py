"""What a host lacks is said, by doctor and by the command that fails."""

from __future__ import annotations

import json
import subprocess

from tests.support.host import COMMAND, Host
from tests.support.namespace import Namespace


def test_this_host_is_fit(host: Host) -> None:
    findings = json.loads(host.ok("doctor", "--output", "json"))
    assert {finding["name"] for finding in findings} >= {"kernel", "privileges", "namespaces", "overlay", "cgroups"}
    assert all(finding["ok"] for finding in findings)
    assert "privileges" in host.ok("doctor")


def _without_rights(host: Host, *arguments: str) -> subprocess.CompletedProcess[str]:
    drop = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-all", "--ambient-caps=-all"]
    return subprocess.run(
        [*drop, COMMAND, *arguments], env=host.environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_missing_privilege_is_named(host: Host) -> None:
    done = _without_rights(host, "doctor")
    assert done.returncode == 1
    assert "without SYS_ADMIN" in done.stdout
    assert "run as root" in done.stdout
    failed = _without_rights(host, "run", "--rm", "busybox", "true")
    assert failed.returncode == 125
    assert "Operation not permitted" in failed.stderr
    assert "specrun doctor" in failed.stderr
    assert host.leftovers() == []


def test_what_has_happened_to_a_network_is_named(apart: Namespace, host: Host) -> None:
    host.prefix = apart.enter
    host.ok("network", "create", "--subnet", "10.95.0.0/24", "back")
    (made,) = [one for one in json.loads(host.ok("doctor", "--output", "json")) if one["name"] == "networks"]
    assert made["ok"]
    bridge = next(name for name in apart.links() if name != "lo")
    apart.sh(f"ip address flush dev {bridge}; ip link add vpn type veth peer name far; ip link set vpn up")
    apart.sh("ip link set far up; ip route add 10.95.0.128/25 dev vpn")
    found = [one for one in json.loads(host.ok("doctor", "--output", "json")) if one["name"] == "networks"]
    assert [one["ok"] for one in found] == [False, False]
    assert found[0]["detail"] == f"network back: its bridge {bridge} is without 10.95.0.1/24"
    assert found[1]["detail"] == "network back: the host reaches addresses of 10.95.0.0/24 by its link vpn too"
