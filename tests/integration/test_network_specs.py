"""Networks and ports in specs: made, changed without a new process, and mended."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.support.host import Host

SPEC = """apiVersion: specrun/v1
kind: Network
metadata: {name: inner}
spec: {ipam: {config: [{subnet: 10.77.0.0/24}]}}
---
apiVersion: specrun/v1
kind: Container
metadata: {name: web}
spec:
  image: busybox
  command: [sh, -c, "trap 'exit 0' TERM; while :; do sleep 0.1; done"]
  ports: ["18080:80"]
  networks: [inner]
"""


def pid(host: Host) -> int:
    return int(json.loads(host.ok("inspect", "web"))[0]["State"]["Pid"])


def nft(*arguments: str) -> str:
    return subprocess.run(["nft", *arguments], check=True, capture_output=True, text=True).stdout


def test_ports_and_networks_change_in_place(host: Host, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(SPEC)
    host.ok("apply", str(spec))
    assert host.run("drift", str(spec)).returncode == 0
    before = pid(host)
    spec.write_text(SPEC.replace('["18080:80"]', '["18081:81", "18082:82/udp"]').replace("[inner]", "[inner, other]")
                    + "---\napiVersion: specrun/v1\nkind: Network\nmetadata: {name: other}\nspec: {}\n")  # fmt: skip
    host.ok("apply", str(spec))
    assert pid(host) == before
    assert sorted(host.ok("port", "web").split("\n")[:1])[0].startswith("81/tcp")
    assert set(json.loads(host.ok("inspect", "web"))[0]["NetworkSettings"]["Networks"]) == {"inner", "other"}
    assert host.run("plan", str(spec)).returncode == 0
    spec.write_text(SPEC)
    host.ok("apply", "--prune", str(spec))
    assert pid(host) == before
    assert "other" not in host.ok("network", "ls", "--format", "{{.Name}}").split()
    host.ok("delete", str(spec))
    assert "inner" not in host.ok("network", "ls", "--format", "{{.Name}}").split()


def test_links_routes_and_rules_are_observed(host: Host, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(SPEC.replace("10.77", "10.78").replace("18080", "18083"))
    host.ok("apply", str(spec))
    table = f"specrun_{(host.root / 'id').read_text()}"
    inside = ["nsenter", "-n", "-t"]

    def edits() -> dict[str, list[str]]:
        process = str(pid(host))
        outer = next(
            line.split(": ")[1].split("@")[0]
            for line in subprocess.check_output(["ip", "-o", "link"], text=True).splitlines()
            if f": v{table[8:]}" in line
        )
        bridge = json.loads(subprocess.check_output(["ip", "-j", "link", "show", outer]))[0]["master"]
        return {
            "networks.inner.address": [*inside, process, "ip", "addr", "flush", "dev", "eth0"],
            "networks.gateway": [*inside, process, "ip", "route", "del", "default"],
            "networks.inner.link": ["ip", "link", "set", outer, "nomaster"],
            "state": ["ip", "address", "flush", "dev", bridge],
            "ports.0.0.0.0:18083/tcp": ["nft", "flush", "map", "inet", table, "any4"],
            "ports.rules": ["nft", "flush", "table", "inet", table],
        }

    port, rules = "ports.0.0.0.0:18083/tcp", "ports.rules"
    for fields in (("networks.gateway", "networks.inner.link"), ("networks.inner.address", "state"), (port,), (rules,)):
        for field in fields:
            subprocess.run(edits()[field], check=True)
        rows = json.loads(host.run("drift", str(spec), "--output", "json").stdout)["drift"]
        assert {row["field"] for row in rows} >= set(fields), rows
        host.ok("apply", str(spec))
        done = host.run("drift", str(spec))
        assert done.returncode == 0, (fields, done.stdout)
