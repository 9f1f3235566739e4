"""What is looked at in the virtual machine, whose first process this is: control groups of version 2, and VLANs."""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from specrun.errors import SpecrunError
from specrun_runtime import libc, mounts, netlink, stats
from specrun_runtime.cgroups import Cgroup
from specrun_runtime.container import Container
from specrun_runtime.netlink import Netlink
from tests.support import oci
from tests.support.oci import Runtime, until

POWER_OFF = 0x4321FEDC
DISK = "/dev/nvme0n1"
TRY = """
def tried(act, *arguments):
    try:
        act(*arguments)
        return 0
    except OSError as error:
        return error.errno
"""


def main() -> None:
    """Make the machine usable, do all the checks, and switch it off."""
    _settle()
    oci.COMMAND = "/usr/bin/specrun-runtime"
    for name, check in sorted(globals().items()):
        if name.startswith("check_"):
            _report(name.removeprefix("check_"), check)
    print("done", flush=True)
    ctypes.CDLL(None).reboot(POWER_OFF)


def _settle() -> None:
    system = ctypes.CDLL(None, use_errno=True)

    def mount(source: str, target: str, kind: str, flags: int = 0) -> None:
        if system.mount(source.encode(), target.encode(), kind.encode(), flags, None):
            raise OSError(ctypes.get_errno(), f"mount {target}")

    # pivot_root(2) does not work on the first root; a bind mount of it is as good as another one.
    mount("/", "/real", "", 4096)
    os.chdir("/real")
    mount(".", "/", "", 8192)
    os.chroot(".")
    os.chdir("/")
    for source, target, kind in (("proc", "/proc", "proc"), ("sys", "/sys", "sysfs"), ("dev", "/dev", "devtmpfs")):
        mount(source, target, kind)
    mount("cgroup2", "/sys/fs/cgroup", "cgroup2")
    mount("tmp", "/tmp", "tmpfs")
    os.environ["PATH"] = "/usr/bin:/usr/sbin"
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def _report(name: str, check: Callable[[Runtime], None]) -> None:
    runtime = oci.Runtime()
    began = time.monotonic()
    try:
        try:
            check(runtime)
        finally:
            runtime.close()
        left = [str(path) for path in Path("/sys/fs/cgroup").rglob("sro-*")]
        assert left == [], left
        print(f"ok {name} ({time.monotonic() - began:.1f} s)")
    except BaseException:
        print(f"not ok {name}")
        print("\n".join(f"  {line}" for line in traceback.format_exc().splitlines()))


def _group(pid: int) -> Path:
    (line,) = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return Path(f"/sys/fs/cgroup{line.removeprefix('0::')}")


def check_00_the_mode(runtime: Runtime) -> None:
    assert Cgroup("x").pure
    assert sys.version_info >= (3, 11)


def check_memory(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.linux["resources"].update(memory={"limit": 48 << 20, "swap": 48 << 20, "reservation": 8 << 20})
    code = """
pid = os.fork()
if pid == 0:
    x = bytearray(150 << 20)
    os._exit(0)
answer = os.waitpid(pid, 0)[1]
"""
    assert runtime.probe(bundle, code) == 9
    pid = runtime.start(bundle, "c", "sleep", "1000")
    group = _group(pid)
    assert (group / "memory.max").read_text() == f"{48 << 20}\n"
    assert (group / "memory.low").read_text() == f"{8 << 20}\n"
    runtime.ok("update", "--memory", str(96 << 20), "--memory-swap", str(96 << 20), "c")
    assert (group / "memory.max").read_text() == f"{96 << 20}\n"
    killer = "b = bytearray(300 << 20)"
    done = runtime.call("exec", "c", "python3", "-ISc", killer)
    assert done.returncode == 137
    assert "oom_kill 1" in (group / "memory.events").read_text()
    container = Container(str(runtime.root), "c")
    assert [process["name"] for process in stats.killed_processes(container.cgroup)][-1:] == ["python3"]


def check_cpu(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.linux["resources"].update(cpu={"quota": 20000, "period": 100000, "shares": 512, "cpus": "1"})
    code = """
import time
began, cpu = time.monotonic(), time.process_time()
while time.monotonic() < began + 3: pass
answer = [time.process_time() - cpu, sorted(os.sched_getaffinity(0)), open('/sys/fs/cgroup/cpu.stat').read(),
          open('/sys/fs/cgroup/cpu.max').read(), open('/sys/fs/cgroup/cpu.weight').read()]
"""
    used, processors, statistics, most, weight = runtime.probe(bundle, code)
    assert used < 1.5, used
    assert processors == [1]
    assert "nr_throttled 0" not in statistics
    assert (most, weight) == ("20000 100000\n", "20\n")


def check_pids(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.linux["resources"].update(pids={"limit": 10})
    code = """
children, answer = [], 0
try:
    while len(children) < 30:
        pid = os.fork()
        if pid == 0:
            import time; time.sleep(100); os._exit(0)
        children.append(pid)
except OSError as error:
    answer = [error.errno, len(children)]
"""
    assert runtime.probe(bundle, code) == [11, 9]


def _device() -> tuple[int, int]:
    number = os.stat(DISK).st_rdev
    return os.major(number), os.minor(number)


def check_io(runtime: Runtime) -> None:
    major, minor = _device()
    code = f"""
import mmap, time
os.mknod('/dev/disk', 0o60600, os.makedev({major}, {minor}))
disk = os.open('/dev/disk', os.O_RDONLY | os.O_DIRECT)
buffer = mmap.mmap(-1, 1 << 20)
began = time.monotonic()
for _ in range(4): os.readv(disk, [buffer])
answer = time.monotonic() - began
"""
    taken = []
    for throttle in ([], [{"major": major, "minor": minor, "rate": 1 << 20}]):
        bundle = runtime.bundle()
        rule = {"allow": True, "type": "b", "major": major, "minor": minor, "access": "rm"}
        bundle.linux["resources"]["devices"].append(rule)
        bundle.linux["resources"]["blockIO"] = {"throttleReadBpsDevice": throttle}
        taken.append(runtime.probe(bundle, code))
    assert taken[0] < 2 < taken[1], taken


def check_device_rules(runtime: Runtime) -> None:
    major, minor = _device()
    code = f"""{TRY}
os.mknod('/dev/disk', 0o60600, os.makedev({major}, {minor}))
answer = [tried(open, '/dev/disk', 'rb'), tried(open, '/dev/disk', 'r+b'), tried(open, '/dev/null', 'wb'),
          tried(os.mknod, '/dev/x', 0o20600, os.makedev(1, 1))]
"""
    bundle = runtime.bundle()
    rules = bundle.linux["resources"]["devices"]
    assert runtime.probe(bundle, code) == [1, 1, 0, 0]
    rules.append({"allow": True, "type": "b", "major": major, "minor": minor, "access": "r"})
    assert runtime.probe(bundle, code) == [0, 1, 0, 0]
    rules[:] = [{"allow": True, "access": "rwm"}, {"allow": False, "type": "b", "access": "w"}]
    assert runtime.probe(bundle, code) == [0, 1, 0, 0]


def check_freeze(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    ticks = bundle.rootfs / "ticks"
    pid = runtime.start(
        bundle, "c", "python3", "-ISc", "import time\nwhile 1: open('/ticks', 'a').write('x'); time.sleep(0.02)"
    )
    until(lambda: ticks.exists() and ticks.stat().st_size > 2, 30)
    runtime.ok("pause", "c")
    assert "frozen 1" in (_group(pid) / "cgroup.events").read_text()
    assert runtime.state("c")["status"] == "paused"
    still = ticks.stat().st_size
    time.sleep(0.5)
    assert ticks.stat().st_size == still
    runtime.ok("resume", "c")
    until(lambda: ticks.stat().st_size > still, 30)
    runtime.ok("pause", "c")
    runtime.ok("delete", "--force", "c")


def check_kill(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.linux["resources"].update(pids={"limit": 40})
    code = "import os, signal\nsignal.signal(15, signal.SIG_IGN)\nwhile 1:\n try: os.fork()\n except OSError: pass"
    runtime.start(bundle, "c", "python3", "-ISc", code)
    until(lambda: len(json.loads(runtime.ok("ps", "-f", "json", "c"))) > 20, 60)
    runtime.ok("kill", "--all", "c", "KILL")
    assert json.loads(runtime.ok("ps", "-f", "json", "c")) == []


def check_unified(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.linux["resources"]["unified"] = {"memory.high": str(64 << 20), "pids.max": "33"}
    code = "answer = [open('/sys/fs/cgroup/' + n).read() for n in ('memory.high', 'pids.max')]"
    assert runtime.probe(bundle, code) == [f"{64 << 20}\n", "33\n"]
    bundle.linux["resources"]["unified"] = {"memory.moon": "1"}
    assert "memory.moon" in runtime.fails(bundle)


def _load(*names: str) -> None:
    """Load modules of the kernel; one that is there already stays."""
    for name in names:
        module = os.open(f"/{name}", os.O_RDONLY)
        ctypes.CDLL(None).syscall(313, module, b"", 0)  # finit_module(2)
        os.close(module)


def check_vlans(runtime: Runtime) -> None:
    """A macvlan network makes the VLAN that it is on and takes it along; one that was there before stays."""
    _load("llc.ko", "stp.ko", "mrp.ko", "garp.ko", "8021q.ko", "macvlan.ko", "dummy.ko")
    from specrun.network import bridges, creation, links
    from specrun.network.networks import NetworkStore
    from specrun.paths import open_root

    with Netlink() as kernel:
        about = netlink.nested(links.IFLA_LINKINFO, netlink.text(links.IFLA_INFO_KIND, "dummy"))
        kernel.ask(links.NEWLINK, links._link(0, netlink.text(links.IFLA_IFNAME, "d0"), about), netlink.CREATE)
    os.environ["SPECRUN_RUN"] = str(runtime.folder / "run")
    store = NetworkStore(open_root(str(runtime.folder / "root")))

    def make(name: str, vlan: int) -> Any:
        options = {"parent": f"d0.{vlan}"}
        subnets = [f"10.{len(store.recorded())}.0.0/24"]
        return creation.create(store, creation.NetworkRequest(name, driver="macvlan", subnets=subnets, options=options))

    try:
        make("down", 50)
    except SpecrunError as error:
        assert "ip link set d0 up" in error.hint
    assert not links.index_of("d0.50") and store.recorded() == []
    with Netlink() as kernel:
        links.take_up(kernel, "d0")
    one, two = make("one", 50), make("two", 50)
    assert Path("/proc/net/vlan/d0.50").read_text().split()[:3] == ["d0.50", "VID:", "50"]
    assert links.is_up("d0.50")
    creation.remove(store, one)
    assert links.is_up("d0.50"), "the other network is on it"
    with Netlink() as kernel:
        links.delete(kernel, "d0.50")
    with store.lock():
        bridges.bring_up(store, two)
    assert links.is_up("d0.50"), "made again, as after a reboot"
    creation.remove(store, two)
    assert not links.index_of("d0.50")
    with Netlink() as kernel:
        links.make_vlan(kernel, "d0.60", links.index_of("d0"), 60)
    creation.remove(store, make("three", 60))
    assert links.index_of("d0.60"), "somebody else has made it"
    for name in ("d0.0", "d0.4095", "d0.07", "d1.5", "d1"):
        try:
            creation.create(
                store,
                creation.NetworkRequest("x", driver="macvlan", subnets=["10.9.0.0/24"], options={"parent": name}),
            )
        except SpecrunError as error:
            assert "there is no link" in error.message
        else:
            raise AssertionError(f"{name} was made")


def check_overlay(runtime: Runtime) -> None:
    _load("overlay.ko")
    folder = runtime.folder
    for name in ("one:a", "two", "upper", "work", "merged"):
        (folder / name).mkdir()
        (folder / name / "file").write_text(name)
    (folder / "work/file").unlink()
    lower = [str(folder / "two"), str(folder / "one:a")]
    (folder / "one:a/below").touch()
    with mounts.new_overlay(lower, str(folder / "upper"), str(folder / "work")) as made:
        target = os.open(folder / "merged", os.O_PATH)
        libc.move_mount(made.number, target)
    os.close(target)
    assert (folder / "merged/file").read_text() == "upper"
    assert (folder / "merged/below").exists()
    libc.umount(str(folder / "merged"))


def check_what_is_seen_inside(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.map_ids()
    code = f"""{TRY}
answer = [open('/proc/self/cgroup').read(), tried(os.mkdir, '/sys/fs/cgroup/x'),
          'memory.max' in os.listdir('/sys/fs/cgroup')]
"""
    assert runtime.probe(bundle, code) == ["0::/\n", 30, True]


def check_statistics_and_exec(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.linux["resources"].update(memory={"limit": 128 << 20}, pids={"limit": 50})
    runtime.start(bundle, "c", "sleep", "1000")
    assert runtime.ok("exec", "c", "cat", "/proc/self/cgroup") == "0::/\n"
    data = json.loads(runtime.ok("events", "--stats", "c"))["data"]
    assert data["pids"] == {"current": 1, "limit": 50}
    assert data["memory"]["usage"]["limit"] == 128 << 20
    assert data["memory"]["usage"]["usage"] > 0
    assert data["cpu"]["usage"]["total"] > 0
