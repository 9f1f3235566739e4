"""`specrun run`: what goes in, what comes out, and what the container sees."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.host import COMMAND, Host


def test_says_hello(host: Host) -> None:
    assert host.ok("run", "--rm", "busybox", "echo", "hello world") == "hello world\n"


@pytest.mark.parametrize("status", [0, 1, 7, 126, 127, 128, 255])
def test_exits_as_the_command_does(host: Host, status: int) -> None:
    assert host.run("run", "--rm", "busybox", "sh", "-c", f"exit {status}").returncode == status


@pytest.mark.parametrize(
    ("command", "status", "message"),
    [
        (["nosuch"], 127, 'exec: "nosuch": executable file not found in $PATH'),
        (["/no/such"], 127, "no such file or directory"),
        (["/etc"], 126, "permission denied"),
        (["/etc/passwd"], 126, "permission denied"),
    ],
)
def test_says_why_a_command_cannot_be_executed(host: Host, command: list[str], status: int, message: str) -> None:
    done = host.run("run", "--rm", "busybox", *command)
    assert (done.returncode, message in done.stderr.decode()) == (status, True)
    assert host.leftovers() == []


def test_our_own_errors_are_125(host: Host) -> None:
    assert host.run("run", "--rm", "no-such-image", "true").returncode == 125
    assert host.run("run", "--no-such-flag").returncode == 125
    assert host.run("run", "-p", "70000:80", "busybox").returncode == 125


def test_a_signal_ends_it_with_128_and_its_number(host: Host) -> None:
    done = host.run("run", "--rm", "busybox", "sh", "-c", "sh -c 'kill -TERM $$'; exit $?")
    assert done.returncode == 128 + signal.SIGTERM


def test_signals_are_forwarded_to_the_container(host: Host) -> None:
    process = host.spawn(
        "run", "--rm", "busybox", "sh", "-c", "trap 'exit 42' TERM; echo up; while :; do sleep 0.1; done",
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 42
    process.stdout.close()


def test_streams_are_kept_apart_and_unchanged(host: Host) -> None:
    data = os.urandom(1 << 20)
    done = host.run("run", "--rm", "-i", "busybox", "sh", "-c", "cat; echo oops >&2", input=data)
    assert (done.stdout, done.stderr, done.returncode) == (data, b"oops\n", 0)


def test_without_i_the_input_is_not_attached(host: Host) -> None:
    done = host.run("run", "--rm", "busybox", "grep", "hello", input=b"hello there\n")
    assert (done.stdout, done.returncode) == (b"", 1)


def test_a_reader_that_goes_away_ends_the_writer(host: Host) -> None:
    done = subprocess.run(
        f"{COMMAND} run --rm busybox yes | head -n 1", shell=True, env=host.environment, capture_output=True, timeout=30
    )
    assert done.stdout == b"y\n"


def test_environment_is_docker_s(host: Host) -> None:
    lines = host.ok("run", "--rm", "-e", "HELLO=world", "-h", "box", "busybox", "env").splitlines()
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert lines == [path, "HOSTNAME=box", "HELLO=world", "HOME=/root"]


def test_user_and_working_directory(host: Host) -> None:
    assert host.ok("run", "--rm", "-u", "1000:1001", "busybox", "sh", "-c", "id -u; id -g").split() == ["1000", "1001"]
    assert host.ok("run", "--rm", "-u", "nobody", "busybox", "id", "-u").strip() == "65534"
    assert host.ok("run", "--rm", "-w", "/a/b", "busybox", "pwd").strip() == "/a/b"
    done = host.run("run", "--rm", "-u", "who", "busybox", "true")
    assert done.returncode == 125
    assert b"unable to find user who" in done.stderr


def test_another_user_has_no_capabilities(host: Host) -> None:
    text = host.ok("run", "--rm", "-u", "1000", "busybox", "grep", "Cap", "/proc/self/status")
    sets = dict(line.split(":\t") for line in text.splitlines())
    assert sets["CapEff"] == sets["CapPrm"] == sets["CapInh"] == sets["CapAmb"] == "0" * 16
    assert sets["CapBnd"] == "00000000a80425fb"


def test_detached_prints_the_id_and_keeps_a_log(host: Host) -> None:
    identity = host.ok("run", "-d", "--name", "one", "busybox", "sh", "-c", "echo out; sleep 0.1; echo err >&2").strip()
    assert len(identity) == 64
    assert host.ok("wait", "one").strip() == "0"
    done = host.run("logs", "one")
    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")
    both = host.run("logs", "--tail", "1", "one")
    assert both.stdout + both.stderr == b"err\n"
    facts = json.loads(host.ok("inspect", "one"))[0]
    assert facts["Id"] == identity
    assert facts["State"]["Status"] == "exited"
    assert facts["Path"] == "sh"


def test_logs_follow_until_the_end(host: Host) -> None:
    host.ok("run", "-d", "--name", "slow", "busybox", "sh", "-c", "for i in 1 2 3 4 5; do echo $i; sleep 0.2; done")
    assert host.ok("logs", "-f", "slow").split() == ["1", "2", "3", "4", "5"]


def test_names_are_unique_and_the_holder_is_named(host: Host) -> None:
    identity = host.ok("create", "--name", "mine", "busybox", "true").strip()
    done = host.run("run", "--name", "mine", "busybox", "true")
    assert done.returncode == 125
    assert identity in done.stderr.decode()
    assert host.containers() == [identity]


@pytest.mark.parametrize("name", ["../x", "a/b", "-x", ".", "a b", "x\n", "é", "a" * 129])
def test_a_name_that_is_no_name_is_refused(host: Host, name: str) -> None:
    done = host.run("run", f"--name={name}", "busybox", "true")
    assert done.returncode == 125
    assert b"Invalid container name" in done.stderr
    assert host.leftovers() == []


def test_stop_start_and_remove(host: Host) -> None:
    host.ok("run", "-d", "--name", "one", "busybox", "sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.1; done")
    time.sleep(0.2)
    assert host.run("rm", "one").returncode == 1
    host.ok("stop", "one")
    assert host.ok("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "one") == "exited 3\n"
    host.ok("start", "one")
    assert host.ok("ps", "-q").strip() == host.containers()[0][:12]
    host.ok("rm", "-f", "one")
    assert host.leftovers() == []


def test_files_of_a_container_survive_a_restart_and_are_its_own(host: Host) -> None:
    host.ok("run", "--name", "one", "busybox", "sh", "-c", "test -e /made && cat /made || echo first > /made")
    assert host.ok("start", "-a", "one") == "first\n"
    assert host.run("run", "--rm", "busybox", "test", "-e", "/made").returncode == 1


def test_an_idle_monitor_has_four_mebibytes_for_itself(host: Host) -> None:
    """As there is one for each container; what it shares with the others (the interpreter's file) is not counted."""
    host.ok("run", "-d", "--name", "one", "busybox", "sleep", "1000")
    record = next(Path(host.root, "containers").iterdir()) / "state.json"
    monitor = json.loads(record.read_text())["monitor_pid"]
    lines = Path(f"/proc/{monitor}/smaps_rollup").read_text().splitlines()
    private = sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
    assert private <= 4096, f"{private} KiB"
