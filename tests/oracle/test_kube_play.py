"""What goes out to Kubernetes runs under `podman kube play`, files included."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from specrun.bdd.podman import remove_groups
from tests.support.host import Host

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.skipif(not shutil.which("podman"), reason="podman is not installed"),
]

CONFIGURATION = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
"""
"""What podman needs where limits are low and control groups are of both versions."""
SPEC = """apiVersion: specrun/v1
kind: Container
metadata: {name: kube-web, labels: {tier: front}}
spec:
  image: docker.io/library/busybox:latest
  command:
    - sh
    - -c
    - cat /www/index.html /www/other.html; ls /run/secrets; id -u; touch /tmp/x /data/y && echo $A; sleep 99
  env: {A: "$(date)"}
  hostname: kube
  configs: [{source: page, target: /www/index.html}, {source: other, target: /www/other.html}]
  secrets: [{source: password, mode: "0444"}, key]
  volumes: ["kube-data:/data", {type: tmpfs, target: /tmp}]
  resources: {limits: {memory: 64m, cpus: 0.5}}
  security: {readOnlyRootFilesystem: true, capabilities: {drop: [NET_RAW]}}
  healthcheck: {test: [CMD, "true"], interval: 5s}
---
apiVersion: specrun/v1
kind: Volume
metadata: {name: kube-data}
spec: {}
---
apiVersion: specrun/v1
kind: Config
metadata: {name: page}
spec: {content: "the page\\n"}
---
apiVersion: specrun/v1
kind: Config
metadata: {name: other}
spec: {content: "another\\n"}
---
apiVersion: specrun/v1
kind: Secret
metadata: {name: password}
spec: {content: hunter2}
---
apiVersion: specrun/v1
kind: Secret
metadata: {name: key}
spec: {content: abc}
"""


@pytest.fixture
def podman(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The command, over a store of its own; it wants short paths for what it runs."""
    configuration = tmp_path / "containers.conf"
    configuration.write_text(CONFIGURATION)
    monkeypatch.setenv("CONTAINERS_CONF", str(configuration))
    base = ["podman", "--root", f"{host.folder}/p", "--runroot", f"{host.folder}/r", "--storage-driver=vfs"]
    yield base
    subprocess.run([*base, "pod", "rm", "-fa", "-t", "0"], capture_output=True, check=False)
    subprocess.run([*base, "volume", "rm", "-fa"], capture_output=True, check=False)
    subprocess.run(["umount", f"{host.folder}/p/vfs"], capture_output=True, check=False)
    remove_groups()


def test_a_pod_with_files_volumes_and_limits(host: Host, tmp_path: Path, podman: list[str]) -> None:
    spec, objects, archive = (str(tmp_path / name) for name in ("spec.yaml", "kube.yaml", "busybox.tar"))
    Path(spec).write_text(SPEC)
    Path(objects).write_text(host.ok("convert", "--to", "kubernetes", spec))
    host.ok("save", "-o", archive, "busybox")

    def run(*arguments: str) -> str:
        done = subprocess.run([*podman, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("load", "-i", archive)
    run("kube", "play", "--network", "none", objects)
    end = time.monotonic() + 30
    while "$(date)" not in (said := run("logs", "kube-web-kube-web")):
        assert time.monotonic() < end, said
        time.sleep(0.2)
    assert said == "the page\nanother\nkey\npassword\n0\n$(date)\n"
    found = json.loads(run("inspect", "kube-web-kube-web"))[0]
    assert found["State"]["Status"] == "running"
    assert found["HostConfig"]["ReadonlyRootfs"]
    assert found["HostConfig"]["Memory"] == 64 << 20
    assert run("volume", "inspect", "kube-data", "--format", "{{.Name}}") == "kube-data\n"
    run("kube", "down", objects)
