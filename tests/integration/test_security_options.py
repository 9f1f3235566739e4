"""The options of run that are about what a container may do, and our stricter choices, each switched off by name."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from specrun.engine.security import CHOICES
from tests.support.host import Host

RUN = ("run", "--rm", "--network", "none")
HAVE = "grep -E 'CapEff|CapBnd|Seccomp:|NoNewPrivs' /proc/self/status"
DEFAULT = 0xA80425FB


def fields(host: Host, *options: str) -> dict[str, str]:
    text = host.ok(*RUN, *options, "busybox", "sh", "-c", HAVE)
    return dict(line.split() for line in text.splitlines())


def test_capabilities_as_docker_counts_them(host: Host) -> None:
    for options, wanted in (
        ((), DEFAULT),
        (("--cap-add", "net_admin"), DEFAULT | 1 << 12),
        (("--cap-drop", "CAP_CHOWN", "--cap-drop", "kill"), DEFAULT & ~(1 | 1 << 5)),
        (("--cap-drop", "ALL"), 0),
        (("--cap-drop", "ALL", "--cap-add", "CHOWN"), 1),
    ):
        found = fields(host, *options)
        assert (int(found["CapEff:"], 16), int(found["CapBnd:"], 16)) == (wanted, wanted), options
        assert found["Seccomp:"] == "2"
    ours = int(Path("/proc/self/status").read_text().split("CapBnd:\t")[1].split()[0], 16)
    assert int(fields(host, "--cap-add", "ALL")["CapEff:"], 16) == ours
    assert int(fields(host, "--cap-add", "ALL", "--cap-drop", "SYS_ADMIN")["CapEff:"], 16) == ours & ~(1 << 21)
    done = host.run(*RUN, "--cap-add", "MOON", "busybox", "true")
    assert (done.returncode, b'unknown capability: "CAP_MOON"' in done.stderr) == (125, True)


def test_capabilities_have_their_effect(host: Host) -> None:
    assert host.run(*RUN, "--cap-drop", "CHOWN", "busybox", "chown", "1", "/etc").returncode == 1
    assert host.run(*RUN, "busybox", "chown", "1", "/etc").returncode == 0
    assert host.run(*RUN, "busybox", "mount", "-t", "tmpfs", "x", "/tmp").returncode != 0
    assert host.run(*RUN, "--cap-add", "SYS_ADMIN", "busybox", "mount", "-t", "tmpfs", "x", "/tmp").returncode == 0


def test_privileged(host: Host) -> None:
    script = f"{HAVE}; mount -t tmpfs x /tmp && echo mounted; ls /dev | wc -l; touch /proc/sys/kernel/core_pattern"
    found = host.ok(*RUN, "--privileged", "busybox", "sh", "-c", script).split()
    ours = Path("/proc/self/status").read_text().split("CapBnd:\t")[1].split()[0]
    assert found[found.index("CapEff:") + 1] == ours
    assert found[found.index("Seccomp:") + 1] == "0"
    assert "mounted" in found
    assert int(found[-1]) > 16


def test_read_only(host: Host) -> None:
    script = "touch /x; touch /etc/hosts; touch /dev/shm/x && echo shm"
    done = host.run(*RUN, "--read-only", "busybox", "sh", "-c", script)
    assert done.stdout == b"shm\n"
    assert done.stderr.count(b"Read-only file system") == 2


def test_no_new_privileges(host: Host) -> None:
    for word, value in (("no-new-privileges", "1"), ("no-new-privileges:true", "1"), ("no-new-privileges=false", "0")):
        assert fields(host, "--security-opt", word)["NoNewPrivs:"] == value


def test_a_profile_of_ones_own(host: Host, tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EXDEV}
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))
    done = host.run(*RUN, "--security-opt", f"seccomp={profile}", "busybox", "mkdir", "/x")
    assert b"Invalid cross-device link" in done.stderr
    assert fields(host, "--security-opt", "seccomp=unconfined")["Seccomp:"] == "0"
    profile.write_text("{")
    done = host.run(*RUN, "--security-opt", f"seccomp={profile}", "busybox", "true")
    assert (done.returncode, b"is not one" in done.stderr) == (125, True), done.stderr
    done = host.run(*RUN, "--security-opt", "seccomp=/no/such", "busybox", "true")
    assert (done.returncode, b"No such file" in done.stderr) == (125, True)


@pytest.mark.parametrize("option", ["moon", "apparmor=x", "specrun.moon=off", "specrun.tun=maybe", "label=type:x"])
def test_an_unknown_option_is_refused(host: Host, option: str) -> None:
    done = host.run(*RUN, "--security-opt", option, "busybox", "true")
    assert done.returncode == 125
    assert b"invalid --security-opt" in done.stderr


def test_shared_namespaces(host: Host) -> None:
    script = "for n in pid ipc uts cgroup; do readlink /proc/self/ns/$n; done"
    options = ("--pid", "host", "--ipc", "host", "--uts", "host", "--cgroupns", "host")
    shared = host.ok(*RUN, *options, "busybox", "sh", "-c", script).split()
    assert shared == [os.readlink(f"/proc/self/ns/{kind}") for kind in ("pid", "ipc", "uts", "cgroup")]
    assert host.ok(*RUN, "--uts", "host", "busybox", "hostname").strip() == os.uname().nodename
    other = host.ok("run", "-d", "--network", "none", "--name", "other", "busybox", "sleep", "1000").strip()
    text = host.ok(*RUN, "--pid", "container:other", "busybox", "ps")
    assert "sleep 1000" in text
    done = host.run(*RUN, "--pid", "container:nobody", "busybox", "true")
    assert (done.returncode, b"No such container: nobody" in done.stderr) == (125, True)
    host.ok("rm", "-f", other)


def test_inspect_shows_what_was_asked_for(host: Host) -> None:
    options = ("--cap-add", "NET_ADMIN", "--cap-drop", "chown", "--security-opt", "no-new-privileges", "--read-only")
    host.ok("create", "--network", "none", "--name", "c", *options, "busybox", "true")
    config = json.loads(host.ok("inspect", "c"))[0]["HostConfig"]
    assert (config["CapAdd"], config["CapDrop"]) == (["CAP_NET_ADMIN"], ["CAP_CHOWN"])
    assert (config["SecurityOpt"], config["ReadonlyRootfs"]) == (["no-new-privileges"], True)


PROBE = """
cat /sys/fs/cgroup/pids/pids.max
readlink /proc/self/ns/cgroup; readlink /proc/self/ns/time
mknod /dev/tun c 10 200; (: < /dev/tun) 2>/dev/null && echo tun
[ -n "$(head -c 1 /proc/interrupts)" ] && echo interrupts
grep -q ' / / .*nodev' /proc/self/mountinfo || echo devices
mkdir /sys/fs/cgroup/x 2>/dev/null && echo cgroup-tmpfs
true
"""


def answers(host: Host, *options: str) -> dict[str, bool]:
    """Choice -> whether the container is as lax as Docker's."""
    limit, group, clock, *rest = host.ok(*RUN, *options, "busybox", "sh", "-c", PROBE).split()
    return {
        "pids-limit": limit == "max",
        "cgroup-namespace": group == os.readlink("/proc/self/ns/cgroup"),
        "time-namespace": clock == os.readlink("/proc/self/ns/time"),
        "tun": "tun" in rest,
        "masked-paths": "interrupts" in rest,
        "nodev": "devices" in rest,
        "cgroup-tmpfs": "cgroup-tmpfs" in rest,
    }


FILTERED = {"io-uring", "af-vsock", "af-alg"}


def test_each_stricter_choice_holds_and_can_be_switched_off(host: Host) -> None:
    names = set(CHOICES) - FILTERED
    assert answers(host) == dict.fromkeys(names, False)
    for name in sorted(names):
        assert answers(host, "--security-opt", f"specrun.{name}=off") == {**dict.fromkeys(names, False), name: True}
    assert answers(host, "--security-opt", "specrun.all=off") == dict.fromkeys(names, True)
    assert not answers(host, "--security-opt", "specrun.all=off", "--security-opt", "specrun.tun=on")["tun"]


FAMILIES = """
import ctypes, json
l = ctypes.CDLL(None, use_errno=True)
def tried(number, *arguments):
    ctypes.set_errno(0)
    l.syscall(number, *arguments)
    return ctypes.get_errno()
print(json.dumps({'io-uring': tried(425, 1, 0), 'af-alg': tried(41, 38, 5, 0), 'af-vsock': tried(41, 40, 1, 0)}))
"""


def test_what_the_filter_refuses_can_be_switched_off(host: Host) -> None:
    usr = ("-v", "/usr:/host/usr:ro", "-v", "/lib:/lib:ro", "-v", "/lib64:/lib64:ro", "-v", "/usr:/usr:ro")

    def refused(*options: str) -> set[str]:
        text = host.ok(*RUN, *usr, *options, "busybox", "/usr/bin/python3", "-ISc", FAMILIES)
        return {name for name, number in json.loads(text).items() if number == errno.EPERM}

    assert refused() == FILTERED
    for name in sorted(FILTERED):
        assert refused("--security-opt", f"specrun.{name}=off") == FILTERED - {name}
    assert refused("--security-opt", "specrun.all=off") == set()
