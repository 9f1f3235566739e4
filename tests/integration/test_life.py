"""A container's life: restart policies, health, limits, pauses, logs that are rotated."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.host import Host

QUIET = ("run", "-d", "--network", "none")


def _eventually(test: Callable[[], bool], seconds: float = 15.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if test():
            return True
        time.sleep(0.05)
    return False


def _show(host: Host, field: str, name: str) -> str:
    return host.ok("inspect", "-f", f"{{{{{field}}}}}", name).strip()


def _lives(host: Host, names: list[str]) -> set[str]:
    return set(host.ok("inspect", "-f", "{{.RestartCount}} {{.State.Status}}", *names).splitlines())


def test_on_failure_is_tried_so_many_times(host: Host) -> None:
    host.ok(*QUIET, "--name", "one", "--restart", "on-failure:2", "busybox", "sh", "-c", "echo up; exit 3")
    assert _eventually(lambda: _show(host, ".State.Status", "one") == "exited")
    assert _show(host, ".RestartCount", "one") == "2"
    assert host.ok("logs", "one") == "up\n" * 3
    host.ok(*QUIET, "--name", "two", "--restart", "on-failure", "busybox", "true")
    assert _eventually(lambda: _show(host, ".State.Status", "two") == "exited")
    assert _show(host, ".RestartCount", "two") == "0"


def test_always_comes_back_until_somebody_stops_it(host: Host) -> None:
    host.ok(*QUIET, "--name", "one", "--restart", "always", "busybox", "sleep", "300")
    first = int(_show(host, ".State.Pid", "one"))
    os.kill(first, signal.SIGKILL)
    assert _eventually(lambda: _show(host, ".State.Pid", "one") not in ("0", str(first)))
    assert _show(host, ".RestartCount", "one") == "1"
    host.ok("stop", "-t", "0", "one")
    time.sleep(0.3)
    assert "Exited (137)" in host.ok("ps", "-a")
    host.ok("start", "one")
    assert _show(host, ".RestartCount", "one") == "0"


def test_one_that_waits_to_be_started_again_can_be_stopped_and_removed(host: Host) -> None:
    host.ok(*QUIET, "--name", "one", "--restart", "always", "busybox", "false")
    assert _eventually(lambda: "Restarting (1)" in host.ok("ps"))
    host.ok("stop", "one")
    assert "Exited (1)" in host.ok("ps", "-a")
    host.ok("start", "one")
    host.ok("rm", "-f", "one")
    assert host.leftovers() == []


@pytest.mark.parametrize(
    ("policy", "stopped", "comes_back"),
    [("always", True, True), ("unless-stopped", False, True), ("unless-stopped", True, False), ("no", False, False)],
)
def test_after_a_reboot_what_should_run_is_brought_back(
    host: Host, policy: str, stopped: bool, comes_back: bool
) -> None:
    host.ok(*QUIET, "--name", "one", "--restart", policy, "busybox", "sleep", "300")
    if stopped:
        host.ok("stop", "-t", "0", "one")
    else:  # the monitor goes with the machine
        os.kill(json.loads(next(host.root.glob("containers/*/state.json")).read_text())["monitor_pid"], signal.SIGKILL)
    assert "Exited (137)" in host.ok("ps", "-a")
    assert host.ok("start", "--restored").split() == (["one"] if comes_back else [])
    assert bool(host.ok("ps", "-q")) is comes_back


def test_health_is_looked_after(host: Host) -> None:
    check = ("--health-cmd", "test -e /well && echo fine", "--health-interval", "100ms", "--health-retries", "2")
    host.ok(*QUIET, "--name", "one", *check, "busybox", "sleep", "300")
    assert "(health: starting)" in host.ok("ps")
    assert _eventually(lambda: _show(host, ".State.Health.Status", "one") == "unhealthy")
    pid = _show(host, ".State.Pid", "one")
    Path(f"/proc/{pid}/root/well").touch()
    assert _eventually(lambda: "(healthy)" in host.ok("ps", "--filter", "health=healthy"))
    health = json.loads(host.ok("inspect", "one"))[0]["State"]["Health"]
    assert (health["FailingStreak"], health["Log"][-1]["Output"]) == (0, "fine\n")
    assert len(health["Log"]) <= 5


def test_a_check_that_takes_too_long_has_failed(host: Host) -> None:
    check = ("--health-cmd", "sleep 60", "--health-interval", "100ms", "--health-timeout", "200ms")
    host.ok(*QUIET, "--name", "one", *check, "--health-retries", "1", "busybox", "sleep", "300")
    assert _eventually(lambda: _show(host, ".State.Health.Status", "one") == "unhealthy")
    assert "exceeded timeout (0.2s)" in host.ok("inspect", "one")


def test_a_paused_container_stands_still(host: Host) -> None:
    host.ok(*QUIET, "--name", "one", "busybox", "sh", "-c", "while :; do echo tick; sleep 0.05; done")
    host.ok("pause", "one")
    assert "(Paused)" in host.ok("ps", "--filter", "status=paused")
    before = host.ok("logs", "one")
    time.sleep(0.3)
    assert host.ok("logs", "one") == before
    assert host.run("pause", "one").returncode == 1
    host.ok("unpause", "one")
    assert _eventually(lambda: host.ok("logs", "one") != before)
    host.ok("pause", "one")
    host.ok("stop", "-t", "0", "one")
    assert "Exited (137)" in host.ok("ps", "-a")


def test_limits_are_set_and_updated(host: Host) -> None:
    limits = ("-m", "64m", "--cpus", ".5", "--cpu-shares", "512", "--pids-limit", "77")
    show = "cd /sys/fs/cgroup; cat memory/memory.memsw.limit_in_bytes cpu/cpu.cfs_quota_us cpu/cpu.shares pids/pids.max"
    host.ok(*QUIET, "--name", "one", *limits, "busybox", "sh", "-c", f"{show}; sleep 300")
    assert _eventually(lambda: host.ok("logs", "one").split() == ["134217728", "50000", "512", "77"])
    host.ok("update", "--pids-limit", "88", "--memory", "32m", "one")
    group = next(Path("/sys/fs/cgroup/pids").glob(f"specrun-{(host.root / 'id').read_text()}-*"))
    assert (group / "pids.max").read_text().strip() == "88"
    assert _show(host, ".HostConfig.Memory", "one") == str(32 << 20)
    done = host.run("update", "--memory-swap", "1m", "one")
    assert done.returncode == 1
    assert b"Minimum memoryswap limit" in done.stderr


def test_limits_of_devices(host: Host) -> None:
    disk = next(name for name in sorted(os.listdir("/sys/block")) if os.path.exists(f"/dev/{name}"))
    number = Path(f"/sys/block/{disk}/dev").read_text().strip()
    kinds = {"read-bps": "3mb", "write-bps": "4mb", "read-iops": "50", "write-iops": "60"}
    limits = [word for kind, rate in kinds.items() for word in (f"--device-{kind}", f"/dev/{disk}:{rate}")]
    host.ok(*QUIET, "--name", "one", *limits, "busybox", "sleep", "300")
    host.ok("update", "--pids-limit", "88", "one")
    host.ok("restart", "-t", "0", "one")
    group = next(Path("/sys/fs/cgroup/blkio").glob(f"specrun-{(host.root / 'id').read_text()}-*"))
    found = {kind: (group / f"blkio.throttle.{kind.replace('-', '_')}_device").read_text() for kind in kinds}
    rates = {"read-bps": 3 << 20, "write-bps": 4 << 20, "read-iops": 50, "write-iops": 60}
    assert found == {kind: f"{number} {rate}\n" for kind, rate in rates.items()}
    recorded = json.loads(host.ok("inspect", "-f", "{{json .HostConfig}}", "one"))
    assert recorded["BlkioDeviceWriteIOps"] == [{"Path": f"/dev/{disk}", "Rate": 60}]
    done = host.run("run", "--rm", "--network", "none", "--device-read-bps", "/dev/null:1mb", "busybox", "true")
    assert done.returncode and b"/dev/null is no block device" in done.stderr
    assert len(host.containers()) == 1


def test_devices_by_number_swappiness_and_annotations(host: Host) -> None:
    script = "mknod /dev/x c 10 229; (: < /dev/x) && echo opened; cat /sys/fs/cgroup/memory/memory.swappiness"
    options = ("--rm", "--network", "none", "--annotation", "a.b=c=d", "--memory-swappiness", "0")
    assert host.run("run", *options, "busybox", "sh", "-c", script).stdout == b"0\n"
    rule = ("--device-cgroup-rule", "c 10:229 rwm")
    assert host.ok("run", *options, *rule, "busybox", "sh", "-c", script) == "opened\n0\n"
    host.ok("create", *options[1:], *rule, "--blkio-weight-device", "/dev/x:200", "--name", "one", "busybox")
    recorded = json.loads(host.ok("inspect", "-f", "{{json .HostConfig}}", "one"))
    assert recorded["Annotations"] == {"a.b": "c=d"} and recorded["MemorySwappiness"] == 0
    assert recorded["DeviceCgroupRules"] == ["c 10:229 rwm"]
    assert recorded["BlkioWeightDevice"] == [{"Path": "/dev/x", "Weight": 200}]


def test_a_stop_by_another_signal_and_without_an_end(host: Host) -> None:
    script = "trap 'exit 9' USR1; trap 'exit 8' RTMIN+3; trap '' TERM; while :; do sleep 0.1; done"
    host.ok(*QUIET, "--name", "one", "--stop-timeout", "0", "busybox", "sh", "-c", script.replace("RTMIN+3", "37"))
    time.sleep(0.5)
    host.ok("restart", "--signal", "USR1", "--timeout", "-1", "one")
    time.sleep(0.5)
    host.ok("stop", "-s", "RTMIN+3", "-t", "-1", "one")
    assert _show(host, ".State.ExitCode", "one") == "8"
    host.ok("start", "one")
    host.ok("stop", "one")
    assert _show(host, ".State.ExitCode", "one") == "137"
    assert b"Invalid signal: RTMIN+99" in host.run("stop", "-s", "RTMIN+99", "one").stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-m", "4m"], "Minimum memory limit allowed is 6MB"),
        (["--cpus", "9999"], "Range of CPUs is from 0.01"),
        (["--restart", "sometimes"], "invalid restart policy 'sometimes'"),
        (["--restart", "always", "--rm"], "Conflicting options: --restart and --rm"),
        (["--ulimit", "nonsense=1"], "invalid ulimit type: nonsense"),
        (["--device", "/no/such"], "no such file or directory"),
        (["--log-opt", "mode=x"], "unknown log opt 'mode'"),
        (["--runtime", "runc"], "unknown or invalid runtime name: runc"),
        (["--health-interval", "1x"], 'invalid duration "1x"'),
        (["--memory-swappiness", "101"], "valid memory swappiness range is 0-100"),
        (["--device-read-bps", "/dev/x"], "bad format: /dev/x"),
        (["--device-write-bps", "x:1"], "bad format for device path: x:1"),
        (["--device-read-iops", "/dev/x:1mb"], "invalid rate for device: /dev/x:1mb"),
        (["--device-write-bps", "/dev/x:-1"], "invalid rate for device: /dev/x:-1"),
        (["--blkio-weight-device", "/dev/x:9"], "invalid weight for device: /dev/x:9"),
        (["--device-cgroup-rule", "c 1:2 x"], "invalid device cgroup format 'c 1:2 x'"),
        (["--annotation", "x"], 'invalid argument "x" for "--annotation" flag'),
        (["--gpus", "all"], "--gpus is not supported yet"),
    ],
)
def test_what_cannot_be_is_refused_by_name(host: Host, options: list[str], message: str) -> None:
    done = host.run("run", "--network", "none", *options, "busybox", "true")
    assert (done.returncode, message in done.stderr.decode()) == (125, True), done.stderr
    assert message == "no such file or directory" or host.leftovers() == []


def test_what_is_given_of_the_host_is_there(host: Host) -> None:
    script = "ulimit -n; cat /proc/self/oom_score_adj; cat /proc/sys/net/ipv4/ip_forward; id -G; ls /dev/xnull"
    settings = "--ulimit nofile=100:200 --oom-score-adj 500 --sysctl net.ipv4.ip_forward=1 --group-add 77".split()
    more = "--device /dev/null:/dev/xnull:r --network none".split()
    out = host.ok("run", "--rm", *settings, *more, "busybox", "sh", "-c", script).split()
    assert out[:3] == ["100", "500", "1"]
    assert "77" in out
    assert out[-1] == "/dev/xnull"


def test_a_first_process_reaps_and_passes_signals_and_statuses_on(host: Host) -> None:
    once = ("run", "--rm", "--init", "--network", "none", "busybox")
    assert host.run(*once, "sh", "-c", "exit 7").returncode == 7
    assert host.run(*once, "no-such").returncode == 127
    host.ok(*QUIET, "--name", "one", "--init", "busybox", "sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.1; done")
    time.sleep(0.3)
    host.ok("stop", "one")
    assert _show(host, ".State.ExitCode", "one") == "5"


def test_logs_are_rotated_and_followed_without_loss(host: Host) -> None:
    # With pauses, or a monitor that lags behind takes all in one piece, which is never cut.
    pause = "[ $((i % 1000)) != 0 ] || sleep 0.1"
    script = f"i=0; while [ $i -lt 4000 ]; do echo line $i; i=$((i+1)); {pause}; done; sleep 0.5"
    options = ("--log-opt", "max-size=40k", "--log-opt", "max-file=9")
    host.ok(*QUIET, "--name", "one", *options, "busybox", "sh", "-c", script)
    wanted = [f"line {number}" for number in range(4000)]
    assert host.ok("logs", "-f", "one").splitlines() == wanted
    assert host.ok("logs", "one").splitlines() == wanted
    assert host.ok("logs", "--tail", "2500", "one").splitlines() == wanted[-2500:]
    assert len(list(host.root.glob("containers/*/log.*"))) > 1
    assert host.ok("logs", "--until", "1h", "one") == ""
    assert host.ok("logs", "--since", "1h", "one").splitlines() == wanted


def test_old_logs_go(host: Host) -> None:
    script = "head -c 300000 /dev/zero | tr '\\0' x | fold -w 99"
    host.ok(
        *QUIET, "--name", "one", "--log-opt", "max-size=10k", "--log-opt", "max-file=2", "busybox", "sh", "-c", script
    )
    host.ok("wait", "one")
    assert len(list(host.root.glob("containers/*/log*"))) == 2


def test_a_container_that_is_to_be_removed_survives_a_restart_by_hand(host: Host) -> None:
    host.ok(*QUIET, "--rm", "--name", "one", "busybox", "sleep", "300")
    host.ok("restart", "-t", "0", "one")
    assert _show(host, ".State.Status", "one") == "running"
    host.ok("rename", "one", "two")
    assert host.ok("ps", "--format", "{{.Names}}") == "two\n"
    host.ok("stop", "-t", "0", "two")
    assert host.leftovers() == []


def test_top_and_stats_show_its_processes(host: Host) -> None:
    host.ok(*QUIET, "--name", "one", "busybox", "sleep", "300")
    assert "sleep 300" in host.ok("top", "one", "-o", "pid,args")
    row = host.ok("stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}", "one")
    assert row == "one 1\n"


def test_many_with_health_and_restart_come_back(host: Host) -> None:
    """The short version of the stress: everybody is killed twice, at a time of its own."""
    names = [f"c{number}" for number in range(6)]
    check = ("--health-cmd", "true", "--health-interval", "200ms")
    for name in names:
        host.ok(*QUIET, "--name", name, "--restart", "always", *check, "busybox", "sleep", "300")
    for count in (1, 2):
        for name in names:
            os.kill(int(_show(host, ".State.Pid", name)), signal.SIGKILL)
        wanted = {f"{count} running"}
        assert _eventually(lambda wanted=wanted: _lives(host, names) == wanted, 60)  # type: ignore[misc]
    assert _eventually(lambda: host.ok("ps").count("(healthy)") == len(names))
    host.ok("rm", "-f", *names)
    assert host.leftovers() == []


def test_only_the_chosen_streams_are_attached(host: Host) -> None:
    script = ("busybox", "sh", "-c", "echo out; echo err >&2")
    once = ("run", "--rm", "--network", "none")
    done = host.run(*once, "-a", "stdout", *script)
    assert (done.stdout, done.stderr) == (b"out\n", b"")
    done = host.run(*once, "-a", "STDERR", *script)
    assert (done.stdout, done.stderr) == (b"", b"err\n")
    assert host.run(*once, "-a", "nothing", *script).returncode == 125
    assert host.run(*once, "-d", "-a", "stdout", *script).returncode == 125


@pytest.mark.parametrize(
    ("kind", "what", "title"),
    [
        ("container", "all stopped containers.", "Deleted Containers:"),
        ("volume", "all local volumes not used by at least one container.", "Deleted Volumes:"),
        ("network", "all custom networks not used by at least one container.", "Deleted Networks:"),
        ("system", "- all networks not used by at least one container", "Deleted Containers:"),
    ],
)
def test_a_prune_asks_first(host: Host, kind: str, what: str, title: str) -> None:
    host.ok("create", "--name", "old", "--network", "none", "busybox", "true")
    host.ok("volume", "create", "data")
    host.ok("network", "create", "net")
    for answer in (b"", b"n\n", b"yes\n"):
        said = host.ok(kind, "prune", input=answer)
        assert "WARNING! This will remove" in said and what in said and "continue? [y/N] " in said
        assert title not in said
    assert title in host.ok(kind, "prune", input=b"Y\n")
    assert title not in host.ok(kind, "prune", "-f")
