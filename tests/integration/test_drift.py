"""What somebody does behind our back is named by `drift`, and mended by `apply`."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.host import Host

MS_REMOUNT, MS_BIND = 32, 4096
SPEC = """apiVersion: specrun/v1
kind: Secret
metadata: {name: password}
spec: {content: hunter2}
---
apiVersion: specrun/v1
kind: Config
metadata: {name: settings}
spec: {content: "colour: blue"}
---
apiVersion: specrun/v1
kind: Volume
metadata: {name: data}
spec: {keep: false}
---
apiVersion: specrun/v1
kind: Container
metadata: {name: web}
spec:
  image: busybox
  command: [sh, -c, "trap 'exit 0' TERM; while :; do sleep 0.1; done"]
  volumes: ["data:/data:ro"]
  secrets: [password]
  configs: [{source: settings, target: /etc/settings}]
"""


class Applied:
    """A host on which the spec was applied, with the ways to reach behind its back."""

    def __init__(self, host: Host, spec: Path) -> None:
        self.host, self.spec = host, str(spec)
        spec.write_text(SPEC)
        host.ok("apply", self.spec)
        self.id = host.containers()[0]

    @property
    def pid(self) -> int:
        return int(json.loads((self.host.root / f"containers/{self.id}/state.json").read_text())["pid"])

    def group(self, controller: str, file: str) -> Path:
        name = f"specrun-{(self.host.root / 'id').read_text()}-{self.id}"
        one, two = Path(f"/sys/fs/cgroup/{controller}/{name}/{file}"), Path(f"/sys/fs/cgroup/{name}/{file}")
        return one if one.parent.exists() else two

    def mount(self, target: str, flags: int | None) -> None:
        """mount(2) or, without flags, umount(2) inside the container's mount namespace."""
        call = f"libc.mount('none', {target!r}, '', {flags})" if flags is not None else f"libc.umount({target!r})"
        code = (
            "import os; from specrun_runtime import libc; "
            f"libc.setns(os.open('/proc/{self.pid}/ns/mnt', os.O_RDONLY), 0); {call}"
        )
        subprocess.run([sys.executable, "-c", code], check=True)

    def given(self, beginning: str) -> Path:
        return next(self.host.root.glob(f"given/*/web/*/{beginning}*"))


def _limit(controller: str, file: str, text: str) -> Callable[[Applied], object]:
    return lambda applied: applied.group(controller, file).write_text(text)


def _open_files(applied: Applied) -> None:
    resource.prlimit(applied.pid, resource.RLIMIT_NOFILE, (100, 1000))


def _without_volume(applied: Applied) -> None:
    applied.host.ok("rm", "-f", "web")
    applied.host.ok("volume", "rm", "data")


def _without_layers(applied: Applied) -> None:
    for folder in (applied.host.root / "layers").iterdir():
        shutil.rmtree(folder)


def _move_tag(applied: Applied) -> None:
    applied.host.ok("run", "--name", "changed", "--network", "none", "busybox", "touch", "/changed")
    applied.host.ok("commit", "changed", "busybox")
    applied.host.ok("rm", "changed")


EDITS: dict[str, tuple[Callable[[Applied], object], str, str, str]] = {
    "memory": (_limit("memory", "memory.limit_in_bytes", "64M"), "container/web", "resources.limits.memory", "memory"),
    "pids": (_limit("pids", "pids.max", "50"), "container/web", "resources.limits.pids", "pids.max"),
    "cpu": (_limit("cpu", "cpu.cfs_quota_us", "50000"), "container/web", "resources.limits.cpus", "cfs_quota_us"),
    "reservation": (
        _limit("memory", "memory.soft_limit_in_bytes", "32M"),
        "container/web",
        "resources.reservations.memory",
        "soft_limit",
    ),
    "frozen": (_limit("freezer", "freezer.state", "FROZEN"), "container/web", "state", "freezer.state"),
    "oom": (
        lambda one: Path(f"/proc/{one.pid}/oom_score_adj").write_text("500"),
        "container/web",
        "oomScoreAdj",
        "oom_score_adj",
    ),
    "open files": (_open_files, "container/web", "ulimits.nofile", "limits"),
    "remount": (
        lambda one: one.mount("/data", MS_REMOUNT | MS_BIND),
        "container/web",
        "mounts./data",
        "mountinfo",
    ),
    "unmount": (lambda one: one.mount("/data", None), "container/web", "mounts./data", "mountinfo"),
    "unmasked": (
        lambda one: one.mount("/sys", MS_REMOUNT | MS_BIND),
        "container/web",
        "mounts./sys",
        "mountinfo",
    ),
    "config in the container": (
        lambda one: one.given("config.").write_text("colour: red"),
        "container/web",
        "configs.settings",
        "given",
    ),
    "secret in the container": (
        lambda one: one.given("secret.").write_text("12345"),
        "container/web",
        "secrets.password",
        "given",
    ),
    "stored config": (
        lambda one: next(one.host.root.glob("configs/*/settings/*")).write_text("x"),
        "config/settings",
        "content",
        "configs",
    ),
    "config gone": (
        lambda one: next(one.host.root.glob("configs/*/settings/*")).unlink(),
        "config/settings",
        "state",
        "configs",
    ),
    "secret gone": (
        lambda one: next(one.host.root.glob("secrets/*/password/*")).unlink(),
        "secret/password",
        "state",
        "secrets",
    ),
    "volume gone": (_without_volume, "volume/data", "state", "volumes"),
    "killed": (
        lambda one: one.host.ok("kill", "web") and one.host.ok("wait", "web"),
        "container/web",
        "state",
        "state.json",
    ),
    "stopped": (lambda one: one.host.ok("stop", "web"), "container/web", "state", "state.json"),
    "removed": (lambda one: one.host.ok("rm", "-f", "web"), "container/web", "state", "containers"),
    "renamed": (lambda one: one.host.ok("rename", "web", "other"), "container/web", "name", "container.json"),
    "policy": (
        lambda one: one.host.ok("update", "--restart", "always", "web"),
        "container/web",
        "restart",
        "container.json",
    ),
    "update": (
        lambda one: one.host.ok("update", "--memory", "64m", "--memory-swap", "64m", "web"),
        "container/web",
        "resources.limits.memory",
        "memory",
    ),
    "layer": (_without_layers, "container/web", "image.layers", "layers"),
    "tag": (_move_tag, "container/web", "image", "index.json"),
}


@pytest.fixture
def applied(host: Host, tmp_path: Path) -> Applied:
    return Applied(host, tmp_path / "spec.yaml")


def test_no_edit_is_no_drift(applied: Applied) -> None:
    done = applied.host.run("drift", applied.spec)
    assert (done.returncode, done.stdout) == (0, b"no drift: everything that was applied is as it was.\n")


def test_each_edit_is_named_and_mended(applied: Applied) -> None:
    for name, (edit, key, field, source) in EDITS.items():
        edit(applied)
        done = applied.host.run("drift", applied.spec, "--output", "json")
        assert done.returncode == 2, name
        rows = json.loads(done.stdout)["drift"]
        row = next((row for row in rows if (row["object"], row["field"]) == (key, field)), None)
        assert row is not None, (name, rows)
        assert source in row["source"], name
        assert row["wanted"] != row["found"], name
        if name == "memory":
            text = applied.host.run("drift", applied.spec).stdout.decode()
            assert f"{key}  {field}: wanted none, found 67108864" in text
        applied.host.ok("apply", applied.spec)
        after = applied.host.run("drift", applied.spec)
        assert after.returncode == 0, (name, after.stdout)
        applied.id = applied.host.containers()[0]


def test_limits_are_mended_without_a_new_process(applied: Applied) -> None:
    before = applied.pid
    for name in ("memory", "pids", "cpu", "frozen", "config in the container"):
        EDITS[name][0](applied)
    applied.host.ok("apply", applied.spec)
    assert applied.host.run("drift", applied.spec).returncode == 0
    assert applied.pid == before


def test_one_changed_byte_of_a_config_changes_one_container(host: Host, tmp_path: Path) -> None:
    other = SPEC.split("---\n")[-1].replace("name: web", "name: other").replace("configs: [", "configs: [] # [")
    spec = tmp_path / "spec.yaml"
    spec.write_text(f"{SPEC}---\n{other}")
    host.ok("apply", str(spec))
    started = json.loads(host.ok("inspect", "other"))[0]["State"]["StartedAt"]
    spec.write_text(spec.read_text().replace("blue", "blui"))
    plan = json.loads(host.run("plan", str(spec), "--output", "json").stdout)
    acts = {change["object"]: change["action"] for change in plan["changes"] if change["action"] != "keep"}
    assert acts == {"config/settings": "update", "container/web": "replace"}
    host.ok("apply", str(spec))
    assert json.loads(host.ok("inspect", "other"))[0]["State"]["StartedAt"] == started


def test_a_reload_is_a_signal(host: Host, tmp_path: Path) -> None:
    text = SPEC.replace("trap 'exit 0' TERM;", "trap 'exit 0' TERM; trap 'cat /etc/settings' HUP;")
    spec = tmp_path / "spec.yaml"
    spec.write_text(text + "  reload: {signal: HUP}\n")
    host.ok("apply", str(spec))
    identity = host.containers()
    spec.write_text(spec.read_text().replace("blue", "red"))
    assert "reload by HUP" in host.ok("apply", str(spec))
    assert host.containers() == identity
    for _ in range(100):
        if "colour: red" in host.ok("logs", "web"):
            break
    else:
        raise AssertionError("the new content was not read")


def test_secrets_are_shown_nowhere(host: Host, tmp_path: Path) -> None:
    applied = Applied(host, tmp_path / "spec.yaml")
    shown = [
        host.run(*arguments).stdout
        for arguments in (
            ("plan", applied.spec),
            ("plan", applied.spec, "--output", "json"),
            ("plan", applied.spec, "-o", str(tmp_path / "saved.json")),
            ("status", applied.spec),
            ("inspect", "web"),
            ("logs", "web"),
            ("events", "--since", "0", "--until", "0s"),
        )
    ]
    Path(applied.spec).write_text(SPEC.replace("hunter2", "hunter3"))
    shown.append(host.run("plan", applied.spec).stdout)
    shown.append((tmp_path / "saved.json").read_bytes())
    shown += [path.read_bytes() for path in host.root.glob("projects/**/*") if path.is_file()]
    shown += [path.read_bytes() for path in host.root.glob("containers/*/*") if path.is_file()]
    assert not any(b"hunter" in text for text in shown)
    assert os.stat(host.root / "secrets").st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in host.root.glob("secrets/*/*/*"))


PLACES = """apiVersion: specrun/v1
kind: Container
metadata: {{name: one}}
spec: {{image: busybox, command: [sleep, "300"], network: none, stopTimeout: 0{more}}}
"""


def test_the_parent_group_and_the_user_namespace(host: Host, tmp_path: Path) -> None:
    """They are as the kernel has them, take a new container to change, and go when the spec says no more of them."""
    spec = tmp_path / "spec.yaml"
    parents = [f"parent-{letter}-{host.folder.name}" for letter in "ab"]

    def apply(more: str) -> tuple[str, list[str], bool]:
        """What the plan says, the groups of the first process, and whether its user namespace is the host's."""
        spec.write_text(PLACES.format(more=more))
        said = host.run("plan", str(spec)).stdout.decode()
        host.ok("apply", str(spec))
        assert host.run("plan", str(spec)).returncode == 0, more
        pid = host.ok("inspect", "-f", "{{.State.Pid}}", "one").strip()
        groups = [line.split(":", 2)[2] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
        return said, groups, os.readlink(f"/proc/{pid}/ns/user") == os.readlink("/proc/self/ns/user")

    _, groups, is_of_host = apply(f", cgroupParent: {parents[0]}, security: {{userns: private}}")
    assert all(group.startswith(f"/{parents[0]}/specrun-") for group in groups) and not is_of_host
    assert host.run("drift", str(spec)).returncode == 0
    said, groups, is_of_host = apply(f", cgroupParent: /{parents[1]}, security: {{userns: host}}")
    assert "replace  cgroupParent, security.userns cannot change in place" in said
    assert all(group.startswith(f"/{parents[1]}/specrun-") for group in groups) and is_of_host
    said, groups, is_of_host = apply("")
    assert f'cgroupParent: "/{parents[1]}" -> (nothing)' in said
    assert all(group.startswith("/specrun-") for group in groups) and is_of_host
    assert [path for path, _, _ in os.walk("/sys/fs/cgroup") if host.folder.name in path] == []
    host.ok("delete", str(spec))
