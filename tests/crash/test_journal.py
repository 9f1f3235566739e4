"""`kill -9` at each journalled step of an apply in turn: the next apply converges, and nothing is orphaned."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.host import COMMAND, Host

SPEC = """apiVersion: specrun/v1
kind: Config
metadata: {name: settings}
spec: {content: "%s"}
---
apiVersion: specrun/v1
kind: Job
metadata: {name: first}
spec: {image: busybox, network: none, command: [echo, first], configs: [settings]}
---
apiVersion: specrun/v1
kind: Container
metadata: {name: second}
spec:
  image: busybox
  network: none
  command: [sh, -c, "trap 'exit 0' TERM; while :; do sleep 0.1; done"]
  dependsOn: [{job: first}]
  configs: [settings]
"""


def killed_at(host: Host, call: str, number: int, spec: str) -> bool:
    """Apply under strace: killed at the `number`th such call of the command, its workers or monitors.

    False when there are no more such calls. strace itself would wait for the containers: it is ended after a while.
    """
    tracer = subprocess.Popen(
        ["strace", "-f", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={number}",
         COMMAND, "apply", "--parallel", "2", spec],
        env=host.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        return tracer.wait(6) != 0
    except subprocess.TimeoutExpired:
        tracer.kill()  # its tracees go on without it
        tracer.wait(10)
        return False


@pytest.mark.parametrize("call", ["fdatasync", "rename"])
def test_the_next_apply_converges(host: Host, tmp_path: Path, call: str) -> None:
    spec = tmp_path / "spec.yaml"
    for number in range(1, 12):
        spec.write_text(SPEC % "one")
        host.ok("apply", str(spec))
        spec.write_text(SPEC % "two")  # replaces both containers
        died = killed_at(host, call, number, str(spec))
        host.ok("apply", str(spec))
        assert host.run("plan", str(spec)).returncode == 0, number
        assert sorted(host.ok("ps", "-a", "--format", "{{.Names}}").split()) == ["first", "second"], number
        assert len(list(host.root.glob("given/*/*/*"))) == 2, number
        host.ok("delete", str(spec))
        assert host.leftovers() == [], number
        assert list(host.root.glob("given/*")) + list(host.root.glob("configs/*")) == [], number
        if not died:
            return
