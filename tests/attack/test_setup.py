"""A container's set-up under attack: what it goes through is changed by others meanwhile, or is not what it seems.

Each test names the weakening of the runtime that it was seen to fail with.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.host import Host
from tests.support.oci import COMMAND, PYTHON, Bundle, Runtime

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs root")

ROUNDS = 6
SWAP = """
import ctypes, sys
libc = ctypes.CDLL(None)
first, second = (path.encode() for path in sys.argv[1:])
print('ready', flush=True)
while True:
    libc.renameat2(-100, first, -100, second, 2)  # RENAME_EXCHANGE
"""


@contextmanager
def swapping(first: Path, second: Path) -> Iterator[None]:
    """Another process lets two names change places, as fast as it can."""
    command = [sys.executable, "-ISc", SWAP, str(first), str(second)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as racer:
        assert racer.stdout
        racer.stdout.readline()
        try:
            yield
        finally:
            racer.kill()


@pytest.fixture
def canary(runtime: Runtime) -> Iterator[Path]:
    """A folder of the host's that nothing may be made in, and nothing be mounted on."""
    folder = runtime.folder / "canary"
    folder.mkdir()
    (folder / "secret").write_text("canary")
    yield folder
    assert os.listdir(folder) == ["secret"]
    assert (folder / "secret").read_text() == "canary"
    assert stat.S_IMODE((folder / "secret").stat().st_mode) == 0o644
    assert str(runtime.folder) not in Path("/proc/self/mountinfo").read_text()


def attempt(runtime: Runtime, bundle: Bundle, *command: str) -> subprocess.CompletedProcess[bytes]:
    """Run it; it may be refused, but in words."""
    bundle.process["args"] = list(command)
    bundle.write()
    done = runtime.call("run", "--bundle", str(bundle.folder), f"{runtime.mark}-run")
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done


def test_targets_of_mounts_that_are_swapped_for_a_link(runtime: Runtime, canary: Path) -> None:
    """CVE-2021-30465, CVE-2024-45310. Bites when `paths.open_in_root` resolves by name in place of openat2(2)."""
    bundle = runtime.bundle()
    (bundle.rootfs / "t").mkdir()
    (bundle.rootfs / "x").symlink_to(canary)
    for number in range(8):
        bundle.mount(f"/t/folder{number}", "tmpfs", "tmpfs", [])
        bundle.mount(f"/t/file{number}", str(bundle.rootfs / "etc/group"), "bind", ["bind"])
    with swapping(bundle.rootfs / "t", bundle.rootfs / "x"):
        for _ in range(ROUNDS):
            attempt(runtime, bundle, "true")


def test_a_source_that_changes_its_kind_meanwhile(runtime: Runtime, canary: Path) -> None:
    """Folder, file or FIFO is what is mounted, and nothing is waited for.

    Bites when `MountAt` looks at the source's path again to know its kind, and when it opens the source to read.
    """
    bundle = runtime.bundle()
    shared = runtime.folder / "shared"
    (shared / "source").mkdir(parents=True)
    (shared / "source/inner").touch()
    os.mkfifo(shared / "fifo")
    (shared / "other").symlink_to("fifo")
    for number in range(8):
        bundle.mount(f"/t/{number}", str(shared / "source"), "bind", ["bind"])
    look = "for f in /t/*; do [ -p $f ] || [ -e $f/inner ] || echo neither: $f; done"
    with swapping(shared / "source", shared / "other"):
        for _ in range(ROUNDS):
            done = attempt(runtime, bundle, "sh", "-c", look)
            # Only at one place can two mounts disagree with what an earlier start has left as their target.
            assert done.returncode == 0 or b"Not a directory" in done.stderr, done.stderr.decode()
            assert b"neither" not in done.stdout
            for target in (bundle.rootfs / "t").iterdir():
                target.rmdir() if target.is_dir() else target.unlink()


@pytest.mark.parametrize("path", ["/etc/link", "/proc/self/../link", "/folder/secret"])
def test_a_masked_path_that_is_a_link(runtime: Runtime, canary: Path, path: str) -> None:
    """Masking what a link points to would leave what the path is to hide in sight; so it is refused.

    Bites when `steps._existing` follows links.
    """
    bundle = runtime.bundle()
    (bundle.rootfs / "etc/link").symlink_to("group")
    (bundle.rootfs / "folder").symlink_to("etc")
    (bundle.rootfs / "etc/secret").touch()
    kinds = ("maskedPaths", "readonlyPaths")
    for kind in kinds:
        bundle.linux.update({name: [] for name in kinds})
        bundle.linux[kind] = [path]
        done = attempt(runtime, bundle, "true")
        if "proc" in path:
            assert done.returncode in (0, 1)  # /proc/link does not exist: there is nothing to hide
        else:
            assert done.returncode == 1
            assert b"is a symbolic link" in done.stderr


def test_a_null_device_of_somebody_else_s(runtime: Runtime, canary: Path) -> None:
    """CVE-2025-31133: what masks is our own null device, not what the container has at /dev/null.

    Bites when `MaskPath._null` opens /dev/null inside the root.
    """
    bundle = runtime.bundle()
    fake = runtime.folder / "dev"
    fake.mkdir()
    (fake / "null").symlink_to("/proc/sys/kernel/core_pattern")
    mounts = bundle.config["mounts"]
    bundle.config["mounts"] = [mount for mount in mounts if not mount["destination"].startswith("/dev")]
    bundle.mount("/dev", str(fake), "bind", ["rbind"])
    bundle.linux["devices"] = []
    bundle.linux["maskedPaths"] = ["/proc/keys", "/proc/timer_list"]
    done = attempt(runtime, bundle, "sh", "-c", "stat -c %t:%T /proc/keys /proc/timer_list; cat /proc/keys")
    assert done.stdout.split() == [b"1:3", b"1:3"] or b"not the null device" in done.stderr


@pytest.mark.parametrize("disguise", ["folder", "tmpfs", "none"])
def test_a_kernel_parameter_is_not_written_into_a_fake_proc(runtime: Runtime, canary: Path, disguise: str) -> None:
    """CVE-2019-16884, CVE-2025-52881: what is written to is the kernel's, whatever the container has at /proc.

    Bites when `steps._procfs` gives what is at /proc inside the root and `open_procfs` does not look at its type.
    """
    bundle = runtime.bundle()
    fake = bundle.rootfs / "proc/sys/net/ipv4/ping_group_range"
    fake.parent.mkdir(parents=True)
    fake.write_text("fake")
    bundle.config["mounts"] = [mount for mount in bundle.config["mounts"] if mount["destination"] != "/proc"]
    if disguise == "tmpfs":
        bundle.mount("/proc", "tmpfs", "tmpfs", ["tmpcopyup"])
    elif disguise == "none":
        fake.unlink()
    bundle.linux["maskedPaths"] = bundle.linux["readonlyPaths"] = []
    bundle.linux["sysctl"] = {"net.ipv4.ping_group_range": "7 8"}
    pid = runtime.start(bundle, "c", "sleep", "1000")
    words = ["nsenter", f"--net=/proc/{pid}/ns/net", "cat", "/proc/sys/net/ipv4/ping_group_range"]
    assert subprocess.run(words, capture_output=True, check=True).stdout.split() == [b"7", b"8"]
    if disguise != "none":
        assert fake.read_text() == "fake"
        assert runtime.ok("exec", "c", "cat", "/proc/sys/net/ipv4/ping_group_range") == "fake"


@pytest.mark.parametrize("name", ["proc", "sys"])
def test_a_link_in_the_place_of_proc_or_sys(runtime: Runtime, canary: Path, name: str) -> None:
    """CVE-2019-19921, CVE-2023-27561. Bites when `steps._target` treats proc and sysfs as any other mount."""
    bundle = runtime.bundle()
    (bundle.rootfs / "elsewhere").mkdir()
    (bundle.rootfs / name).symlink_to("elsewhere")
    done = attempt(runtime, bundle, "true")
    assert done.returncode == 1
    assert b"is a symbolic link" in done.stderr


KEYS = """
import ctypes, json, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def keyctl(*words):
    return libc.syscall(250, *[ctypes.c_long(w) if isinstance(w, int) else ctypes.c_char_p(w) for w in words])
if len(sys.argv) > 1:
    assert keyctl(1, b'caller') > 0
    secret = libc.syscall(248, b'user', b'secret-of-the-caller', b'canary', ctypes.c_size_t(6), ctypes.c_long(-3))
    os.environ['SERIALS'] = f'{keyctl(0, -3, 0)} {secret}'
    os.execv(sys.argv[1], sys.argv[1:])
session, secret = (int(word) for word in sys.stdin.read().split())
mine = keyctl(0, -3, 0)
read = ctypes.create_string_buffer(16)
print(json.dumps([mine not in (-1, session), keyctl(10, -3, b'user', b'secret-of-the-caller', 0) > 0,
    keyctl(11, secret, ctypes.addressof(read), 16) > 0 and read.value == b'canary']))
"""
"""With a command: put a key into a session keyring and execute it. Else look what there is of that inside."""


@pytest.mark.parametrize("way", ["run", "exec"])
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="uses this machine's system call numbers")
def test_the_caller_s_keys_are_out_of_reach(runtime: Runtime, canary: Path, way: str) -> None:
    """A new session keyring, without a seccomp filter too. Bites when `init._leave_keyring` does nothing."""
    bundle = runtime.bundle()
    bundle.linux.pop("seccomp", None)
    bundle.process["args"] = [PYTHON, "-ISc", KEYS]
    if way == "exec":
        runtime.start(bundle, "c", "sleep", "1000")
        words = [COMMAND, "--root", str(runtime.root), "exec", "c", PYTHON, "-ISc", KEYS]
    else:
        bundle.write()
        words = [COMMAND, "--root", str(runtime.root), "run", "--bundle", str(bundle.folder), f"{runtime.mark}-run"]
    script = 'echo "$SERIALS" | "$@"'
    caller = [sys.executable, "-ISc", KEYS, "/bin/sh", "-c", script, "sh", *words]
    done = subprocess.run(caller, capture_output=True, check=False, timeout=60)
    assert done.stdout.split() == [b"[true,", b"false,", b"false]"], done.stderr.decode()


ESCAPE = """
cat /proc/self/cgroup | cut -d: -f3 | sort -u
for d in /sys/fs/cgroup /sys/fs/cgroup/*; do
  mkdir $d/made 2>/dev/null && echo made $d
  for f in release_agent notify_on_release cgroup.procs devices.allow memory.limit_in_bytes cgroup.clone_children; do
    [ -e $d/$f ] && ( echo 0 > $d/$f ) 2>/dev/null && echo wrote $d/$f
  done
done
for kind in memory rdma; do mount -t cgroup -o $kind x /mnt 2>/dev/null && echo mounted $kind; done
mount -t cgroup2 x /mnt 2>/dev/null && echo mounted 2
unshare -C true 2>/dev/null && echo unshared
unshare -U -r -m true 2>/dev/null && echo unshared user
echo end
"""


@pytest.mark.parametrize("options", [(), ("--cgroupns", "host"), ("--cap-add", "SYS_ADMIN")], ids=["", "host", "admin"])
def test_control_groups_are_no_way_out(host: Host, options: tuple[str, ...]) -> None:
    """CVE-2022-0492, CVE-2023-25809: nothing of the groups can be written to, and no hierarchy be mounted anew.

    Bites when `MountCgroups` mounts the groups writable, or the default filter lets mount(2) and unshare(2) pass.
    """
    # With CAP_SYS_ADMIN one may mount and unshare: that is what it is for.
    lines = [
        line for line in ESCAPE.splitlines() if "SYS_ADMIN" not in options or not ("mount" in line or "unshare" in line)
    ]
    text = host.ok("run", "--rm", "--network", "none", *options, "busybox", "sh", "-c", "\n".join(lines))
    *groups, last = text.split()
    assert last == "end"
    if "host" in options:
        assert all(group.startswith("/") for group in groups)
    else:
        assert groups == ["/"]
