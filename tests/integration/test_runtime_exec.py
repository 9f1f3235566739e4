"""More processes in a running container, and terminals."""

from __future__ import annotations

import array
import fcntl
import json
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from specrun_runtime import cgroups, terminal
from tests.support.oci import PROBE, PYTHON, Bundle, Runtime, status_of, until

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs root")

SLEEP = ("sleep", "1000")


def probe_by_exec(runtime: Runtime, code: str, *options: str) -> Any:
    program = f"{PROBE}{code}\nprint(json.dumps(answer))"
    return json.loads(runtime.ok("exec", *options, "c", PYTHON, "-I", "-S", "-c", program))


STATUS = "answer = dict(l.rstrip('\\n').split(':\\t', 1) for l in open('/proc/self/status') if ':\\t' in l)"


def test_it_is_what_the_first_process_is(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.process["env"].append("FROM=config")
    pid = runtime.start(bundle, "c", *SLEEP)
    lines = runtime.ok("exec", "c", "cat", "/proc/self/status").splitlines()
    first, here = status_of(pid), dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Uid", "Gid", "Groups",
                 "SigBlk", "SigIgn", "Umask"):  # fmt: skip
        assert here[name].strip() == first[name].strip(), name
    answer = probe_by_exec(
        runtime,
        "answer = {k: os.readlink('/proc/self/ns/' + k) for k in os.listdir('/proc/self/ns')}, "
        "open('/proc/self/cgroup').read(), dict(os.environ), os.getcwd(), "
        "sorted(os.listdir('/proc/self/fd')), os.getpid(), os.getsid(0)",
    )
    spaces, groups, environment, cwd, descriptors, number, session = answer
    # What children of ours would get is not asked for.
    assert {k: v for k, v in spaces.items() if "for_children" not in k} == {
        k: os.readlink(f"/proc/{pid}/ns/{k}") for k in os.listdir(f"/proc/{pid}/ns") if "for_children" not in k
    }
    assert all(line.endswith(":/") for line in groups.splitlines())
    assert environment["FROM"] == "config"
    assert (cwd, descriptors, session) == ("/", ["0", "1", "2", "3"], number), "3 is the folder that is listed"


def test_every_namespace_is_joined(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.map_ids()
    bundle.linux["namespaces"].append({"type": "time"})
    pid = runtime.start(bundle, "c", *SLEEP)
    code = "answer = {k: os.readlink('/proc/self/ns/' + k) for k in os.listdir('/proc/self/ns')}"
    inside = probe_by_exec(runtime, code)
    for kind in ("user", "pid", "net", "mnt", "ipc", "uts", "cgroup", "time"):
        assert inside[kind] == os.readlink(f"/proc/{pid}/ns/{kind}"), kind
        assert inside[kind] != os.readlink(f"/proc/self/ns/{kind}"), kind


def test_options(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    runtime.start(bundle, "c", *SLEEP)
    code = (
        "answer = [os.getuid(), os.getgid(), sorted(os.getgroups()), os.environ.get('A'), os.getcwd(), "
        "open('/proc/self/status').read()]"
    )
    options = ("--user", "7:8", "-g", "9", "-g", "10", "--env", "A=b", "--cwd", "/tmp", "--no-new-privs")
    *facts, status = probe_by_exec(runtime, code, *options, "--cap", "CAP_SYS_TIME")
    assert facts == [7, 8, [9, 10], "b", "/tmp"]
    assert "NoNewPrivs:\t1" in status
    assert probe_by_exec(runtime, STATUS, "--cap", "CAP_SYS_TIME")["CapEff"] == f"{0xA80425FB | 1 << 25:016x}"


def test_exit_statuses(runtime: Runtime) -> None:
    runtime.start(runtime.bundle(), "c", *SLEEP)
    assert runtime.call("exec", "c", "sh", "-c", "exit 3").returncode == 3
    assert runtime.call("exec", "c", "sh", "-c", "kill -9 $$").returncode == 137
    assert "not found" in runtime.refused("exec", "c", "no-such-command")
    assert "permission denied" in runtime.refused("exec", "c", "/etc/passwd")
    assert "exec needs a command" in runtime.refused("exec", "c")
    assert "does not exist" in runtime.refused("exec", "nobody", "true")
    runtime.ok("kill", "c", "KILL")
    runtime.await_status("c", "stopped")
    assert "stopped" in runtime.refused("exec", "c", "true")


def test_process_file_and_detach(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    runtime.start(bundle, "c", *SLEEP)
    process = {"args": ["sh", "-c", "echo $0 $(id -u) > /tmp/out; sleep 1000", "there"], "cwd": "/tmp",
               "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}}  # fmt: skip
    (bundle.folder / "process.json").write_text(json.dumps(process))
    pid_file = bundle.folder / "exec.pid"
    runtime.ok("exec", "--process", str(bundle.folder / "process.json"), "-d", "--pid-file", str(pid_file), "c")
    pid = int(pid_file.read_text())
    until(lambda: (bundle.rootfs / "tmp/out").exists() and (bundle.rootfs / "tmp/out").read_text() == "there 0\n")
    assert pid in json.loads(runtime.ok("ps", "-f", "json", "c"))
    os.kill(pid, signal.SIGKILL)
    until(lambda: pid not in json.loads(runtime.ok("ps", "-f", "json", "c")))


def test_it_is_in_the_containers_control_group_or_below(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    pid = runtime.start(bundle, "c", *SLEEP)
    runtime.ok("exec", "-d", "--pid-file", str(bundle.folder / "p"), "c", *SLEEP)
    other = int((bundle.folder / "p").read_text())
    assert Path(f"/proc/{other}/cgroup").read_text() == Path(f"/proc/{pid}/cgroup").read_text()


def test_its_seccomp_filter_is_the_containers(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["getcwd"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}],
    }
    # The last checks before the exec are ours, and they ask for the working directory too.
    bundle.linux["seccomp"]["syscalls"][0]["names"] = ["sethostname"]
    runtime.start(bundle, "c", *SLEEP)
    code = "import ctypes; l = ctypes.CDLL(None, use_errno=True); l.sethostname(b'x', 1); answer = ctypes.get_errno()"
    assert probe_by_exec(runtime, code) == 95


def test_a_stopped_first_process_ends_the_others(runtime: Runtime) -> None:
    runtime.start(runtime.bundle(), "c", *SLEEP)
    running = subprocess.Popen(runtime.command("exec", "c", *SLEEP))
    until(lambda: len(json.loads(runtime.ok("ps", "-f", "json", "c"))) == 2)
    runtime.ok("kill", "c", "KILL")
    assert running.wait(10) == 137


class Terminal:
    """A person's terminal with a command in it."""

    def __init__(self, command: list[str]) -> None:
        self.master, slave = pty.openpty()
        self.set_size(33, 101)
        self.slave = slave
        self.before = termios.tcgetattr(slave)
        self.shown = b""
        self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)

    def set_size(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def await_text(self, text: str, seconds: float = 10) -> None:
        deadline = time.monotonic() + seconds
        while text.encode() not in self.shown:
            ready, _, _ = select.select([self.master], [], [], max(0, deadline - time.monotonic()))
            assert ready, self.shown
            self.shown += os.read(self.master, 4096)

    def end(self) -> int:
        """Wait for the end; gives the status. The terminal is as it was."""
        status = self.process.wait(20)
        assert termios.tcgetattr(self.slave) == self.before
        os.close(self.master)
        os.close(self.slave)
        return status


def with_terminal(bundle: Bundle, *command: str) -> None:
    bundle.process.update(terminal=True, args=list(command))
    bundle.write()


def test_run_with_a_terminal(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    with_terminal(bundle, "sh", "-c", "tty; stty size; read line; echo got $line; ls -l /dev/console; exit 4")
    terminal = Terminal(runtime.command("run", "--bundle", str(bundle.folder), "c"))
    terminal.await_text("/dev/pts/0\r\n33 101\r\n")
    terminal.type("hello\r")
    terminal.await_text("got hello\r\n")
    terminal.await_text("/dev/console")
    assert terminal.end() == 4


def test_window_changes_and_interrupts(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    with_terminal(bundle, "sh", "-c", "trap 'stty size' WINCH; trap 'echo int; exit 5' INT; echo up; "
                  "while :; do sleep 0.05; done")  # fmt: skip
    terminal = Terminal(runtime.command("run", "--bundle", str(bundle.folder), "c"))
    terminal.await_text("up")
    terminal.set_size(44, 55)
    os.kill(terminal.process.pid, signal.SIGWINCH)
    terminal.await_text("44 55")
    terminal.type("\x03")
    terminal.await_text("int")
    assert terminal.end() == 5


def test_exec_with_a_terminal(runtime: Runtime) -> None:
    runtime.start(runtime.bundle(), "c", *SLEEP)
    terminal = Terminal(runtime.command("exec", "--tty", "c", "sh", "-c", "tty; stty size; cat; exit 6"))
    terminal.await_text("/dev/pts/0\r\n33 101\r\n")
    terminal.type("x\r")
    terminal.await_text("x\r\nx\r\n")
    terminal.type("\x04")
    assert terminal.end() == 6


def received(path: Path) -> tuple[socket.socket, Callable[[], int]]:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1)

    def accept() -> int:
        connection, _ = listener.accept()
        with connection:
            _, descriptors, _, _ = socket.recv_fds(connection, 4096, 1)
        listener.close()
        return descriptors[0]

    return listener, accept


def test_console_socket(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    with_terminal(bundle, "sh", "-c", "stty size; stat -c '%t:%T %u %g %a' /dev/pts/0 /dev/console; cat")
    bundle.process["consoleSize"] = {"height": 12, "width": 34}
    bundle.process["user"]["uid"] = 5
    bundle.write()
    assert "console socket" in runtime.refused("create", "--bundle", str(bundle.folder), "c")
    # Longer than a socket's name may be.
    folder = runtime.folder / ("x" * 120)
    folder.mkdir()
    os.chdir(folder)
    _, accept = received(Path("s"))
    runtime.ok("create", "--bundle", str(bundle.folder), "--console-socket", str(folder / "s"), "c")
    master = accept()
    runtime.ok("start", "c")
    shown = b""
    while shown.count(b"\r\n") < 3:
        shown += os.read(master, 4096)
    assert shown == b"12 34\r\n88:0 5 5 620\r\n88:0 5 5 620\r\n"
    os.write(master, b"typed\n")
    while shown.count(b"typed\r\n") < 2:
        shown += os.read(master, 4096)
    os.write(master, b"\x04")
    runtime.await_status("c", "stopped")
    os.close(master)
    bundle.process["terminal"] = False
    bundle.write()
    text = runtime.refused("create", "--bundle", str(bundle.folder), "--console-socket", str(folder / "s"), "d")
    assert "terminal is false" in text
    os.chdir("/")


def test_nobody_at_the_console_socket(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    with_terminal(bundle, *SLEEP)
    text = runtime.refused("create", "--bundle", str(bundle.folder), "--console-socket", str(runtime.folder / "s"), "c")
    assert "console socket" in text
    assert runtime.ok("list", "-q") == ""


def test_exec_by_console_socket(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    runtime.start(bundle, "c", *SLEEP)
    _, accept = received(runtime.folder / "s")
    runtime.ok("exec", "--tty", "--detach", "--console-socket", str(runtime.folder / "s"), "c", "sh", "-c", "tty; cat")
    master = accept()
    assert os.read(master, 100) == b"/dev/pts/0\r\n"
    terminal.set_size(master, 1, 2)
    os.close(master)
    until(lambda: len(json.loads(runtime.ok("ps", "-f", "json", "c"))) == 1)


def test_the_terminal_is_restored_when_the_command_is_told_to_end(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    with_terminal(bundle, "sh", "-c", "echo up; exec sleep 1000")
    terminal = Terminal(runtime.command("run", "--bundle", str(bundle.folder), "c"))
    terminal.await_text("up")
    until(lambda: not termios.tcgetattr(terminal.slave)[3] & termios.ECHO)
    terminal.process.send_signal(signal.SIGTERM)  # forwarded; PID 1 does not listen
    time.sleep(0.2)
    assert terminal.process.poll() is None
    runtime.ok("kill", "c", "KILL")
    assert terminal.end() == 137


def test_nothing_of_ours_survives_the_exec(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    with_terminal(bundle, "ls", "/proc/self/fd")
    terminal = Terminal(runtime.command("run", "--bundle", str(bundle.folder), "c"))
    terminal.await_text("3")
    assert terminal.end() == 0
    assert terminal.shown.split() == [b"0", b"1", b"2", b"3"]
    assert array.array("b", terminal.shown)


@pytest.mark.parametrize("real", [True, False])
def test_a_process_is_born_into_its_group_or_moved_there(tmp_path: Path, real: bool) -> None:
    """The kernel is asked first; what it refuses, here a folder that is no group, is left to `join`."""
    where = next(hierarchy for hierarchy in cgroups.hierarchies() if hierarchy.unified)
    where = where if real else cgroups.Hierarchy(str(tmp_path), (), True)
    group = cgroups.Cgroup(f"specrun-born-{os.getpid()}", [where])
    os.mkdir(group.folder(where))
    reader, writer = os.pipe()
    try:
        pid = group.fork()
        if pid == 0:
            with open("/proc/self/cgroup", encoding="ascii") as file:
                inside = f"0::/{group.name}\n" in file.readlines()
            os.write(writer, b"born" if inside and group.born else b"moved" if not (inside or group.born) else b"odd")
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert os.read(reader, 9) == (b"born" if real else b"moved")
        assert not group.born  # the caller is not
    finally:
        os.close(reader)
        os.close(writer)
        group.remove()
