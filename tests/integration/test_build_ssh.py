"""`RUN --mount=type=ssh` with a real agent of OpenSSH's, and steps that have OpenSSH's programs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import leaks
from tests.support.host import Host, own_host

pytestmark = pytest.mark.skipif(not shutil.which("ssh-agent"), reason="openssh-client is not installed")
GARBAGE = """
import os, socket, sys
from specrun.build.agent import forwarding
with forwarding(sys.argv[1], sys.argv[2], mode=0o600, owner=(0, 0)) as path:
    os.chdir(os.path.dirname(path))
    path, plugs = os.path.basename(path), []
    for number in range(100):
        plug = socket.socket(socket.AF_UNIX)
        plug.settimeout(0.1)
        try:
            plug.connect(path)
            plug.send(b"\\xff" * number + os.urandom(number))
        except OSError:
            continue
        plugs.append(plug)
    for plug in plugs:
        plug.close()
    plug = socket.socket(socket.AF_UNIX)
    plug.connect(path)
    for part in b"\\0\\0\\0\\1\\x0b":
        plug.send(bytes([part]))
    print(plug.recv(65536).hex())
print(os.listdir(sys.argv[2]))
"""
"""A client of the forwarded socket that sends anything, opens many connections, and then asks byte by byte."""


class Agent:
    """An ssh-agent with one key."""

    def __init__(self, folder: Path) -> None:
        self.socket = str(folder / "s")
        self.process = subprocess.Popen(
            ["ssh-agent", "-D", "-a", self.socket], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while not os.path.exists(self.socket):
            assert self.process.poll() is None
        key = folder / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key), "-C", "of a test"], check=True)
        self.environment = {**os.environ, "SSH_AUTH_SOCK": self.socket}
        subprocess.run(["ssh-add", "-q", str(key)], env=self.environment, check=True, stderr=subprocess.DEVNULL)
        self.public = (folder / "key.pub").read_text()

    @property
    def keys(self) -> str:
        """What `ssh-add -l` prints."""
        done = subprocess.run(["ssh-add", "-l"], env=self.environment, capture_output=True, text=True, check=False)
        return done.stdout


@pytest.fixture
def agent() -> Iterator[Agent]:
    folder = Path(tempfile.mkdtemp(prefix="sra-"))
    found = Agent(folder)
    try:
        yield found
    finally:
        found.process.terminate()
        found.process.wait()
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def store() -> Iterator[Path]:
    """A state folder with an image that has OpenSSH's programs."""
    with own_host() as made:
        made.ok("image", "assemble", "ssh", "--packages", "busybox,openssh-client")
        yield made.root


@pytest.fixture
def host(store: Path) -> Iterator[Host]:
    with own_host(store) as host:
        yield host


def build(host: Host, folder: Path, text: str, *options: str) -> subprocess.CompletedProcess[bytes]:
    (folder / "Dockerfile").write_text(text)
    return host.run("build", "--network=none", "--no-cache", "-t", "image", *options, str(folder))


def test_a_step_asks_the_agent_and_nothing_of_it_stays(host: Host, agent: Agent, tmp_path: Path) -> None:
    host.environment["SSH_AUTH_SOCK"] = agent.socket
    text = "FROM ssh\nRUN --mount=type=ssh ssh-add -l; echo $SSH_AUTH_SOCK > /said\n"
    done = build(host, tmp_path, text, "--ssh", "default")
    assert done.returncode == 0, done.stderr.decode()
    assert agent.keys in done.stdout.decode() and "of a test" in agent.keys
    listed = host.ok(
        "run", "--rm", "--network=none", "image", "sh", "-c", "cat /said; ls -A /run /run/buildkit 2>&1; true"
    )
    assert listed.startswith("/run/buildkit/ssh_agent.0\n") and "ssh_agent" not in listed.split("\n", 1)[1]
    assert "SSH_AUTH_SOCK" not in host.ok("inspect", "image")
    assert os.listdir(host.root / "build" / "work") == [] and not leaks.left(leaks.marks_of(host.root))
    assert not any(path.is_socket() or path.name.startswith("ssh_agent") for path in host.root.rglob("*"))


def test_an_agent_by_its_id_for_another_user(host: Host, agent: Agent, tmp_path: Path) -> None:
    text = "FROM ssh\nUSER www-data\nRUN --mount=type=ssh,id=work,target=/tmp/a.sock,uid=33,mode=0600 ssh-add -l\n"
    done = build(host, tmp_path, text, "--ssh", f"work={agent.socket}")
    assert done.returncode == 0 and agent.keys in done.stdout.decode(), done.stderr.decode()
    refused = build(host, tmp_path, text.replace("uid=33", "uid=34"), "--ssh", f"work={agent.socket}")
    assert refused.returncode == 2 and b"Permission denied" in refused.stdout
    assert "/tmp/a.sock" not in host.ok("run", "--rm", "--network=none", "image", "sh", "-c", "ls -d /tmp/*; true")


def test_a_step_signs_but_does_not_change_the_agent(host: Host, agent: Agent, tmp_path: Path) -> None:
    (tmp_path / "key.pub").write_text(agent.public)
    text = (
        "FROM ssh\nCOPY key.pub /\nRUN --mount=type=ssh echo text > /text;"
        " ssh-keygen -q -Y sign -f /key.pub -n file /text; cat /text.sig;"
        " ssh-add -D; echo all=$?; ssh-add -d /key.pub; echo one=$?;"
        " chmod 777 $SSH_AUTH_SOCK; chown 33 $SSH_AUTH_SOCK; rm -f $SSH_AUTH_SOCK; true\n"
    )
    before = os.stat(agent.socket)
    done = build(host, tmp_path, text, "--ssh", f"default={agent.socket}")
    output = done.stdout.decode()
    assert done.returncode == 0 and "BEGIN SSH SIGNATURE" in output, output
    assert "all=1" in output and "one=1" in output
    assert "of a test" in agent.keys
    after = os.stat(agent.socket)
    assert (before.st_mode, before.st_uid, before.st_ino) == (after.st_mode, after.st_uid, after.st_ino)


def test_an_agent_that_is_not_there(host: Host, agent: Agent, tmp_path: Path) -> None:
    text = 'FROM ssh\nRUN --mount=type=ssh echo "[$SSH_AUTH_SOCK]"\n'
    assert b"\n[]\n" in build(host, tmp_path, text).stdout
    required = build(host, tmp_path, text.replace("ssh e", "ssh,required=true e", 1))
    assert required.returncode == 1 and b"ssh agent default is required" in required.stderr
    assert b"Dockerfile:2:" in required.stderr and b"--ssh default" in required.stderr
    host.environment.pop("SSH_AUTH_SOCK", None)
    wrong = {"default": "SSH_AUTH_SOCK is not set", f"x={tmp_path}/none": "No such file", f"x={__file__}": "no socket"}
    for given, words in wrong.items():
        done = build(host, tmp_path, text, "--ssh", given)
        assert done.returncode == 125 and words in done.stderr.decode()


def test_garbage_does_not_harm_the_agent(agent: Agent, tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)  # longer than the path of a socket may be
    folder.mkdir()
    words = [sys.executable, "-c", GARBAGE, agent.socket, str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    answer, left = done.stdout.splitlines()
    assert answer[8:].startswith("0c00000001") and left == "[]"  # SSH_AGENT_IDENTITIES_ANSWER, of one key
    assert "of a test" in agent.keys
