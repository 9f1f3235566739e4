"""Kind Registry: a server that specs keep running, seen from outside and from the kernel."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import leaks
from tests.support.host import Host
from tests.support.ports import free_port
from tests.support.pusher import Pusher, ask, digest_of

EXAMPLE = Path(__file__).parents[2] / "specs/registry.yaml"
SPEC = """apiVersion: specrun/v1
kind: Registry
metadata: {{name: r}}
spec: {{listen: "127.0.0.1:{port}"{more}}}
"""


@pytest.fixture
def port() -> int:
    """One that nobody has, most likely."""
    return free_port()


class Kept:
    """A spec of one registry, applied."""

    def __init__(self, host: Host, folder: Path, port: int) -> None:
        self.host, self.port = host, port
        self.file = folder / "spec.yaml"

    def apply(self, more: str = "") -> str:
        self.file.write_text(SPEC.format(port=self.port, more=f", {more}" if more else ""))
        return self.host.ok("apply", str(self.file))

    def plan(self) -> str:
        done = self.host.run("plan", str(self.file))
        assert done.returncode in (0, 2), done.stderr
        return done.stdout.decode() if done.returncode else ""

    @property
    def folder(self) -> Path:
        return self.host.root / "registries/spec/r"

    @property
    def pid(self) -> int:
        return int(json.loads((self.folder / "server.json").read_text())["pid"])

    @property
    def keeper(self) -> int:
        return int((self.folder / "owner").read_text().split()[0])


@pytest.fixture
def kept(host: Host, tmp_path: Path, port: int) -> Iterator[Kept]:
    made = Kept(host, tmp_path, port)
    yield made
    host.ok("delete", str(made.file))
    assert leaks.left((str(host.folder),)) == {}


def await_true(claim: Callable[[], bool]) -> None:
    for _ in range(400):
        try:
            if claim():
                return
        except (OSError, ValueError):
            pass
        time.sleep(0.05)
    raise AssertionError("it has not come true in 20 seconds")


def test_the_example(host: Host, tmp_path: Path, port: int) -> None:
    spec = tmp_path / "registry.yaml"
    spec.write_text(EXAMPLE.read_text().replace("127.0.0.1:5000\n  quota", f"127.0.0.1:{port}\n  quota"))
    host.ok("apply", str(spec))
    assert host.run("plan", str(spec)).returncode == 0
    assert host.ok("pull", "-q", f"127.0.0.1:{port}/hello:v7")
    rows = [line.split() for line in host.ok("status", str(spec)).splitlines()]
    assert ["Registry", "registry", "running", f"http://127.0.0.1:{port}"] in rows
    assert "its images stay in" in host.ok("delete", str(spec))
    assert leaks.left((str(host.folder),)) == {}
    assert host.ok("registry", "fsck", "--storage", str(host.root / "registries/registry/registry/data"))


def test_what_it_is_told_can_change(kept: Kept) -> None:
    kept.apply()
    pusher = Pusher(kept.port, "a", "t")
    pusher.push("t")
    first = kept.pid
    assert kept.plan() == ""
    kept.apply("readOnly: true, quota: 1m, warning: old images")
    assert kept.plan() == "" and kept.pid != first
    assert ask(kept.port, "POST", "/v2/a/blobs/uploads/")[0] == 405
    assert pusher.lost() == []
    second = kept.pid
    kept.file.write_text(kept.file.read_text().replace("{name: r}", "{name: r, labels: {a: b}}"))
    assert kept.host.run("apply", str(kept.file)).returncode == 0
    assert kept.pid == second  # nothing that concerns the server
    kept.file.write_text(kept.file.read_text().replace("127.0.0.1:", "0.0.0.0:"))
    assert kept.host.run("apply", str(kept.file)).returncode == 0
    assert kept.plan() == "" and kept.pid != second and pusher.lost() == []
    kept.file.write_text(kept.file.read_text().replace("readOnly: true", "keep: false"))
    kept.host.ok("apply", str(kept.file))
    kept.host.ok("delete", str(kept.file))
    assert not (kept.host.root / "registries").exists()


class Crowd:
    """Clients that ask again and again, each time on a new connection, and one that never closes its own."""

    def __init__(self, port: int, path: str) -> None:
        self.port, self.path = port, path
        self.answered = 0
        self.failures: list[str] = []
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(2)]

    def _run(self) -> None:
        while not self._done.is_set():
            try:
                status, body = ask(self.port, "GET", self.path)
                if (status, len(body)) != (200, 100_000):
                    self.failures.append(f"{status} {body[:100]!r}")
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
            self.answered += 1

    def __enter__(self) -> Crowd:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()


def test_nobody_is_refused_while_it_changes(kept: Kept) -> None:
    """A new server has the connections before the old one lets go, and that finishes what it has begun."""
    kept.apply()
    pusher = Pusher(kept.port, "a", "t")
    pusher.push("t")
    ((_, _, layer),) = pusher.acknowledged
    body = os.urandom(200_000)
    with Crowd(kept.port, f"/v2/a/blobs/{layer}") as crowd:
        first = kept.pid
        upload = http.client.HTTPConnection("127.0.0.1", kept.port, timeout=30)
        upload.putrequest("POST", f"/v2/a/blobs/uploads/?digest={digest_of(body)}")
        upload.putheader("Content-Length", str(len(body)))
        upload.endheaders(body[:100_000])
        resting = http.client.HTTPConnection("127.0.0.1", kept.port, timeout=30)
        resting.request("GET", "/v2/")
        resting.getresponse().read()
        silent = socket.create_connection(("127.0.0.1", kept.port), 30)
        kept.apply("readOnly: true")
        assert kept.pid != first and kept.plan() == ""
        assert ask(kept.port, "POST", "/v2/a/blobs/uploads/")[0] == 405
        with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
            resting.request("POST", "/v2/a/blobs/uploads/")  # the old one takes nothing more on it
            resting.getresponse()
        # What it had taken, it answers.
        silent.sendall(b"GET /v2/ HTTP/1.1\r\nHost: r\r\n\r\n")
        assert silent.recv(1000).startswith(b"HTTP/1.1 200 ")
        upload.send(body[100_000:])
        answer = upload.getresponse()
        assert (answer.status, answer.getheader("Connection")) == (201, "close")
        await_true(lambda: not os.path.exists(f"/proc/{first}"))
        # One that can't start changes nothing.
        second = kept.pid
        (kept.file.parent / "users").write_text("not a hash\n")
        with pytest.raises(AssertionError, match="the registry does not start: .*expected user:hash"):
            kept.apply("htpasswd: users")
        assert kept.pid == second and ask(kept.port, "GET", "/v2/")[0] == 200
        kept.apply()
        kept.apply("warning: changed")
    for connection in (upload, resting, silent):
        connection.close()
    assert crowd.failures == [] and crowd.answered > 100
    assert digest_of(ask(kept.port, "GET", f"/v2/a/blobs/{digest_of(body)}")[1]) == digest_of(body)


def test_nobody_is_refused_while_its_address_changes(kept: Kept) -> None:
    """From an address of the host to all of them and back, on the same port; also when the new server can't start."""
    kept.apply()
    pusher = Pusher(kept.port, "a", "t")
    pusher.push("t")
    ((_, _, layer),) = pusher.acknowledged
    one, every = f"127.0.0.1:{kept.port}", f"0.0.0.0:{kept.port}"
    (kept.file.parent / "users").write_text("not a hash\n")
    with Crowd(kept.port, f"/v2/a/blobs/{layer}") as crowd:
        for before, after in ((one, every), (every, one), (one, every), (every, one)):
            text = kept.file.read_text()
            kept.file.write_text(text.replace(f'{before}"', f'{after}", htpasswd: users'))
            serving = kept.pid
            failed = kept.host.run("apply", str(kept.file))
            assert b"expected user:hash" in failed.stderr and kept.pid == serving, failed.stderr
            kept.file.write_text(text.replace(before, after))
            assert kept.host.run("apply", str(kept.file)).returncode == 0
            assert kept.plan() == "" and kept.pid != serving
            with socket.socket() as elsewhere:
                elsewhere.settimeout(30)
                assert (elsewhere.connect_ex(("127.0.0.2", kept.port)) == 0) == (after == every)
            with pytest.raises(OSError, match="in use"):
                socket.create_server(("127.0.0.1", kept.port))
    assert crowd.failures == [] and crowd.answered > 100


def test_a_push_without_a_host_goes_to_the_registry_that_it_names(kept: Kept) -> None:
    here = f"127.0.0.1:{kept.port}"
    for to, repository, tag in (
        ("hello:v7", "hello", "v7"),
        ("library/hello", "library/hello", "latest"),
        (f"{here}/deep/hello:v8", "deep/hello", "v8"),
    ):
        push = "apiVersion: specrun/v1\nkind: Push\nmetadata: {name: p}\n"
        push += f"spec: {{image: busybox, registry: r, to: '{to}'}}\n"
        kept.file.write_text(SPEC.format(port=kept.port, more="") + "---\n" + push)
        kept.host.ok("apply", str(kept.file))
        assert kept.host.run("plan", str(kept.file)).returncode == 0
        assert kept.host.ok("search-tags", "-q", f"{here}/{repository}").split() == [tag]


def test_a_server_that_is_killed_comes_back(kept: Kept) -> None:
    kept.apply()
    first = kept.pid
    os.kill(first, signal.SIGKILL)
    await_true(lambda: kept.pid != first and ask(kept.port, "GET", "/v2/")[0] == 200)
    assert kept.plan() == ""
    # With its keeper it is gone for good, until somebody applies the spec again.
    os.kill(kept.keeper, signal.SIGKILL)
    await_true(lambda: "its server has ended" in kept.plan())
    assert kept.host.run("drift", str(kept.file)).returncode == 2
    assert "updated" in kept.apply()
    assert ask(kept.port, "GET", "/v2/")[0] == 200 and kept.plan() == ""


def test_its_files(kept: Kept, tmp_path: Path) -> None:
    def password(text: str) -> None:
        command = ["htpasswd", "-Bbn", "-C", "4", "alice", text]
        (tmp_path / "users").write_bytes(subprocess.run(command, check=True, capture_output=True).stdout)

    def enters(text: str) -> bool:
        import base64

        header = f"Basic {base64.b64encode(f'alice:{text}'.encode()).decode()}"
        return ask(kept.port, "GET", "/v2/", None, {"Authorization": header})[0] == 200

    password("one")
    kept.apply("htpasswd: users")
    server = kept.pid
    assert enters("one") and ask(kept.port, "GET", "/v2/")[0] == 401
    assert (kept.folder / "htpasswd").stat().st_mode & 0o777 == 0o600
    password("two")
    assert "htpasswd" in kept.plan()
    kept.apply("htpasswd: users")
    assert enters("two") and not enters("one") and kept.pid == server
    (kept.folder / "htpasswd").write_text("")
    assert "htpasswd" in kept.plan()
    kept.apply()
    assert ask(kept.port, "GET", "/v2/")[0] == 200 and not (kept.folder / "htpasswd").exists()


def test_a_port_that_somebody_has(kept: Kept) -> None:
    with socket.create_server(("127.0.0.1", kept.port)):
        with pytest.raises(AssertionError, match="the registry does not start: .*Address already in use"):
            kept.apply()
        assert leaks.left((str(kept.host.folder),)) == {}
    kept.apply()
    assert kept.plan() == ""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        spec = kept.file.read_text()
        kept.file.write_text(spec.replace(str(kept.port), str(taken.getsockname()[1])))
        done = kept.host.run("apply", str(kept.file))
        assert done.returncode == 1 and b"Address already in use" in done.stderr
        assert "listen changed" in kept.plan()
    assert ask(kept.port, "GET", "/v2/")[0] == 200  # as it was before
    kept.file.write_text(spec)
    assert kept.plan() == ""


def test_a_cache_with_a_secret(host: Host, tmp_path: Path, port: int) -> None:
    (tmp_path / "spec.yaml").write_text(f"""apiVersion: specrun/v1
kind: Secret
metadata: {{name: hub}}
spec: {{environment: HUB_PASSWORD}}
---
apiVersion: specrun/v1
kind: Registry
metadata: {{name: hub}}
spec:
  listen: 127.0.0.1:{port}
  keep: false
  proxy: {{remote: "http://127.0.0.1:1", ttl: 5m, user: cache, secret: hub}}
""")
    host.environment["HUB_PASSWORD"] = "s3cret"
    host.ok("apply", str(tmp_path / "spec.yaml"))
    assert host.run("plan", str(tmp_path / "spec.yaml")).returncode == 0
    status, answer = ask(port, "GET", "/v2/a/manifests/v1")
    assert status == 503 and b"this cache does not have it" in answer
    server = json.loads((host.root / "registries/spec/hub/server.json").read_text())["pid"]
    for name in ("cmdline", "environ"):
        assert b"s3cret" not in Path(f"/proc/{server}/{name}").read_bytes()
    host.ok("delete", str(tmp_path / "spec.yaml"))
    assert leaks.left((str(host.folder),)) == {}


def test_one_whose_folder_was_removed_ends(host: Host, tmp_path: Path, port: int) -> None:
    kept = Kept(host, tmp_path, port)
    kept.apply()
    shutil.rmtree(host.root / "registries")
    await_true(lambda: leaks.present((str(host.folder),)) == {})
    assert leaks.present((str(host.folder),)) == {}
