"""A project can go back to what it was."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.host import Host

SPEC = """apiVersion: specrun/v1
kind: Secret
metadata: {name: password}
spec: {content: %s}
---
apiVersion: specrun/v1
kind: Job
metadata: {name: say}
spec: {image: busybox, network: none, command: [cat, /run/secrets/password], secrets: [password]}
"""


def test_rolling_back(host: Host, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    for content in ("first", "second", "second"):
        spec.write_text(SPEC % content)
        host.ok("apply", str(spec))
    assert [one["number"] for one in json.loads(host.ok("revisions", str(spec), "--output", "json"))] == [2, 1]
    assert host.run("rollback", "--plan", str(spec)).returncode == 2
    assert host.ok("logs", "say") == "second"
    assert host.ok("rollback", str(spec)).startswith("revision 1 of project spec:")
    assert host.ok("logs", "say") == "first"
    assert host.run("rollback", "--plan", "spec", "1").returncode == 0
    done = host.run("rollback", "spec", "9")
    assert done.returncode == 1
    assert b"has no revision 9" in done.stderr
    assert not any(b"first" in path.read_bytes() for path in host.root.glob("projects/*.revisions/*"))
    host.ok("delete", str(spec))
    assert list(host.root.glob("projects/*")) == []
