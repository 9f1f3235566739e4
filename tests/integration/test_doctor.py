"""What a host lacks is said, by doctor and by the command that fails."""

from __future__ import annotations

import json
import subprocess

from tests.support.host import COMMAND, Host


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
