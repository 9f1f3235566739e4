"""Every field of config.json that has an effect, looked at from inside the container by a probe."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from specrun_runtime.container import Container
from tests.support.oci import PYTHON, Runtime, until

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs root")

STATUS = "answer = dict(l.rstrip('\\n').split(':\\t', 1) for l in open('/proc/self/status') if ':\\t' in l)"
MOUNTS = """
answer = {}
for line in open('/proc/self/mountinfo'):
    left, right = line.rstrip().split(' - ')
    words = left.split()
    answer[words[4]] = [right.split()[0], words[5].split(','), ' '.join(words[6:]), right.split()[2].split(',')]
"""
TRY = """
def tried(act, *arguments, **options):
    try:
        act(*arguments, **options)
        return 0
    except OSError as error:
        return error.errno
"""


# process


def test_arguments_environment_and_folder(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.process.update(cwd="/new/folder", env=["A=1", "B=x=y", "EMPTY="])
    (bundle.rootfs / "new/folder").mkdir(parents=True)
    code = "answer = [sys.argv, os.getcwd(), dict(os.environ)]"
    argv, folder, environment = runtime.probe(bundle, code)
    assert (argv, folder) == (["-c"], "/new/folder")
    assert {name: environment[name] for name in ("A", "B", "EMPTY")} == {"A": "1", "B": "x=y", "EMPTY": ""}
    assert "PATH" not in environment


def test_user_groups_and_umask(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.process["user"] = {"uid": 12, "gid": 34, "umask": 0o27, "additionalGids": [56, 78]}
    status = runtime.probe(bundle, STATUS)
    assert status["Uid"].split() == ["12"] * 4
    assert status["Gid"].split() == ["34"] * 4
    assert status["Groups"].split() == ["56", "78"]
    assert status["Umask"] == "0027"


def test_the_five_sets_of_capabilities(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    names = {"CAP_CHOWN": 0, "CAP_KILL": 5, "CAP_NET_RAW": 13, "CAP_SYS_CHROOT": 18}
    all_of_them = list(names)
    bundle.process["capabilities"] = {
        "bounding": all_of_them,
        "permitted": all_of_them[:3],
        "inheritable": all_of_them[:3],
        "effective": all_of_them[:2],
        "ambient": ["CAP_CHOWN"],
    }
    bundle.process["user"] = {"uid": 9, "gid": 9}

    def bits(*chosen: str) -> str:
        return f"{sum(1 << names[name] for name in chosen):016x}"

    status = runtime.probe(bundle, STATUS)
    # After the exec, another user than root has the ambient set and no more (capabilities(7)).
    assert status["CapBnd"] == bits(*all_of_them)
    assert status["CapInh"] == bits(*all_of_them[:3])
    assert status["CapAmb"] == status["CapPrm"] == status["CapEff"] == bits("CAP_CHOWN")


def test_capabilities_that_this_process_lacks_are_not_given(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    every = ["CAP_CHOWN", "CAP_SYS_RESOURCE", "CAP_SYS_ADMIN"]
    bundle.process["capabilities"] = dict.fromkeys(("bounding", "permitted", "effective"), every)
    ours = int(Path("/proc/self/status").read_text().split("CapBnd:\t")[1].split()[0], 16)
    status = runtime.probe(bundle, STATUS)
    assert int(status["CapEff"], 16) == ours & (1 | 1 << 24 | 1 << 21)


def test_no_capabilities_at_all(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.process["capabilities"] = {}
    status = runtime.probe(bundle, STATUS)
    assert {status[name] for name in ("CapBnd", "CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}


def test_resource_limits(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.process["rlimits"] = [
        {"type": "RLIMIT_NOFILE", "soft": 123, "hard": 456},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 2**64 - 1},
        {"type": "RLIMIT_STACK", "soft": 1 << 20, "hard": 2 << 20},
    ]
    code = "import resource as r; answer = [r.getrlimit(n) for n in (r.RLIMIT_NOFILE, r.RLIMIT_CORE, r.RLIMIT_STACK)]"
    assert runtime.probe(bundle, code) == [[123, 456], [0, -1], [1 << 20, 2 << 20]]


def test_a_limit_that_is_none_is_refused(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    for limit, words in (
        ({"type": "RLIMIT_MOON", "soft": 1, "hard": 1}, "'RLIMIT_MOON' is not a resource limit"),
        ({"type": "RLIMIT_NOFILE", "soft": 2, "hard": 1}, "process.rlimits[0].soft: found 2"),
    ):
        bundle.process["rlimits"] = [limit]
        assert words in runtime.fails(bundle)


def test_no_new_privileges(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    assert runtime.probe(bundle, STATUS)["NoNewPrivs"] == "0"
    bundle.process["noNewPrivileges"] = True
    assert runtime.probe(bundle, STATUS)["NoNewPrivs"] == "1"


def test_oom_score(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.process["oomScoreAdj"] = 321
    assert runtime.probe(bundle, "answer = open('/proc/self/oom_score_adj').read()") == "321\n"


def test_scheduler_and_io_priority(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.process["scheduler"] = {"policy": "SCHED_BATCH", "nice": 7}
    bundle.process["ioPriority"] = {"class": "IOPRIO_CLASS_BE", "priority": 6}
    code = (
        "import ctypes; l = ctypes.CDLL(None); "
        "answer = [os.sched_getscheduler(0), os.getpriority(0, 0), l.syscall(252, 1, 0)]"
    )
    assert runtime.probe(bundle, code) == [os.SCHED_BATCH, 7, 2 << 13 | 6]


def test_a_real_time_scheduler(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.process["scheduler"] = {"policy": "SCHED_FIFO", "priority": 3, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}
    code = "answer = [os.sched_getscheduler(0), os.sched_getparam(0).sched_priority]"
    try:
        assert runtime.probe(bundle, code) == [os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, 3]
    except AssertionError as error:
        if "sched_setattr" not in str(error):
            raise
        pytest.skip("this control group has no real-time budget")


def test_cpu_affinity_of_an_exec(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    runtime.start(bundle, "c", "sleep", "1000")
    last = max(os.sched_getaffinity(0))
    process = {
        "cwd": "/", "execCPUAffinity": {"initial": "0", "final": str(last)},
        "args": [PYTHON, "-ISc", "import os; print(sorted(os.sched_getaffinity(0)))"],
    }  # fmt: skip
    (bundle.folder / "p").write_text(json.dumps(process))
    assert runtime.ok("exec", "--process", str(bundle.folder / "p"), "c") == f"[{last}]\n"


def test_nothing_of_the_caller_leaks_in(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    code = f"{STATUS}\nanswer['nice'] = os.getpriority(0, 0)\nanswer['fds'] = sorted(os.listdir('/proc/self/fd'))"
    bundle.process["args"] = [PYTHON, "-I", "-S", "-c", f"import json, os\n{code}\nprint(json.dumps(answer))"]
    bundle.write()
    arguments = runtime.command("run", "--bundle", str(bundle.folder), "c")
    script = "umask 077; trap '' HUP TERM USR1 CHLD; exec nice -n 5 env LEAK=1 \"$@\" 7</ 9</etc"
    done = subprocess.run(["bash", "-c", script, "bash", *arguments], capture_output=True, check=True, cwd="/etc")
    answer = json.loads(done.stdout)
    assert int(answer["SigBlk"], 16) == 0
    assert int(answer["SigIgn"], 16) == 0x1000 | 0x1000000, "SIGPIPE and SIGXFSZ are the probe's own interpreter's"
    assert (answer["Umask"], answer["nice"], answer["fds"]) == ("0022", 0, ["0", "1", "2", "3"])


# root, host name, kernel parameters


def test_read_only_root(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    code = f"{TRY}\nanswer = tried(os.mkdir, '/made')"
    bundle.config["root"]["readonly"] = True
    assert runtime.probe(bundle, code) == errno.EROFS
    bundle.config["root"]["readonly"] = False
    assert runtime.probe(bundle, code) == 0


def test_host_and_domain_name(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.config.update(hostname="web", domainname="example.org")
    before = os.uname().nodename
    code = "answer = [os.uname().nodename, open('/proc/sys/kernel/domainname').read()]"
    assert runtime.probe(bundle, code) == ["web", "example.org\n"]
    assert os.uname().nodename == before
    bundle.namespaces("pid", "mount", "ipc", "network")
    assert "uts namespace" in runtime.fails(bundle)


def test_kernel_parameters(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.linux["sysctl"] = {
        "net.ipv4.ip_forward": "1",
        "kernel.msgmax": "4321",
        "fs.mqueue.msg_max": "12",
        "net/ipv4/conf/lo/forwarding": "1",
    }
    paths = ("net/ipv4/ip_forward", "kernel/msgmax", "fs/mqueue/msg_max", "net/ipv4/conf/lo/forwarding")
    code = f"answer = [open('/proc/sys/' + p).read().strip() for p in {paths!r}]"
    before = [Path(f"/proc/sys/{path}").read_text() for path in paths[:3]]
    assert runtime.probe(bundle, code) == ["1", "4321", "12", "1"]
    assert [Path(f"/proc/sys/{path}").read_text() for path in paths[:3]] == before
    for key, words in (
        ("kernel.core_pattern", "would change the host"),
        ("net/../kernel/core_pattern", "is not the name"),
        ("vm.swappiness", "would change the host"),
        ("net.ipv4.no_such_thing", "no_such_thing"),
    ):
        bundle.linux["sysctl"] = {key: "1"}
        assert words in runtime.fails(bundle), key
    bundle.linux["sysctl"] = {"kernel.msgmax": "1\n2"}
    assert "one line" in runtime.fails(bundle)


# mounts


def test_options_of_mounts(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    source = bundle.folder / "source"
    source.mkdir()
    (source / "file").write_text("there")
    for name, options in (
        ("plain", []),
        ("ro", ["ro", "nosuid", "nodev", "noexec"]),
        ("noatime", ["noatime", "nodiratime"]),
        ("nosymfollow", ["nosymfollow"]),
    ):
        bundle.mount(f"/{name}", str(source), "bind", ["bind", *options])
    bundle.mount("/made/tmpfs", "tmpfs", "tmpfs", ["size=64k", "mode=710", "noexec"])
    bundle.mount("/a/file", str(source / "file"), "bind", ["bind", "ro"])
    found = runtime.probe(bundle, MOUNTS)
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(found["/ro"][1])
    assert not {"ro", "nosuid", "nodev", "noexec"} & set(found["/plain"][1])
    assert {"noatime", "nodiratime"} <= set(found["/noatime"][1])
    assert "nosymfollow" in found["/nosymfollow"][1]
    assert found["/made/tmpfs"][0] == "tmpfs"
    assert {"size=64k", "mode=710"} <= set(found["/made/tmpfs"][3])
    assert found["/a/file"][1][0] == "ro"
    assert all("master" not in fields[2] and "shared" not in fields[2] for path, fields in found.items() if path != "/")


def test_recursively_read_only(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    outer = bundle.folder / "outer"
    inner = outer / "inner"
    inner.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", runtime.mark, str(inner)], check=True)
    try:
        bundle.mount("/ro", str(outer), "bind", ["rbind", "ro"])
        bundle.mount("/rro", str(outer), "bind", ["rbind", "rro"])
        bundle.mount("/rro/../flat", str(outer), "bind", ["bind", "rnosuid"])
        code = f"{TRY}\nanswer = [tried(os.mkdir, p) for p in ('/ro/x', '/ro/inner/x', '/rro/y', '/rro/inner/y')]"
        assert runtime.probe(bundle, code) == [errno.EROFS, 0, errno.EROFS, errno.EROFS]
        found = runtime.probe(bundle, MOUNTS)
        assert "nosuid" in found["/flat"][1]
        assert "/flat/inner" not in found
    finally:
        subprocess.run(["umount", str(inner)], check=True)


def test_propagation(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    source = bundle.folder / "source"
    source.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", runtime.mark, str(source)], check=True)
    subprocess.run(["mount", "--make-shared", str(source)], check=True)
    try:
        for word in ("private", "slave", "rslave", "shared", "rshared", "unbindable"):
            bundle.mount(f"/{word}", str(source), "bind", ["bind", word])
        found = runtime.probe(bundle, MOUNTS)
    finally:
        subprocess.run(["umount", "-R", str(source)], check=True)
    assert found["/private"][2] == ""
    assert found["/slave"][2].startswith("master:")
    assert found["/rslave"][2].startswith("master:")
    assert found["/shared"][2].startswith("shared:")
    assert found["/rshared"][2].startswith("shared:")
    assert found["/unbindable"][2] == "unbindable"


def test_a_slave_sees_later_mounts_of_the_host(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    source = bundle.folder / "source"
    source.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", runtime.mark, str(source)], check=True)
    try:
        subprocess.run(["mount", "--make-shared", str(source)], check=True)
        (source / "later").mkdir()
        bundle.mount("/slave", str(source), "bind", ["rbind", "rslave"])
        bundle.mount("/private", str(source), "bind", ["rbind", "rprivate"])
        runtime.start(bundle, "c", "sleep", "1000")
        subprocess.run(["mount", "-t", "tmpfs", runtime.mark, str(source / "later")], check=True)
        (source / "later/file").touch()
        assert runtime.ok("exec", "c", "ls", "/slave/later", "/private/later").split() == [
            "/private/later:", "/slave/later:", "file",
        ]  # fmt: skip
        runtime.ok("delete", "--force", "c")
    finally:
        subprocess.run(["umount", "-R", str(source)], check=True)


def test_what_is_mounted_inside_reaches_the_host_where_the_root_is_shared(runtime: Runtime) -> None:
    source = runtime.folder / "source"
    source.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", runtime.mark, str(source)], check=True)
    try:
        subprocess.run(["mount", "--make-shared", str(source)], check=True)
        for propagation in ("", "shared"):
            bundle = runtime.bundle()
            if propagation:
                bundle.linux["rootfsPropagation"] = propagation
            for sets in bundle.process["capabilities"].values():
                sets.append("CAP_SYS_ADMIN")
            bundle.mount("/shared", str(source), "bind", ["rbind", "rshared"])
            inner = f"inner{propagation}"
            bundle.process["args"] = ["sh", "-c", f"mkdir /shared/{inner} && mount -t tmpfs x /shared/{inner}"]
            runtime.run(bundle)
            assert (source / inner).is_mount() == bool(propagation)
    finally:
        subprocess.run(["umount", "-R", str(source)], check=True)


def test_mounts_are_listed_in_their_order(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    for number in range(3):
        bundle.mount(f"/order/tmpfs{number}", "tmpfs", "tmpfs", [])
        bundle.mount(f"/order/bind{number}", "/etc", "bind", ["rbind", ("rprivate", "slave", "shared")[number]])
    found = [path for path in runtime.probe(bundle, MOUNTS) if path.startswith("/order")]
    assert found == [f"/order/{kind}{number}" for number in range(3) for kind in ("tmpfs", "bind")]


def test_propagation_of_the_root(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    for word, wanted in (("private", ""), ("rprivate", ""), ("shared", "shared:"), ("unbindable", "unbindable")):
        bundle.linux["rootfsPropagation"] = word
        assert runtime.probe(bundle, MOUNTS)["/"][2].startswith(wanted), word
    bundle.linux["rootfsPropagation"] = "rslave"
    assert "shared" not in runtime.probe(bundle, MOUNTS)["/"][2]
    bundle.linux["rootfsPropagation"] = "moon"
    assert "linux.rootfsPropagation: found 'moon'" in runtime.fails(bundle)


def test_tmpcopyup(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    folder = bundle.rootfs / "seed"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/file").write_text("content")
    (folder / "link").symlink_to("sub/file")
    os.chown(folder / "sub", 12, 34)
    (folder / "sub").chmod(0o2751)
    bundle.mount("/seed", "tmpfs", "tmpfs", ["tmpcopyup", "size=1m"])
    bundle.mount("/other", str(folder), "bind", ["bind", "tmpcopyup"])
    assert "is not an option of a bind mount" in runtime.fails(bundle)
    bundle.config["mounts"].pop()
    code = (
        "s = os.stat('/seed/sub'); answer = [open('/seed/link').read(), os.readlink('/seed/link'), s.st_uid, s.st_gid, "
        "oct(s.st_mode)]; open('/seed/sub/file', 'w').write('changed')"
    )
    assert runtime.probe(bundle, code) == ["content", "sub/file", 12, 34, "0o42751"]
    assert (folder / "sub/file").read_text() == "content"


def test_idmapped_mount(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    source = bundle.folder / "source"
    source.mkdir()
    (source / "file").touch()
    os.chown(source / "file", 7, 8)
    mapping = [{"containerID": 0, "hostID": 5000, "size": 1000}]
    bundle.mount("/mapped", str(source), "bind", ["bind"], uidMappings=mapping, gidMappings=mapping)
    bundle.mount("/plain", str(source), "bind", ["bind"])
    code = "answer = [[os.stat(p).st_uid, os.stat(p).st_gid] for p in ('/mapped/file', '/plain/file')]"
    assert runtime.probe(bundle, code) == [[5007, 5008], [7, 8]]
    bundle.config["mounts"][-2].pop("gidMappings")
    assert "only of use together" in runtime.fails(bundle)


def test_idmap_by_the_containers_own_mappings(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    source = bundle.folder / "source"
    source.mkdir()
    (source / "file").touch()
    os.chown(source / "file", 7, 8)
    bundle.mount("/mapped", str(source), "bind", ["bind", "idmap"])
    bundle.mount("/plain", str(source), "bind", ["bind"])
    bundle.map_ids()
    runtime.folder.chmod(0o755)
    code = "answer = [[os.stat(p).st_uid, os.stat(p).st_gid] for p in ('/mapped/file', '/plain/file')]"
    assert runtime.probe(bundle, code) == [[7, 8], [65534, 65534]]


def test_an_unknown_mount_option_is_refused(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.mount("/x", "tmpfs", "tmpfs", ["moon"])
    assert "moon" in runtime.fails(bundle)
    bundle.config["mounts"][-1] = {"destination": "/x", "source": "/etc", "type": "bind", "options": ["bind", "moon"]}
    assert "'moon' is not an option of a bind mount" in runtime.fails(bundle)
    bundle.config["mounts"][-1] = {"destination": "/x", "source": "x", "type": "moonfs"}
    assert "moonfs" in runtime.fails(bundle)


def test_masked_and_read_only_paths(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    (bundle.rootfs / "secret").mkdir()
    (bundle.rootfs / "secret/file").write_text("x")
    (bundle.rootfs / "file").write_text("x")
    (bundle.rootfs / "fixed").mkdir()
    bundle.linux["maskedPaths"] += ["/secret", "/file", "/proc/kallsyms", "/no/such/path"]
    bundle.linux["readonlyPaths"] += ["/fixed", "/no/such/path"]
    code = f"""{TRY}
answer = [os.listdir('/secret'), open('/file').read(), open('/proc/kallsyms').read(), tried(os.mkdir, '/fixed/x'),
          tried(os.mkdir, '/secret/x'), tried(open, '/proc/sys/kernel/core_pattern', 'w'), os.listdir('/fixed')]
open('/file', 'w').write('lost')
"""
    assert runtime.probe(bundle, code) == [[], "", "", errno.EROFS, errno.EROFS, errno.EROFS, []]
    assert (bundle.rootfs / "file").read_text() == "x"


def test_relative_masks_are_refused(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.linux["maskedPaths"] = ["proc/kcore"]
    assert "linux.maskedPaths[0]: found 'proc/kcore', expected an absolute path" in runtime.fails(bundle)


# devices


def test_devices(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.linux["devices"] = [
        {"type": "c", "path": "/dev/mine", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 3, "gid": 4},
        {"type": "b", "path": "/dev/sub/block", "major": 7, "minor": 0},
        {"type": "p", "path": "/dev/pipe"},
    ]
    code = """
answer = {}
for name in ('null', 'zero', 'full', 'random', 'urandom', 'tty', 'mine', 'sub/block', 'pipe'):
    s = os.stat('/dev/' + name)
    answer[name] = [oct(s.st_mode), os.major(s.st_rdev), os.minor(s.st_rdev), s.st_uid, s.st_gid]
answer['links'] = [os.readlink('/dev/' + n) for n in ('fd', 'stdin', 'stdout', 'stderr', 'ptmx')]
answer['zeros'] = open('/dev/mine', 'rb').read(2) == bytes(2)
"""
    found = runtime.probe(bundle, code)
    assert found["null"] == ["0o20666", 1, 3, 0, 0]
    assert found["tty"] == ["0o20666", 5, 0, 0, 0]
    assert found["mine"] == ["0o20640", 1, 5, 3, 4]
    assert found["sub/block"] == ["0o60666", 7, 0, 0, 0]
    assert found["pipe"] == ["0o10666", 0, 0, 0, 0]
    assert found["links"] == ["/proc/self/fd", "/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2", "pts/ptmx"]
    assert found["zeros"]


def test_device_rules(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    code = f"""{TRY}
os.mknod('/dev/mem', 0o20666, os.makedev(1, 1))
os.mknod('/dev/tun', 0o20666, os.makedev(10, 200))
answer = [tried(open, '/dev/mem', 'rb'), tried(open, '/dev/tun', 'rb'), tried(open, '/dev/tun', 'wb'),
          tried(open, '/dev/null')]
"""
    rules = bundle.linux["resources"]["devices"]
    # Only the devices that every container has; not even the making of others is allowed.
    rules.append({"allow": True, "type": "c", "access": "m"})
    assert runtime.probe(bundle, code) == [errno.EPERM, errno.EPERM, errno.EPERM, 0]
    rules.append({"allow": True, "type": "c", "major": 10, "minor": 200, "access": "r"})
    assert runtime.probe(bundle, code) == [errno.EPERM, 0, errno.EPERM, 0]


# namespaces


def test_each_namespace_by_creation(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    code = "answer = {k: os.readlink('/proc/self/ns/' + k) for k in os.listdir('/proc/self/ns')}"
    files = {"network": "net", "mount": "mnt"}
    bundle.config.pop("hostname")
    for kind in ("pid", "network", "ipc", "uts", "cgroup", "time"):
        bundle.namespaces("mount", kind)
        # A mount of the host's sysfs or mqueue is for those who own the namespace.
        bundle.config["mounts"] = [m for m in bundle.config["mounts"] if m["destination"] in ("/proc", "/usr", "/dev")]
        found = runtime.probe(bundle, code)
        for other in ("pid", "network", "ipc", "uts", "cgroup", "time"):
            file = files.get(other, other)
            assert (found[file] != os.readlink(f"/proc/self/ns/{file}")) == (other == kind), (kind, other)


def test_each_namespace_by_path(runtime: Runtime) -> None:
    holder = runtime.bundle()
    holder.map_ids()
    holder.linux["namespaces"].append({"type": "time"})
    pid = runtime.start(holder, "holder", "sleep", "1000")
    code = "answer = {k: os.readlink('/proc/self/ns/' + k) for k in os.listdir('/proc/self/ns')}"
    files = {"network": "net"}
    for kind in ("pid", "network", "ipc", "uts", "cgroup", "time"):
        file = files.get(kind, kind)
        guest = runtime.bundle()
        guest.config.pop("hostname")
        wanted = [name for name in ("pid", "network", "ipc", "uts", "cgroup") if name != kind]
        guest.namespaces("mount", *wanted, **{kind: f"/proc/{pid}/ns/{file}"})
        found = runtime.probe(guest, code)
        assert found[file] == os.readlink(f"/proc/{pid}/ns/{file}"), kind
        for other in ("pid", "net", "ipc", "uts"):
            assert (found[other] == os.readlink(f"/proc/{pid}/ns/{other}")) == (other == file), (kind, other)
    guest = runtime.bundle()
    guest.namespaces("mount", "pid", "ipc", "uts", user=f"/proc/{pid}/ns/user", network=f"/proc/{pid}/ns/net")
    for path in (guest.rootfs, *guest.rootfs.rglob("*")):
        os.lchown(path, 100000, 100000)
    guest.config["mounts"] = [m for m in guest.config["mounts"] if m["destination"] != "/sys/fs/cgroup"]
    found = runtime.probe(guest, code)
    assert found["user"] == os.readlink(f"/proc/{pid}/ns/user")
    assert found["net"] == os.readlink(f"/proc/{pid}/ns/net")


def test_a_mount_namespace_by_path(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    holder = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo ready && exec sleep 1000"],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout and holder.stdout.readline()
    try:
        bundle.namespaces("pid", "network", "ipc", "uts", mount=f"/proc/{holder.pid}/ns/mnt")
        code = "answer = [os.readlink('/proc/self/ns/mnt'), os.listdir('/')]"
        namespace, entries = runtime.probe(bundle, code)
        assert namespace == os.readlink(f"/proc/{holder.pid}/ns/mnt")
        assert "home" not in entries
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


def test_a_path_that_is_no_such_namespace_is_refused(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    for path, words in (
        ("/proc/self/ns/uts", "is a namespace of type uts, expected network"),
        ("/etc/passwd", "is not a namespace"),
        ("/no/such", "No such file"),
    ):
        bundle.namespaces("pid", "mount", "ipc", "uts", network=path)
        assert words in runtime.fails(bundle)


def test_time_offsets(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.linux["namespaces"].append({"type": "time"})
    bundle.linux["timeOffsets"] = {"monotonic": {"secs": 1000000, "nanosecs": 5}, "boottime": {"secs": 2000000}}
    code = "import time; answer = [time.clock_gettime(c) for c in (time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME)]"
    monotonic, boottime = runtime.probe(bundle, code)
    assert 1000000 <= monotonic - time.clock_gettime(time.CLOCK_MONOTONIC) + 5 < 1000010
    assert 2000000 <= boottime - time.clock_gettime(time.CLOCK_BOOTTIME) + 5 < 2000010
    bundle.linux["namespaces"].pop()
    assert "linux.timeOffsets" in runtime.fails(bundle)


def test_user_namespace(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.map_ids(100000, 65536)
    bundle.mount("/scratch", "tmpfs", "tmpfs", ["mode=755"])
    code = f"""{TRY}
maps = [open('/proc/self/' + n).read().split() for n in ('uid_map', 'gid_map')]
os.mkdir('/made')
s = os.stat('/dev/null')
answer = [os.getuid(), maps, os.stat('/made').st_uid, os.stat('/usr').st_uid, os.major(s.st_rdev),
          os.path.ismount('/sys'), tried(os.mknod, '/node', 0o20666, os.makedev(1, 3)),
          open('/dev/zero', 'rb').read(1) == b'\\0', os.listdir('/dev/pts'), tried(os.chown, '/made', 70000, 0)]
"""
    uid, maps, made, usr, major, sys, node, zero, pts, unmapped = runtime.probe(bundle, code)
    assert (uid, maps, made) == (0, [["0", "100000", "65536"]] * 2, 0)
    assert (usr, major, sys, zero, pts) == (65534, 1, True, True, ["ptmx"])
    assert (node, unmapped) == (errno.EPERM, errno.EINVAL)
    assert (bundle.rootfs / "made").stat().st_uid == 100000


def test_a_user_inside_a_user_namespace(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.map_ids()
    bundle.process["user"] = {"uid": 1000, "gid": 1001, "additionalGids": [7]}
    status = runtime.probe(bundle, STATUS)
    assert (status["Uid"].split()[0], status["Gid"].split()[0], status["Groups"].split()) == ("1000", "1001", ["7"])
    bundle.process["user"] = {"uid": 70000, "gid": 0}
    assert "process.user.uid" in runtime.fails(bundle)


def test_a_user_namespace_needs_mappings(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.linux["namespaces"].append({"type": "user"})
    assert "needs uidMappings and gidMappings" in runtime.fails(bundle)
    bundle.linux["namespaces"].pop()
    bundle.linux["uidMappings"] = [{"containerID": 0, "hostID": 0, "size": 1}]
    assert "needs a user namespace" in runtime.fails(bundle)


def test_without_a_pid_namespace_kill_reaches_all(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.namespaces("mount", "ipc", "uts", "network")
    bundle.config["mounts"] = [m for m in bundle.config["mounts"] if m["destination"] != "/proc"]
    bundle.linux["maskedPaths"] = bundle.linux["readonlyPaths"] = []
    runtime.start(bundle, "c", "sh", "-c", "sleep 1000 & sleep 1000")
    until(lambda: len(json.loads(runtime.ok("ps", "-f", "json", "c"))) == 3)
    runtime.ok("kill", "c", "KILL")
    runtime.await_status("c", "stopped")
    assert json.loads(runtime.ok("ps", "-f", "json", "c")) == []


# limits


def test_limits_of_control_groups(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.linux["resources"].update(
        memory={"limit": 64 << 20, "reservation": 32 << 20, "swap": 96 << 20},
        cpu={"shares": 512, "quota": 50000, "period": 100000, "cpus": "0", "mems": "0"},
        pids={"limit": 77},
    )
    pid = runtime.start(bundle, "c", "sleep", "1000")
    groups = dict(line.split(":")[1:] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines())
    for controller, file, value in (
        ("memory", "memory.limit_in_bytes", 64 << 20),
        ("memory", "memory.soft_limit_in_bytes", 32 << 20),
        ("memory", "memory.memsw.limit_in_bytes", 96 << 20),
        ("cpu", "cpu.shares", 512),
        ("cpu", "cpu.cfs_quota_us", 50000),
        ("cpuset", "cpuset.cpus", 0),
        ("pids", "pids.max", 77),
    ):
        assert Path(f"/sys/fs/cgroup/{controller}{groups[controller]}/{file}").read_text() == f"{value}\n", file
    runtime.ok("update", "--memory", str(128 << 20), "--memory-swap", str(256 << 20), "--pids-limit", "99",
               "--cpu-share", "256", "--cpu-quota", "20000", "--cpu-period", "40000", "c")  # fmt: skip
    resources = json.dumps({"memory": {"reservation": 16 << 20}})
    runtime.ok("update", "--resources", "-", "c", stdin=_file(resources))
    for controller, file, value in (
        ("memory", "memory.limit_in_bytes", 128 << 20),
        ("memory", "memory.memsw.limit_in_bytes", 256 << 20),
        ("memory", "memory.soft_limit_in_bytes", 16 << 20),
        ("cpu", "cpu.shares", 256),
        ("cpu", "cpu.cfs_quota_us", 20000),
        ("cpu", "cpu.cfs_period_us", 40000),
        ("pids", "pids.max", 99),
    ):
        assert Path(f"/sys/fs/cgroup/{controller}{groups[controller]}/{file}").read_text() == f"{value}\n", file
    runtime.ok("update", "--memory", str(32 << 20), "--memory-swap", str(32 << 20), "c")
    assert Path(f"/sys/fs/cgroup/memory{groups['memory']}/memory.limit_in_bytes").read_text() == f"{32 << 20}\n"


def _file(text: str) -> Any:
    reader, writer = os.pipe()
    os.write(writer, text.encode())
    os.close(writer)
    return reader


def test_limits_bite(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.linux["resources"].update(memory={"limit": 48 << 20, "swap": 48 << 20}, pids={"limit": 20})
    code = """
children = []
answer = 0
try:
    while len(children) < 40:
        pid = os.fork()
        if pid == 0:
            import time; time.sleep(100); os._exit(0)
        children.append(pid)
except OSError as error:
    answer = [error.errno, len(children)]
for pid in children: os.kill(pid, 9)
for pid in children: os.waitpid(pid, 0)
pid = os.fork()
if pid == 0:
    x = bytearray(100 << 20)
    os._exit(0)
answer.append(os.waitpid(pid, 0)[1])
"""
    assert runtime.probe(bundle, code) == [errno.EAGAIN, 19, 9]


def test_a_limit_without_its_controller_is_refused(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.linux["resources"]["hugepageLimits"] = [{"pageSize": "2MB", "limit": 0}]
    if "hugetlb" in Path("/proc/self/cgroup").read_text():
        pytest.skip("this host has the controller")
    assert "no hugetlb controller" in runtime.fails(bundle)


# hooks


def test_hooks_run_in_order_where_they_belong(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    log = bundle.folder / "log"
    log.touch()
    bundle.mount("/log", str(log), "bind", ["bind"])
    script = "echo $0 $(cat) pid=$(readlink /proc/self/ns/pid) mnt=$(readlink /proc/self/ns/mnt) A=$A"
    for name in ("prestart", "createRuntime", "createContainer", "poststart", "poststop"):
        path = str(log)
        bundle.config.setdefault("hooks", {})[name] = [
            {"path": "/bin/sh", "args": ["sh", "-c", f"{script} >> {path}", name], "env": ["A=b"]}
        ]
    bundle.config["hooks"]["startContainer"] = [
        {"path": "/bin/sh", "args": ["sh", "-c", f"{script} >> /log", "startContainer"], "env": ["A=b"]}
    ]
    bundle.process["args"] = ["sh", "-c", "echo process >> /log; sleep 1000"]
    bundle.config["annotations"] = {"k": "v"}
    bundle.write()
    runtime.ok("create", "--bundle", str(bundle.folder), "c")
    lines = log.read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["prestart", "createRuntime", "createContainer"]
    pid = runtime.state("c")["pid"]
    for line in lines:
        state = json.loads(line[line.index("{") : line.rindex("}") + 1])
        status = "created" if line.startswith("prestart") else "creating"
        assert (state["id"], state["status"], state["pid"]) == ("c", status, pid)
        assert (state["bundle"], state["annotations"]) == (str(bundle.folder), {"k": "v"})
        assert line.endswith("A=b")
    ours = os.readlink("/proc/self/ns/mnt")
    assert [f"mnt={ours}" in line for line in lines] == [True, True, False]
    runtime.ok("start", "c")
    until(lambda: "process" in log.read_text())
    lines = log.read_text().splitlines()[3:]
    assert [line.split()[0] for line in lines if "poststart" not in line] == ["startContainer", "process"]
    assert any(line.startswith("poststart") and '"running"' in line for line in lines)
    started = next(line for line in lines if line.startswith("startContainer"))
    assert f"pid={os.readlink(f'/proc/{pid}/ns/pid')}" in started
    assert '"created"' in started
    runtime.ok("delete", "--force", "c")
    assert log.read_text().splitlines()[-1].startswith("poststop")
    assert '"stopped"' in log.read_text().splitlines()[-1]


def test_what_a_poststart_hook_is_told_of_a_process_that_has_ended_already(runtime: Runtime) -> None:
    pid = runtime.start(runtime.bundle(), "c", "sleep", "1000")
    runtime.ok("kill", "c", "KILL")
    runtime.await_status("c", "stopped")
    container = Container(str(runtime.root), "c")
    assert [container.state()[key] for key in ("status", "pid")] == ["stopped", 0]
    assert [container.state("running")[key] for key in ("status", "pid")] == ["running", pid]


@pytest.mark.parametrize("name", ["prestart", "createRuntime", "createContainer"])
def test_a_hook_that_fails_or_is_late_ends_the_creation(runtime: Runtime, name: str) -> None:
    bundle = runtime.bundle()
    marker = bundle.folder / "stopped"
    for hook, words in (
        ({"path": "/bin/false"}, "hook /bin/false: ended with 1"),
        ({"path": "/no/such/hook"}, "No such file"),
        ({"path": "/bin/sleep", "args": ["sleep", "100"], "timeout": 1}, "took longer than 1 s and was killed"),
    ):
        bundle.config["hooks"] = {name: [hook], "poststop": [{"path": "/bin/touch", "args": ["touch", str(marker)]}]}
        began = time.monotonic()
        bundle.write()
        text = runtime.refused("create", "--bundle", str(bundle.folder), "c")
        assert f"hooks.{name}[0]" in text
        assert words in text
        assert time.monotonic() - began < 20
        assert runtime.ok("list", "-q") == ""


def test_a_failing_start_container_hook_ends_the_start(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.config["hooks"] = {"startContainer": [{"path": "/bin/false"}]}
    bundle.write()
    runtime.ok("create", "--bundle", str(bundle.folder), "c")
    assert "hook /bin/false: ended with 1" in runtime.refused("start", "c")
    runtime.await_status("c", "stopped")


def test_later_hooks_only_warn(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.config["hooks"] = {"poststart": [{"path": "/bin/false"}], "poststop": [{"path": "/bin/false"}]}
    bundle.process["args"] = ["sleep", "1000"]
    bundle.write()
    runtime.ok("create", "--bundle", str(bundle.folder), "c")
    done = runtime.call("start", "c")
    assert done.returncode == 0
    assert b"warning: poststart hook /bin/false: ended with 1" in done.stderr
    done = runtime.call("delete", "--force", "c")
    assert done.returncode == 0
    assert b"warning: poststop hook /bin/false" in done.stderr


# personality, seccomp


def test_personality(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.linux["personality"] = {"domain": "LINUX32"}
    assert runtime.probe(bundle, "answer = os.uname().machine") == "i686"
    bundle.linux["personality"] = {"domain": "LINUX"}
    assert runtime.probe(bundle, "answer = os.uname().machine") == os.uname().machine
    bundle.linux["personality"] = {"domain": "LINUX", "flags": ["x"]}
    assert "linux.personality.flags" in runtime.fails(bundle)


def test_seccomp_with_and_without_no_new_privileges(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "syscalls": [
            {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOTTY},
            {"names": ["rmdir"], "action": "SCMP_ACT_KILL_PROCESS"},
            {"names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5,
             "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]},
        ],
    }  # fmt: skip
    code = f"""{TRY}
import ctypes
l = ctypes.CDLL(None, use_errno=True)
answer = [tried(os.mkdir, '/x'), l.personality(8), ctypes.get_errno(), l.personality(0)]
pid = os.fork()
if pid == 0:
    os.rmdir('/x')
answer.append(os.waitpid(pid, 0)[1] & 127)
answer += [l.split()[1] for l in open('/proc/self/status') if l.startswith('Seccomp')]
"""
    for value in (False, True):
        bundle.process["noNewPrivileges"] = value
        assert runtime.probe(bundle, code) == [errno.ENOTTY, -1, 5, 0, 31, "2", "1"]


def test_seccomp_notify_sends_the_listener(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    path = runtime.folder / "notify"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1)
    received: list[Any] = []

    def receive() -> None:
        connection, _ = listener.accept()
        with connection:
            data, descriptors, _, _ = socket.recv_fds(connection, 65536, 1)
            received.extend([json.loads(data), descriptors[0]])

    thread = threading.Thread(target=receive)
    thread.start()
    bundle.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": str(path),
        "listenerMetadata": "for me",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}],
    }
    bundle.process["args"] = ["sh", "-c", "mkdir /asked; echo status $?; sleep 1000"]
    bundle.write()
    runtime.ok("create", "--bundle", str(bundle.folder), "c")
    thread.join(10)
    listener.close()
    document, descriptor = received
    pid = runtime.state("c")["pid"]
    assert document["fds"] == ["seccompFd"]
    assert (document["metadata"], document["pid"]) == ("for me", pid)
    assert (document["state"]["id"], document["state"]["status"]) == ("c", "creating")
    assert os.readlink(f"/proc/self/fd/{descriptor}") == "anon_inode:seccomp notify"
    os.close(descriptor)


def test_nobody_at_the_listener_stops_the_start(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": str(runtime.folder / "nobody"),
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}],
    }
    assert "seccomp listener" in runtime.fails(bundle)
    del bundle.linux["seccomp"]["listenerPath"]
    assert "listenerPath" in runtime.fails(bundle)


def test_a_filter_may_refuse_what_the_start_needs_only_before_it(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["getcwd", "chdir", "mount", "setsid", "sethostname"], "action": "SCMP_ACT_ERRNO"}],
    }
    assert runtime.probe(bundle, f"{TRY}\nanswer = tried(os.getcwd)") == errno.EPERM
