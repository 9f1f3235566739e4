"""specrun-runtime in the place of runc: engines of others run their containers on it.

`./dev compare` starts a private dockerd that has it among its runtimes; podman gets storage, configuration and run
folders of its own. Nothing of the machine's defaults is read or changed.
"""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from specrun.bdd.podman import remove_groups
from tests.support.oci import COMMAND, until

pytestmark = pytest.mark.oracle

IMAGE = "specrun-runtime-probe"
PODMAN_CONFIGURATION = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
init_path = "{init}"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


class Engine:
    """One engine: how it is called, and the beginning of its `run`."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str], run: list[str]) -> None:
        self.name = name
        self.command = command
        self.environment = environment
        self.run_options = run

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Any of its verbs."""
        return subprocess.run(
            [*self.command, *arguments], env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )

    def ok(self, *arguments: str) -> str:
        """One that must succeed; gives its output."""
        done = self.call(*arguments)
        assert done.returncode == 0, f"{self.name} {' '.join(arguments)}\n{done.stderr}"
        return done.stdout

    def run(self, *arguments: str) -> str:
        """`run --rm` on our runtime, without a network."""
        return self.ok("run", *self.run_options, "--rm", *arguments)

    def status(self, container: str) -> str:
        """Of a container."""
        return self.ok("inspect", "-f", "{{.State.Status}}", container).strip()


def _docker(layer: Path) -> Iterator[Engine]:
    if "DOCKER_HOST" not in os.environ:
        pytest.skip("run by ./dev compare, which starts a private Docker")
    engine = Engine("docker", ["docker"], dict(os.environ), ["--runtime=specrun", "--net", "none"])
    runtimes = engine.ok("info", "--format", "{{json .Runtimes}}")
    assert COMMAND in runtimes, f"the private Docker has not this runtime: {runtimes}"
    _import(engine, layer)
    yield engine
    engine.ok("rmi", IMAGE)


def _podman(layer: Path) -> Iterator[Engine]:
    if not shutil.which("podman"):
        pytest.skip("podman is not installed; ./dev compare installs it")
    folder = Path(tempfile.mkdtemp(prefix="srp-"))
    init = shutil.which("docker-init") or shutil.which("catatonit") or "/usr/libexec/podman/catatonit"
    (folder / "containers.conf").write_text(PODMAN_CONFIGURATION.format(init=init))
    environment = {**os.environ, "CONTAINERS_CONF": str(folder / "containers.conf"), "TMPDIR": str(folder)}
    environment.pop("DOCKER_HOST", None)
    command = ["podman", "--root", f"{folder}/root", "--runroot", f"{folder}/run", "--tmpdir", f"{folder}/tmp"]
    engine = Engine(
        "podman", [*command, "--storage-driver", "overlay", "--runtime", COMMAND], environment, ["--net=none"]
    )
    try:
        _import(engine, layer)
        yield engine
    finally:
        engine.call("rm", "--all", "--force", "--time", "0")
        shutil.rmtree(folder, ignore_errors=True)
        remove_groups()


def _import(engine: Engine, layer: Path) -> None:
    archive = subprocess.Popen(["tar", "-C", str(layer), "-c", "."], stdout=subprocess.PIPE)
    command = [*engine.command, "import", "-", IMAGE]
    subprocess.run(command, stdin=archive.stdout, env=engine.environment, check=True, capture_output=True)
    assert archive.stdout
    archive.stdout.close()
    assert archive.wait() == 0


@pytest.fixture(scope="module", params=["docker", "podman"])
def engine(request: pytest.FixtureRequest, busybox_store: Path) -> Iterator[Engine]:
    (layer, *_) = (busybox_store / "layers").glob("*/fs")
    yield from {"docker": _docker, "podman": _podman}[request.param](layer)


@pytest.fixture
def box(engine: Engine) -> Iterator[str]:
    """A running container."""
    name = "specrun-box"
    engine.ok("run", *engine.run_options, "-d", "--name", name, IMAGE, "sleep", "1000")
    yield name
    engine.call("kill", name)  # podman would ask it to end, and wait for 10 s
    engine.ok("rm", "--force", name)


def test_output_and_status(engine: Engine) -> None:
    assert engine.run(IMAGE, "echo", "hello") == "hello\n"
    assert engine.call("run", *engine.run_options, "--rm", IMAGE, "sh", "-c", "exit 9").returncode == 9
    assert engine.call("run", *engine.run_options, "--rm", IMAGE, "no-such-command").returncode == 127


def test_limits(engine: Engine) -> None:
    script = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max"
    assert engine.run("-m", "64m", "--pids-limit", "55", IMAGE, "sh", "-c", script) == f"{64 << 20}\n55\n"


def test_read_only(engine: Engine) -> None:
    done = engine.call("run", *engine.run_options, "--rm", "--read-only", IMAGE, "touch", "/x")
    assert (done.returncode, "Read-only file system" in done.stderr) == (1, True)


def test_user(engine: Engine) -> None:
    script = "id -u; id -g; grep Cap.*ff /proc/self/status || grep CapEff /proc/self/status"
    lines = engine.run("--user", "1000:1001", IMAGE, "sh", "-c", script).splitlines()
    assert lines[:2] == ["1000", "1001"]
    assert lines[2].split() == ["CapEff:", "0" * 16]


def test_volume_and_tmpfs(engine: Engine, tmp_path: Path) -> None:
    script = "echo inside > /v/file; touch /t/x && grep ' /t ' /proc/mounts"
    line = engine.run("-v", f"{tmp_path}:/v", "--tmpfs", "/t", IMAGE, "sh", "-c", script)
    assert line.startswith("tmpfs /t tmpfs rw,nosuid,nodev")
    assert (tmp_path / "file").read_text() == "inside\n"


def test_dropped_capabilities_and_no_new_privileges(engine: Engine) -> None:
    options = ("--cap-drop", "ALL", "--security-opt", "no-new-privileges")
    text = engine.run(*options, IMAGE, "grep", "-E", "Cap|NoNewPrivs|Seccomp:", "/proc/self/status")
    fields = dict(line.split() for line in text.splitlines())
    assert {fields[f"Cap{name}:"] for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
    assert (fields["NoNewPrivs:"], fields["Seccomp:"]) == ("1", "2")


def test_init(engine: Engine) -> None:
    text = engine.run("--init", IMAGE, "sh", "-c", "cat /proc/1/cmdline | tr '\\0' ' '; echo; echo $$")
    assert "init" in text.split()[0]
    assert text.splitlines()[1] != "1"


def test_privileged(engine: Engine) -> None:
    assert engine.run("--privileged", IMAGE, "ls", "-l", "/dev/ptmx").rstrip().endswith("pts/ptmx")


def test_exec(engine: Engine, box: str) -> None:
    assert engine.ok("exec", box, "echo", "there") == "there\n"
    script = "id -u; pwd; echo $A; ls /proc/self/fd | wc -l"
    assert engine.ok("exec", "-u", "5", "-w", "/tmp", "-e", "A=b", box, "sh", "-c", script).split() == [
        "5", "/tmp", "b", "4",
    ]  # fmt: skip
    assert engine.call("exec", box, "sh", "-c", "exit 3").returncode == 3


def test_pause(engine: Engine, box: str) -> None:
    engine.ok("pause", box)
    assert engine.status(box) == "paused"
    engine.ok("unpause", box)
    assert engine.status(box) == "running"


def test_update(engine: Engine, box: str) -> None:
    done = engine.call("update", "-m", "96m", "--memory-swap", "192m", box)
    assert done.returncode == 0, done.stderr
    assert engine.ok("exec", box, "cat", "/sys/fs/cgroup/memory/memory.limit_in_bytes") == f"{96 << 20}\n"


def test_top_and_statistics(engine: Engine, box: str) -> None:
    assert "sleep 1000" in engine.ok("top", box)
    assert box in engine.ok("stats", "--no-stream", box)


def test_stop_start_and_kill(engine: Engine, box: str) -> None:
    engine.ok("stop", "-t", "0", box)
    assert engine.status(box) == "exited"
    engine.ok("start", box)
    assert engine.status(box) == "running"
    engine.ok("kill", box)
    until(lambda: engine.status(box) == "exited")
    assert engine.ok("inspect", "-f", "{{.State.ExitCode}}", box) == "137\n"


def test_interactive_terminal(engine: Engine) -> None:
    master, slave = pty.openpty()
    command = [*engine.command, "run", *engine.run_options, "--rm", "-it", IMAGE, "sh", "-c", "tty; read l; echo =$l="]
    running = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=engine.environment)
    os.close(slave)
    shown = b""
    for wait_for, then in ((b"/dev/pts/0", b"typed\r"), (b"=typed=", b"")):
        while wait_for not in shown:
            assert select.select([master], [], [], 30)[0], shown
            shown += os.read(master, 4096)
        os.write(master, then)
    assert running.wait(30) == 0
    os.close(master)


def test_a_user_namespace(engine: Engine) -> None:
    if engine.name == "docker":
        pytest.skip("Docker has them for the whole daemon only")
    assert engine.run("--uidmap", "0:100000:65536", IMAGE, "cat", "/proc/self/uid_map").split() == [
        "0", "100000", "65536",
    ]  # fmt: skip
