"""What a container sees, field by field, against what Docker gives one here."""

from __future__ import annotations

import json
import os
import resource
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.support.corpora import shared
from tests.support.host import Host


@pytest.fixture(scope="module")
def docker() -> dict[str, Any]:
    defaults: dict[str, Any] = json.loads(shared("docker-defaults.json").read_text())["default"]
    return defaults


def test_capabilities_and_signals(host: Host, docker: dict[str, Any]) -> None:
    status = host.ok("run", "--rm", "busybox", "cat", "/proc/self/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    for name, value in {**docker["caps_hex"], **docker["signals"]}.items():
        assert fields[name] == value, name
    assert fields["NoNewPrivs"] == docker["NoNewPrivs"]


def test_mounts(host: Host, docker: dict[str, Any]) -> None:
    text = host.ok("run", "--rm", "busybox", "cat", "/proc/self/mountinfo")
    found = {}
    for line in text.splitlines():
        left, right = line.split(" - ")
        found[left.split()[4]] = (right.split()[0], set(left.split()[5].split(",")))
    wanted = {mount["target"]: (mount["fstype"], set(mount["opts"].split(","))) for mount in docker["mounts"]}
    # Stricter by choice (docs/differences.md): no devices on the root, a read-only folder of control groups, and
    # /proc/interrupts masked as newer Dockers do.
    wanted["/"] = ("overlay", wanted["/"][1] | {"nodev"})
    wanted["/sys/fs/cgroup"] = ("tmpfs", wanted["/sys/fs/cgroup"][1] - {"rw"} | {"ro"})
    wanted["/proc/interrupts"] = wanted["/proc/keys"]
    backing = found["/etc/hosts"][0]
    for name in ("hosts", "hostname", "resolv.conf"):
        wanted[f"/etc/{name}"] = (backing, wanted[f"/etc/{name}"][1])
    assert found == wanted


def test_devices(host: Host, docker: dict[str, Any]) -> None:
    script = 'cd /dev; for f in * pts/*; do stat -c "%n %f %u %g %t:%T" $f; done; for l in fd stdin stdout stderr ptmx;'
    text = host.ok("run", "--rm", "busybox", "sh", "-c", f"{script} do readlink $l; done")
    lines = text.splitlines()
    found = {line.split()[0]: line.split()[1:] for line in lines[:-5]}
    assert set(found) == {*docker["dev"]["/dev"], "pts/ptmx"}
    for name, facts in docker["dev"]["/dev"].items():
        if "rdev" in facts:
            major, minor = facts["rdev"].split(":")
            assert found[name][3] == f"{int(major):x}:{int(minor):x}", name
            assert int(found[name][0], 16) == int(facts["mode"], 8), name
    links = [docker["dev"]["/dev"][name]["link"] for name in ("fd", "stdin", "stdout", "stderr", "ptmx")]
    assert lines[-5:] == links


def test_masked_and_read_only_paths(host: Host) -> None:
    script = "wc -c < /proc/keys; ls /sys/firmware /proc/acpi; echo 1 > /proc/sys/kernel/core_pattern"
    done = host.run("run", "--rm", "busybox", "sh", "-c", script)
    assert done.stdout.split() == [b"0", b"/proc/acpi:", b"/sys/firmware:"]
    assert b"Read-only file system" in done.stderr


def test_what_may_be_opened(host: Host, docker: dict[str, Any]) -> None:
    script = 'for f; do [ -e $f ] || continue; stat -c "=%n %f" $f; (: <$f) 2>&1; [ -d $f ] || (: >>$f) 2>&1; done; :'
    text = host.ok("run", "--rm", "--network", "none", "busybox", "sh", "-c", script, "sh", *docker["access"])
    found = {}
    for part in text.split("=")[1:]:
        head, *errors = part.splitlines()
        path, mode = head.split()
        found[path] = (int(mode, 16), sorted(error.rpartition(": ")[2] for error in errors))
    wanted = {}
    for path, facts in docker["access"].items():
        mode = int(facts["mode"], 8)
        refused = [facts["open_r"], *([] if stat.S_ISDIR(mode) else [facts["open_w"]])]
        if facts["stat"] == "ok":
            wanted[path] = (mode, sorted(WORDS[word] for word in refused if word != "ok"))
    wanted["/proc/interrupts"] = wanted["/proc/keys"]  # chosen: docs/differences.md
    assert found == wanted


WORDS = {"EACCES": "Permission denied", "EPERM": "Operation not permitted", "EROFS": "Read-only file system"}


def test_sizes_of_file_systems_in_memory(host: Host, docker: dict[str, Any]) -> None:
    names = [name for name, facts in docker["statfs"].items() if facts["type"] == "0x1021994"]
    text = host.ok("run", "--rm", "--network", "none", "busybox", "stat", "-f", "-c", "%n %s %b", *names)
    found = {name: int(size) * int(blocks) for name, size, blocks in (line.split() for line in text.splitlines())}
    wanted = {name: docker["statfs"][name]["bsize"] * docker["statfs"][name]["blocks"] for name in names}
    assert found == {**wanted, "/sys/fs/cgroup": 1 << 20}  # chosen: docs/differences.md


def test_kernel_parameters_of_the_network(host: Host, docker: dict[str, Any]) -> None:
    for path in ("/proc/sys/net/ipv4/ping_group_range", "/proc/sys/net/ipv4/ip_unprivileged_port_start"):
        assert host.ok("run", "--rm", "busybox", "cat", path) == docker["files"][path]


def test_descriptors_umask_and_session(host: Host) -> None:
    inherited = os.open("/", os.O_RDONLY)
    os.set_inheritable(inherited, True)
    previous = os.umask(0o077)
    try:
        text = host.ok("run", "--rm", "busybox", "sh", "-c", "ls /proc/1/fd; umask; cut -d' ' -f6 /proc/1/stat")
    finally:
        os.umask(previous)
        os.close(inherited)
    assert text.split() == ["0", "1", "2", "0022", "1"]


def test_every_namespace_is_new(host: Host) -> None:
    kinds = ("cgroup", "ipc", "mnt", "net", "pid", "uts")
    text = host.ok(
        "run", "--rm", "busybox", "sh", "-c", "for n in $0; do readlink /proc/self/ns/$n; done", " ".join(kinds)
    )
    for kind, inside in zip(kinds, text.split(), strict=True):
        assert inside.startswith(f"{kind}:["), inside
        assert inside != os.readlink(f"/proc/self/ns/{kind}")


def test_it_is_the_first_process_and_sees_no_other(host: Host) -> None:
    lines = host.ok("run", "--rm", "busybox", "ps").splitlines()
    assert [line.split()[0] for line in lines] == ["PID", "1"]


def test_loopback_is_up_and_alone(host: Host) -> None:
    text = host.ok("run", "--rm", "--net", "none", "busybox", "ifconfig", "-a")
    assert text.startswith("lo ")
    assert "UP LOOPBACK RUNNING" in text
    assert "eth0" not in text


def test_devices_cannot_be_opened_even_when_made(host: Host) -> None:
    script = "mknod /mem c 1 1 && cat /mem; mknod /dev/tun c 10 200 && cat /dev/tun"
    done = host.run("run", "--rm", "busybox", "sh", "-c", script)
    assert done.returncode != 0
    assert done.stderr.count(b"not permitted") + done.stderr.count(b"Permission denied") == 2


def test_control_groups_are_its_own_and_read_only(host: Host) -> None:
    script = "cat /proc/self/cgroup; mkdir /sys/fs/cgroup/x; mkdir /sys/fs/cgroup/*/x"
    done = host.run("run", "--rm", "busybox", "sh", "-c", script)
    assert all(line.endswith(b":/") for line in done.stdout.splitlines())
    assert done.returncode == 1
    assert b"Read-only file system" in done.stderr


def test_whatever_else_docker_was_measured_for(host: Host, docker: dict[str, Any]) -> None:
    """Limits, environment, filter, descriptors and namespaces; any difference but the chosen ones is printed."""
    names = [name for name, text in docker["files"].items() if isinstance(text, str) and name not in DIFFERENT]
    options = ("--network", "none", "--hostname", "ID12", "--name", "c")
    script = 'for f; do echo "=$f"; cat $f; echo; done'
    text = host.ok("run", "--rm", *options, "busybox", "sh", "-c", script, "sh", *names)
    files = {part.partition("\n")[0]: part.partition("\n")[2] for part in f"\n{text}=".split("\n=")[1:-1]}
    host.ok("run", "-d", *options, "busybox", "sleep", "1000")
    pid = json.loads(host.ok("inspect", "c"))[0]["State"]["Pid"]
    found: dict[str, Any] = {
        "rlimits": {name: list(resource.prlimit(pid, _number(name))) for name in docker["rlimits"]},
        "env": sorted(Path(f"/proc/{pid}/environ").read_text().rstrip("\0").split("\0")),
        "fds": sorted(os.listdir(f"/proc/{pid}/fd")),
        "namespaces": {
            name: "host" if os.readlink(f"/proc/{pid}/ns/{name}") == os.readlink(f"/proc/self/ns/{name}") else "private"
            for name in docker["namespaces"]
            if not name.endswith("_for_children")
        },
        "status": {name: _status(pid)[name] for name in ("Seccomp", "Seccomp_filters", "NoNewPrivs")},
        "files": files,
        "umask": _status(pid)["Umask"],
        "groups": [int(word) for word in _status(pid)["Groups"].split()],
    }
    host.ok("rm", "-f", "c")
    wanted: dict[str, Any] = {
        "rlimits": {name: _reachable(name, limits) for name, limits in docker["rlimits"].items()},
        "env": [entry.replace("<ID12>", "ID12") for entry in docker["env"]],
        "fds": sorted(docker["fds"]),
        # Chosen: docs/differences.md.
        "namespaces": {**{name: docker["namespaces"][name] for name in found["namespaces"]}, **CHOSEN_NAMESPACES},
        "status": {name: str(docker[name]) for name in ("Seccomp", "Seccomp_filters", "NoNewPrivs")},
        "files": {name: docker["files"][name].replace("<ID12>", "ID12") for name in names},
        "umask": docker["umask"],
        "groups": docker["groups"],
    }
    differences = {key: (found[key], wanted[key]) for key in wanted if found[key] != wanted[key]}
    assert differences == {}, "\n".join(f"{key}: found {a}\n  Docker has {b}" for key, (a, b) in differences.items())


CHOSEN_NAMESPACES = {"cgroup": "private", "time": "private"}
DIFFERENT = {
    "/etc/hosts": "the addresses of its networks",
    "/etc/resolv.conf": "the host's",
    "/proc/self/cgroup": "compared above",
    "/proc/sys/net/ipv6/conf/all/disable_ipv6": "a bridge network's",
    "/proc/sys/net/ipv6/conf/default/disable_ipv6": "a bridge network's",
    "/proc/sys/net/ipv6/conf/eth0/disable_ipv6": "a bridge network's",
    "/proc/sys/net/ipv4/ip_forward": "a bridge network's",
    "/proc/1/environ": "compared as env",
    "/proc/1/comm": "the probe's name",
    "/proc/self/oom_score_adj": "may not be lowered below this test's own",
}
"""Files that another test compares, or that differ by where the test runs."""


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _number(name: str) -> int:
    return 10 if name == "RLIMIT_LOCKS" else int(getattr(resource, name))


def _reachable(name: str, limits: list[int]) -> list[int]:
    """Docker's limit, as far as this process may set it: it was measured on a machine with limits of its own."""
    if name in INHERITED:
        return list(resource.getrlimit(_number(name)))
    ceiling = resource.getrlimit(_number(name))[1]
    if name in ("RLIMIT_NOFILE", "RLIMIT_NPROC"):  # as high as may be: 20000 and 96365 there
        most = 1048576 if name == "RLIMIT_NOFILE" else -1
        hard = most if ceiling == -1 else ceiling if most == -1 else min(most, ceiling)
        return [hard, hard]
    return limits


INHERITED = ("RLIMIT_SIGPENDING", "RLIMIT_MSGQUEUE")
