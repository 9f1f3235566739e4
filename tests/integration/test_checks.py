"""Claims about real containers and images, looked at from outside."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from specrun.checks.check import Check
from specrun.checks.subjects import Exec, File, ImageConfig, ImageFile, Job, Log, Page, Port, Processes, Run
from specrun.engine.containers import Engine
from specrun.paths import open_root
from tests.support.host import Host

GOLDEN = Path(__file__).parents[1] / "golden" / "cst"


@pytest.fixture
def engine(host: Host) -> Iterator[Engine]:
    os.environ["SPECRUN_RUN"] = host.environment["SPECRUN_RUN"]
    yield Engine(open_root(str(host.root)))
    del os.environ["SPECRUN_RUN"]


def problem(engine: Engine, subject: Any, expected: dict[str, Any], eventually: float = 0.0) -> str:
    return Check("x", subject, expected, eventually).run(engine).problem


def test_a_command_in_a_new_container(engine: Engine, host: Host) -> None:
    run = Run("busybox", ["sh", "-c", "echo out; echo err >&2; exit 3"], network="none")
    assert problem(engine, run, {"exitCode": 3, "stdout": "out\n", "stderr": {"contains": "err"}}) == ""
    assert "expected 0, found 3" in problem(engine, run, {"exitCode": 0})
    assert problem(engine, Run("busybox", ["no-such"], network="none"), {"exitCode": 127}) == ""
    assert host.containers() == []


def test_a_command_in_a_running_container(engine: Engine, host: Host) -> None:
    host.ok("run", "-d", "--name", "one", "--network", "none", "-e", "A=1", "busybox", "sleep", "300")
    command = ["sh", "-c", "echo $A $B; pwd >&2; exit $(id -u)"]
    found = Exec("one", command, env=["B=2"], user="7:7", workdir="/tmp")
    assert problem(engine, found, {"exitCode": 7, "stdout": "1 2\n", "stderr": "/tmp\n"}) == ""
    assert "expected 0, found 7" in problem(engine, found, {"exitCode": 0})
    assert problem(engine, Exec("one", ["no-such"]), {"exitCode": 127, "stderr": {"contains": "no-such"}}) == ""
    host.ok("stop", "-t", "0", "one")
    assert "is not running" in problem(engine, found, {"exitCode": 7})


def test_a_command_that_hangs_is_killed_with_all_it_has_started(engine: Engine, host: Host) -> None:
    script = "echo begun; trap '' TERM; (sleep 3001 &); setsid sleep 3002 & sleep 3003"
    began = time.monotonic()
    said = problem(engine, Run("busybox", ["sh", "-c", script], 0.5, network="none"), {"exitCode": 0})
    assert said.endswith("in busybox: not done within 0.5 s, and killed; it had written:\nbegun")
    host.ok("run", "-d", "--name", "one", "--network", "none", "busybox", "sleep", "300")
    assert "not done within 0.5 s" in problem(engine, Exec("one", ["sh", "-c", script], 0.5), {"exitCode": 0})
    assert problem(engine, Processes("one"), {"commands": ["sleep 300"]}) == ""
    assert problem(engine, Exec("one", ["sleep", "1"], 0), {"exitCode": 0}) == ""
    assert time.monotonic() - began < 20
    assert len(host.containers()) == 1


def test_files_processes_and_the_log_of_a_container(engine: Engine, host: Host) -> None:
    script = (
        "mkdir -m 700 /new; echo text > /new/file; chown 5:6 /new/file; ln -s /new/file /link; echo ready; sleep 300"
    )
    host.ok("run", "-d", "--name", "one", "--network", "none", "busybox", "sh", "-c", script)
    assert problem(engine, Log("one"), {"stdout": {"contains": "ready"}}, 10) == ""
    expected = {"type": "file", "mode": "0644", "uid": 5, "gid": 6, "content": "text\n"}
    assert problem(engine, File("one", "/new/file"), expected) == ""
    assert problem(engine, File("one", "/link"), {"content": "text\n"}) == ""
    assert problem(engine, File("one", "/link"), {"target": "/new/file", "type": "link"}) == ""
    assert problem(engine, File("one", "/new"), {"type": "directory", "mode": "0700"}) == ""
    assert problem(engine, File("one", "/nothing"), {"exists": False}) == ""
    assert "it does not exist" in problem(engine, File("one", "/nothing"), {"uid": 0})
    assert problem(engine, Processes("one"), {"count": 1, "commands": ["sleep 300"]}) == ""


def test_a_link_in_a_container_leads_nowhere_on_the_host(engine: Engine, host: Host, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of the host")
    targets = (f"{tmp_path}/secret", f"../../../../../../{tmp_path}/secret", f"/proc/1/root{tmp_path}/secret")
    link = "; ".join(f"ln -s {target} /{name}" for name, target in zip("abc", targets, strict=True))
    host.ok("run", "-d", "--name", "one", "--network", "none", "busybox", "sh", "-c", f"{link}; echo ready; sleep 300")
    assert problem(engine, Log("one"), {"stdout": {"contains": "ready"}}, 10) == ""
    for name in "abc":
        assert "of the host" not in problem(engine, File("one", f"/{name}"), {"content": "x"})
        assert problem(engine, File("one", f"/{name}"), {"content": {"contains": "of the host"}}) != ""


def test_images(engine: Engine) -> None:
    assert problem(engine, ImageFile("busybox", "/bin/busybox"), {"type": "file", "mode": "0755"}) == ""
    assert problem(engine, ImageFile("busybox", "/bin/sh"), {"target": "busybox"}) == ""
    assert problem(engine, ImageFile("busybox", "/etc/passwd"), {"content": {"matches": "^root:"}}) == ""
    assert problem(engine, ImageConfig("busybox"), {"command": ["sh"], "layers": 1, "size": {"atLeast": 1000}}) == ""
    assert "No such image" in problem(engine, ImageConfig("nothing"), {"layers": 1})


def test_jobs_ports_and_pages(engine: Engine, host: Host) -> None:
    host.ok("run", "--name", "job", "--network", "none", "busybox", "sh", "-c", "echo done; echo oops >&2")
    assert problem(engine, Job("job"), {"exitCode": 0, "stdout": "done\n", "stderr": "oops\n"}) == ""
    host.ok("run", "-d", "--network", "host", "busybox", "httpd", "-f", "-p", "127.0.0.1:18437", "-h", "/etc")
    page = Page("http://127.0.0.1:18437/passwd")
    assert (
        problem(engine, page, {"status": 200, "body": {"contains": "root"}, "headers": {"contains": "date"}}, 10) == ""
    )
    assert problem(engine, Port("127.0.0.1", 18437), {"open": True}) == ""
    assert problem(engine, Port("127.0.0.1", 18438), {"open": False}) == ""
    assert "does not answer" in problem(engine, Page("http://127.0.0.1:18438/"), {"status": 200})


def test_waiting_ends_when_it_is_in_vain(engine: Engine, host: Host) -> None:
    host.run("run", "--name", "one", "--network", "none", "busybox", "sh", "-c", "echo last words; exit 3")
    check = Check("x", Log("one"), {"stdout": {"contains": "ready"}}, 60)
    result = check.run(engine)
    assert result.seconds < 10
    assert "has ended with status 3" in result.problem and "last words" in result.problem


@pytest.mark.parametrize(
    ("name", "status", "failing"), [("holds", 0, 0), ("fails", 1, 7), ("owners", 1, 1), ("commands", 0, 0)]
)
def test_files_of_container_structure_test(host: Host, name: str, status: int, failing: int) -> None:
    done = host.run("check", "--cst", str(GOLDEN / f"{name}.yaml"), "--image", "busybox", "--output", "json")
    assert done.returncode == status, done.stderr.decode() + done.stdout.decode()
    checks = json.loads(done.stdout)["checks"]
    assert sum(not check["holds"] for check in checks) == failing


def test_a_wrong_file_is_shown_where_it_is_wrong(host: Host, tmp_path: Path) -> None:
    file = tmp_path / "tests.yaml"
    file.write_text("schemaVersion: 2.0.0\nfileExistenceTests:\n  - {name: x, pth: /x}\n")
    done = host.run("check", "--cst", str(file), "--image", "busybox")
    assert done.returncode == 1
    assert done.stderr.decode().startswith(f"{file}:3:15") and "pth: unknown field" in done.stderr.decode()


def test_a_hanging_command_of_container_structure_test(host: Host, tmp_path: Path) -> None:
    file = tmp_path / "tests.yaml"
    file.write_text("schemaVersion: 2.0.0\ncommandTests:\n  - {name: x, command: sleep, args: ['300']}\n")
    done = host.run("check", "--cst", str(file), "--image", "busybox", "--timeout", "1")
    assert done.returncode == 1
    assert b"sleep 300 in busybox: not done within 1 s, and killed, without a word" in done.stdout
    for words in (["--cst", str(file), "--image", "busybox", "--timeout", "-1"], [str(file), "--timeout", "1"]):
        assert host.run("check", *words).returncode == 125


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_check_that_is_interrupted_leaves_no_container(host: Host, tmp_path: Path, number: int, status: int) -> None:
    file = tmp_path / "tests.yaml"
    file.write_text("schemaVersion: 2.0.0\ncommandTests:\n  - {name: x, command: sleep, args: ['300']}\n")
    process = host.spawn("check", "--cst", str(file), "--image", "busybox")
    while not host.ok("ps", "-q"):
        assert process.poll() is None
    process.send_signal(number)
    assert process.wait(20) == status
    for _ in range(100):  # its monitor may be a moment behind
        if not host.containers():
            break
    assert host.containers() == []


SPEC = """apiVersion: specrun/v1
kind: Job
metadata: {name: greeting}
spec: {image: busybox, command: [echo, hello], network: none}
---
apiVersion: specrun/v1
kind: Container
metadata: {name: box}
spec: {image: busybox, command: [sleep, "300"], network: none, stopTimeout: 0}
---
apiVersion: specrun/v1
kind: Check
metadata: {name: holds}
spec:
  - that: the greeting is given
    job: greeting
    expect: {exitCode: 0, stdout: "hello\\n"}
  - that: an ordinary container cannot change interfaces
    run: {image: busybox, command: [ip, link, set, lo, down]}
    expect: {exitCode: {not: 0}, stderr: {contains: "Operation not permitted"}}
  - that: the image has a shell
    file: {image: busybox, path: /bin/sh}
    expect: {exists: true, target: busybox}
  - that: a command has its time
    run: {image: busybox, command: [sleep, "0.1"], timeout: 10s}
    expect: {exitCode: 0}
  - that: who comes later sees the container's first process
    exec: {container: box, command: [ps]}
    expect: {exitCode: 0, stdout: {contains: sleep 300}}
"""


def test_the_claims_of_specs(host: Host, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(SPEC)
    before = host.run("check", str(spec))
    assert before.returncode == 1 and b"no  the greeting is given" in before.stdout
    host.ok("apply", str(spec))
    after = host.ok("check", str(spec))
    assert after.splitlines()[-1] == "5 hold, 0 do not."
    assert host.run("plan", str(spec)).returncode == 0
    spec.write_text(SPEC.replace("hello\\n", "goodbye\\n").replace("timeout: 10s", "timeout: 1ms"))
    failed = host.run("check", str(spec))
    assert failed.returncode == 1
    assert "expected 'goodbye\\n', found 'hello\\n'" in failed.stdout.decode()
    assert "not done within 0.001 s" in failed.stdout.decode()
    host.ok("delete", str(spec))
