"""Options of `build` about RUN steps and base images, and the fields of a Build that are the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.host import Host
from tests.support.images import spoiled
from tests.support.registries import own_registry


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    folder.mkdir()
    return folder


def build(host: Host, context: Path, text: str, *options: str) -> str:
    (context / "Dockerfile").write_text(text)
    return host.ok("build", "--network=none", "-t", "image", *options, str(context))


def inside(host: Host, command: str, image: str = "image") -> str:
    return host.ok("run", "--rm", "--network=none", image, "sh", "-c", command)


def publish(host: Host, name: str, text: str) -> None:
    """Let the registry have an image of this name with `text` in its file `/version`, and not the store."""
    spoiled(host, name, fill=lambda tree: (tree / "version").write_text(text))
    host.ok("push", "-q", name)
    host.ok("rmi", "-f", name)


def test_hosts_of_steps_are_in_the_key_of_the_cache(host: Host, context: Path) -> None:
    text = "FROM busybox\nRUN cp /etc/hosts /kept\n"
    build(host, context, text, "--add-host", "one.example:192.0.2.1", "--add-host", "two.example:192.0.2.2")
    assert "192.0.2.1\tone.example\n192.0.2.2\ttwo.example\n" in inside(host, "cat /kept")
    assert "Using cache" not in build(host, context, text, "--add-host", "one.example:192.0.2.3")
    assert "Using cache" in build(host, context, text, "--add-host", "one.example:192.0.2.3")
    done = host.run("build", "--add-host", "x", str(context))
    assert (done.returncode, b'bad format for add-host: "x"' in done.stderr) == (125, True), done.stderr


def test_limits_of_steps(host: Host, context: Path) -> None:
    text = (
        "FROM busybox\nRUN ulimit -n > /files; df -k /dev/shm | tail -1 > /shm; cat /proc/self/cgroup > /groups;"
        " cat /sys/fs/cgroup/memory/memory.limit_in_bytes > /memory\n"
    )
    options = ("-m", "64m", "--shm-size", "1m", "--ulimit", "nofile=100:200", "--cgroup-parent", "/sro-build")
    build(host, context, text, *options)
    assert inside(host, "cat /files /memory").split() == ["100", str(64 << 20)]
    assert "1024" in inside(host, "cat /shm").split()
    assert not list(Path("/sys/fs/cgroup").glob("*/sro-build"))
    for wrong, message in ((("-m", "1m"), "Minimum memory limit"), (("--ulimit", "x=1"), "invalid ulimit type: x")):
        done = host.run("build", *wrong, str(context))
        assert (done.returncode, message in done.stderr.decode(), done.stdout) == (125, True, b""), done


def test_newer_bases_are_pulled(host: Host, context: Path, tmp_path: Path) -> None:
    with own_registry(tmp_path / "storage") as address:
        base = f"{address}/base:v1"
        text = f"FROM {base}\nRUN cp /version /first\nFROM {base} AS second\nCOPY --from=0 /first /\n"
        publish(host, base, "one")
        build(host, context, text)
        publish(host, base, "two")
        host.ok("pull", "-q", base)
        publish(host, base, "three")
        spoiled(host, base, fill=lambda tree: (tree / "version").write_text("here"))
        build(host, context, text)
        assert inside(host, "cat /first") == "here"
        build(host, context, text, "--pull")
        assert inside(host, "cat /first /version") == "threethree"
        assert "Using cache" in build(host, context, text, "--pull")
        host.ok("tag", base, f"{address}/unknown:v1")
        (context / "Dockerfile").write_text(f"FROM {address}/unknown:v1\n")
        done = host.run("build", "--pull", str(context))
        assert done.returncode == 1 and f"{context}/Dockerfile:1:6" in done.stderr.decode(), done.stderr


def test_a_build_that_looks_for_newer_bases(host: Host, context: Path, tmp_path: Path) -> None:
    with own_registry(tmp_path / "storage") as address:
        base = f"{address}/base:v1"
        publish(host, base, "one")
        spec = tmp_path / "spec.yaml"
        spec.write_text(f"""apiVersion: specrun/v1
kind: Build
metadata: {{name: middle}}
spec: {{tags: [middle], dockerfileInline: "FROM {base}\\nRUN grep one.example /etc/hosts > /hosts", pull: true,
  network: none, extraHosts: {{one.example: 192.0.2.1}}, shmSize: 1m}}
---
apiVersion: specrun/v1
kind: Build
metadata: {{name: last}}
spec: {{tags: [last], dockerfileInline: "FROM middle\\nRUN cp /version /kept", pull: true, network: none}}
""")
        host.ok("apply", str(spec))
        assert inside(host, "cat /kept /hosts", "last") == "one192.0.2.1\tone.example\n"
        assert host.run("plan", str(spec)).returncode == 0
        publish(host, base, "two")
        plan = host.run("plan", str(spec))
        assert plan.returncode == 2 and b"middle" in plan.stdout
        host.ok("apply", str(spec))
        assert inside(host, "cat /version", "middle") == "two"
        assert host.run("plan", str(spec)).returncode == 0
    assert host.run("plan", str(spec)).returncode == 0, "a registry that does not answer is no change"
    host.ok("delete", str(spec))
