"""The life of a container by the OCI command line, as engines of others drive it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.oci import PROBE, PYTHON, Runtime, until

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs root")


def test_create_start_state_kill_delete(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.config["annotations"] = {"org.example.key": "value"}
    bundle.process["args"] = ["sleep", "1000"]
    bundle.write()
    runtime.ok("create", "--bundle", str(bundle.folder), "--pid-file", str(bundle.folder / "pid"), "c")
    state = runtime.state("c")
    assert state["status"] == "created"
    assert state["pid"] == int((bundle.folder / "pid").read_text())
    assert state["bundle"] == str(bundle.folder)
    assert state["annotations"] == {"org.example.key": "value"}
    assert state["ociVersion"] == "1.2.0"
    words = Path(f"/proc/{state['pid']}/cmdline")
    assert b"sleep" not in words.read_bytes()
    assert "not stopped: created (use --force)" in runtime.refused("delete", "c")
    assert runtime.state("c") == state, "a delete that is refused has no effect"
    runtime.ok("start", "c")
    assert runtime.state("c")["status"] == "running"
    until(lambda: b"sleep" in words.read_bytes())
    assert "not stopped" in runtime.refused("delete", "c")
    runtime.ok("kill", "c", "KILL")
    runtime.await_status("c", "stopped")
    assert runtime.state("c")["pid"] == 0
    assert "not running" in runtime.refused("kill", "c", "TERM")
    assert "stopped" in runtime.refused("start", "c")
    runtime.ok("delete", "c")
    assert "does not exist" in runtime.refused("state", "c")
    assert "does not exist" in runtime.refused("delete", "c")
    runtime.ok("delete", "--force", "c")


def test_run_gives_the_commands_output_and_status(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.process["args"] = ["sh", "-c", "echo out; echo err >&2; read line; echo $line; exit 7"]
    bundle.write()
    done = subprocess.run(
        runtime.command("run", "--bundle", str(bundle.folder), "c"), input=b"typed\n", capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\ntyped\n", b"err\n")
    assert runtime.ok("list", "-q") == ""


def test_a_signal_to_run_reaches_the_container(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.process["args"] = ["sh", "-c", "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done"]
    bundle.write()
    running = subprocess.Popen(runtime.command("run", "--bundle", str(bundle.folder), "c"), stdout=subprocess.PIPE)
    assert running.stdout and running.stdout.readline() == b"ready\n"
    running.send_signal(signal.SIGTERM)
    assert running.wait(20) == 9
    running.stdout.close()


def test_an_id_is_taken_once(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    runtime.start(bundle, "c", "sleep", "1000")
    assert "exists" in runtime.refused("create", "--bundle", str(bundle.folder), "c")
    assert runtime.state("c")["status"] == "running"
    for name in ("", ".", "..", "../x", "a/b", "a b", "ä"):
        assert "invalid id" in runtime.refused("create", "--bundle", str(bundle.folder), name), name


def test_what_cannot_be_created_leaves_nothing(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    for change, words in (
        ({"ociVersion": None}, "ociVersion: is missing"),
        ({"process": {"cwd": "/", "args": []}}, "process.args: is empty"),
        ({"root": {"path": "nowhere"}}, "nowhere"),
        ({"linux": {"namespaces": [{"type": "moon"}]}}, "linux.namespaces[0].type: found 'moon'"),
        ({"linux": {**bundle.linux, "mountLabel": "x"}}, "linux.mountLabel: no security module"),
        ({"linux": {**bundle.linux, "intelRdt": {"closID": "x"}}}, "linux.intelRdt"),
    ):
        before = bundle.config
        bundle.config = {**before, **change}
        assert words in runtime.fails(bundle), change
        bundle.config = before
        assert runtime.ok("list", "-q") == ""


def test_a_command_that_is_not_there_is_told_by_create(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.process["args"] = ["/no/such"]
    bundle.write()
    assert "no such file" in runtime.refused("create", "--bundle", str(bundle.folder), "c")
    assert runtime.ok("list", "-q") == ""


def test_list_shows_all(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    pid = runtime.start(bundle, "one", "sleep", "1000")
    head, line = runtime.ok("list").splitlines()
    assert head.split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    assert line.split()[:4] == ["one", str(pid), "running", str(bundle.folder)]
    (document,) = json.loads(runtime.ok("list", "--format", "json"))
    assert (document["id"], document["pid"], document["owner"]) == ("one", pid, "root")
    assert runtime.ok("list", "--quiet") == "one\n"


def test_pause_and_resume(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    ticks = bundle.rootfs / "ticks"
    runtime.start(bundle, "c", "sh", "-c", "while :; do echo >> /ticks; sleep 0.01; done")
    until(lambda: ticks.exists() and ticks.stat().st_size > 2)
    runtime.ok("pause", "c")
    assert runtime.state("c")["status"] == "paused"
    still = ticks.stat().st_size
    time.sleep(0.2)
    assert ticks.stat().st_size == still
    assert "paused" in runtime.refused("exec", "c", "true")
    assert "cannot pause" in runtime.refused("pause", "c")
    runtime.ok("resume", "c")
    assert runtime.state("c")["status"] == "running"
    until(lambda: ticks.stat().st_size > still)
    assert "not paused" in runtime.refused("resume", "c")
    runtime.ok("pause", "c")
    runtime.ok("kill", "c", "KILL")
    runtime.await_status("c", "stopped")


def test_a_paused_container_is_removed(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    runtime.start(bundle, "c", "sleep", "1000")
    runtime.ok("pause", "c")
    runtime.ok("delete", "--force", "c")


def test_ps_shows_its_processes_only(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    pid = runtime.start(bundle, "c", "sh", "-c", "sleep 1000 & wait")
    until(lambda: len(json.loads(runtime.ok("ps", "--format", "json", "c"))) == 2)
    assert pid in json.loads(runtime.ok("ps", "--format", "json", "c"))
    lines = runtime.ok("ps", "c", "-o", "pid,args").splitlines()
    assert lines[0].split() == ["PID", "COMMAND"]
    assert sorted(line.split()[1] for line in lines[1:]) == ["sh", "sleep"]


def test_kill_all_ends_a_fork_bomb(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.linux["resources"]["pids"] = {"limit": 60}
    code = "while 1:\n try: os.fork()\n except OSError: pass"
    runtime.start(bundle, "c", PYTHON, "-I", "-S", "-c", PROBE + code)
    until(lambda: len(json.loads(runtime.ok("ps", "-f", "json", "c"))) > 50)
    began = time.monotonic()
    runtime.ok("kill", "--all", "c", "KILL")
    runtime.ok("delete", "--force", "c")
    assert time.monotonic() - began < 5


def test_events_and_statistics(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.linux["resources"]["pids"] = {"limit": 50}
    bundle.linux["resources"]["memory"] = {"limit": 64 << 20}
    runtime.start(bundle, "c", "sleep", "1000")
    event = json.loads(runtime.ok("events", "--stats", "c"))
    assert (event["type"], event["id"]) == ("stats", "c")
    assert event["data"]["pids"] == {"current": 1, "limit": 50}
    assert event["data"]["memory"]["usage"]["limit"] == 64 << 20
    assert event["data"]["cpu"]["usage"]["total"] > 0


def test_an_out_of_memory_kill_is_an_event_that_names_the_process(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.linux["resources"]["memory"] = {"limit": 32 << 20, "swap": 32 << 20}
    os.mkfifo(bundle.rootfs / "go")
    runtime.start(bundle, "c", "sh", "-c", "read line < /go; python3 -ISc 'b = bytearray(200 << 20)'; sleep 1000")
    events = subprocess.Popen(runtime.command("events", "--interval", "60s", "c"), stdout=subprocess.PIPE)
    time.sleep(0.5)
    (bundle.rootfs / "go").write_text("go\n")
    assert events.stdout
    event = json.loads(events.stdout.readline())
    runtime.ok("delete", "-f", "c")
    events.wait(10)
    events.stdout.close()
    assert event["type"] == "oom"
    assert [process["name"] for process in event["data"]["killed"]] == ["python3"]


def test_spec_writes_a_configuration_that_runs(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    runtime.ok("spec", "--bundle", str(bundle.folder))
    written = json.loads((bundle.folder / "config.json").read_text())
    assert written["process"]["args"] == ["sh"]
    assert written["root"] == {"path": "rootfs", "readonly": True}
    assert "exists" in runtime.refused("spec", "--bundle", str(bundle.folder))
    written["process"]["terminal"] = False
    written["mounts"].append(bundle.config["mounts"][-1])
    written["process"]["args"] = ["echo", "ran"]
    bundle.config = written
    assert runtime.run(bundle) == "ran\n"


def test_features_tells_what_there_is(runtime: Runtime) -> None:
    features = json.loads(runtime.ok("features"))
    assert (features["ociVersionMin"], features["ociVersionMax"]) == ("1.0.0", "1.2.0")
    assert set(features["linux"]["namespaces"]) == {
        "pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time",
    }  # fmt: skip
    assert {"rro", "idmap", "tmpcopyup", "rprivate"} <= set(features["mountOptions"])
    assert features["linux"]["cgroup"] == {
        "v1": True, "v2": True, "systemd": False, "systemdUser": False, "rdma": False,
    }  # fmt: skip


def test_errors_are_logged_where_the_caller_asks(runtime: Runtime) -> None:
    log = runtime.folder / "log"
    runtime.refused("--log", str(log), "--log-format", "json", "state", "nobody")
    record = json.loads(log.read_text())
    assert record["level"] == "error"
    assert "nobody" in record["msg"]


def test_preserved_descriptors_and_no_others(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    reader, writer = os.pipe()
    bundle.process["args"] = ["sh", "-c", "ls /proc/self/fd | tr '\\n' ' '; echo preserved >&3"]
    bundle.write()
    arguments = runtime.command("run", "--preserve-fds", "1", "--bundle", str(bundle.folder), "c")
    done = subprocess.run(
        ["bash", "-c", f'exec "$@" 3>&{writer} 7</', "bash", *arguments],
        pass_fds=[writer],
        capture_output=True,
        check=True,
    )
    os.close(writer)
    assert os.read(reader, 100) == b"preserved\n"
    os.close(reader)
    assert done.stdout.split() == [b"0", b"1", b"2", b"3", b"4"], "4 is the folder that ls reads"
