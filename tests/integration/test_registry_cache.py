"""A pull-through cache, of a registry of our own and of docker-registry: what it fetches, keeps, and refuses."""

from __future__ import annotations

import hashlib
import http.client
import http.server
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO

import pytest

from specrun.cli.commands import registry
from specrun.errors import SpecrunError
from specrun.registry.protocol import Manifest
from specrun.registry.storage import Storage
from tests.support.host import COMMAND
from tests.support.ports import free_port
from tests.support.pusher import MANIFEST, Pusher, ask, digest_of, end_server, start_server

EMPTY_INDEX = b'{"schemaVersion": 2, "manifests": []}'
EMPTY = digest_of(EMPTY_INDEX)


@contextmanager
def served(storage: Path, *options: str, log: IO[bytes] | None = None) -> Iterator[int]:
    """A server over `storage`, which ends however the test does; gives its port."""
    server, port = start_server(storage, 0, *options, log=log)
    try:
        yield port
    finally:
        end_server(server)


def cache(storage: Path, upstream: str, *options: str) -> AbstractContextManager[int]:
    """A cache in `storage` of the registry at `upstream`; gives its port."""
    return served(storage, "--proxy", upstream, *options)


class Origin:
    """A registry that a cache is put before: its port, and what it was asked."""

    def __init__(self, port: int, log: Path) -> None:
        self.port = port
        self._log = log

    def fetched(self, what: str) -> int:
        """How many GET requests had `what` in their address."""
        lines = self._log.read_text().splitlines()
        return sum("GET /v2/" in line and what in line for line in lines)


@contextmanager
def our_registry(folder: Path) -> Iterator[Origin]:
    with open(folder / "log", "wb") as log, served(folder / "origin", log=log) as port:
        yield Origin(port, folder / "log")


@contextmanager
def docker_registry(folder: Path) -> Iterator[Origin]:
    port = free_port()
    settings = folder / "config.yml"
    settings.write_text(
        f"version: 0.1\nhttp: {{addr: '127.0.0.1:{port}'}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder / 'origin'}}}, delete: {{enabled: true}}}}\n"
    )
    with open(folder / "log", "wb") as log:
        server = subprocess.Popen(["docker-registry", "serve", str(settings)], stdout=log, stderr=log)
    try:
        for _ in range(200):
            try:
                ask(port, "GET", "/v2/")
                break
            except OSError:
                time.sleep(0.05)
        yield Origin(port, folder / "log")
    finally:
        server.send_signal(signal.SIGKILL)
        server.wait()


@pytest.fixture(
    params=[
        our_registry,
        pytest.param(
            docker_registry,
            marks=pytest.mark.skipif(not shutil.which("docker-registry"), reason="docker-registry is not installed"),
        ),
    ]
)
def origin(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Origin]:
    with request.param(tmp_path) as made:
        yield made


def push(port: int, tag: str) -> tuple[str, str]:
    """An image of random bytes; gives the digests of its manifest and its layer."""
    pusher = Pusher(port, "team/app", tag)
    pusher.push(tag)
    ((_, manifest, layer),) = pusher.acknowledged
    return manifest, layer


def manifest_at(port: int, tag: str) -> str:
    status, raw = ask(port, "GET", f"/v2/team/app/manifests/{tag}", None, {"Accept": MANIFEST})
    return digest_of(raw) if status == 200 else str(status)


def test_what_was_fetched_once_is_served_from_here(origin: Origin, tmp_path: Path) -> None:
    manifest, layer = push(origin.port, "v1")
    with cache(tmp_path / "cache", f"http://127.0.0.1:{origin.port}") as port:
        for _ in range(3):
            assert manifest_at(port, "v1") == manifest_at(port, manifest) == manifest
            status, data = ask(port, "GET", f"/v2/team/app/blobs/{layer}")
            assert (status, digest_of(data)) == (200, layer)
        assert origin.fetched("/manifests/v1") == 1 and origin.fetched(f"/blobs/{layer}") == 1
        status, data = ask(port, "GET", f"/v2/team/app/blobs/{layer}", None, {"Range": "bytes=10-19"})
        assert (status, len(data)) == (206, 10)
        assert ask(port, "GET", "/v2/team/app/blobs/sha256:" + 64 * "0")[0] == 404
        assert ask(port, "GET", "/v2/team/app/manifests/v9")[0] == 404
        assert ask(port, "GET", f"/v2/nobody/has/blobs/{layer}")[0] == 404
        assert ask(port, "GET", "/v2/nobody/manifests/v1")[0] == 404
        assert os.listdir(tmp_path / "cache/repositories") == ["team"]  # questions leave nothing
        assert json.loads(ask(port, "GET", "/v2/team/app/tags/list")[1]) == {"name": "team/app", "tags": ["v1"]}
        assert json.loads(ask(port, "GET", "/v2/_catalog")[1]) == {"repositories": ["team/app"]}
    done = subprocess.run(
        [COMMAND, "registry", "fsck", "--storage", tmp_path / "cache"], capture_output=True, text=True
    )
    assert done.stdout == "2 blobs examined, 0 problems\n"


def test_a_blob_is_asked_for_before_anything_of_it_is_fetched(origin: Origin, tmp_path: Path) -> None:
    _, layer = push(origin.port, "v1")
    with cache(tmp_path / "cache", f"http://127.0.0.1:{origin.port}") as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("HEAD", f"/v2/team/app/blobs/{layer}")
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("Content-Length"), answer.read()) == (200, "100000", b"")
        connection.request("GET", f"/v2/team/app/blobs/{layer}", headers={"Range": "bytes=99990-"})
        answer = connection.getresponse()
        assert (answer.status, len(answer.read())) == (206, 10)
        connection.close()
        assert origin.fetched(f"/blobs/{layer}") == 1


def test_a_tag_that_moves_is_seen_after_its_time(origin: Origin, tmp_path: Path) -> None:
    first, _ = push(origin.port, "v1")
    address = f"http://127.0.0.1:{origin.port}"
    with cache(tmp_path / "cache", address, "--proxy-ttl", "3600") as port:
        assert manifest_at(port, "v1") == first
        second, _ = push(origin.port, "v1")
        assert manifest_at(port, "v1") == first
    with cache(tmp_path / "cache", address, "--proxy-ttl", "0") as port:
        assert manifest_at(port, "v1") == second
        assert manifest_at(port, "v1") == second
        assert origin.fetched("/manifests/v1") == 2  # what has not moved is asked for by HEAD
        assert ask(origin.port, "DELETE", f"/v2/team/app/manifests/{second}")[0] == 202
        assert manifest_at(port, "v1") == "404"


def figures(port: int) -> dict[str, float]:
    """What /metrics says, without the beginning that all names have, by Prometheus' own reader."""
    from prometheus_client.parser import text_string_to_metric_families

    found = {}
    for family in text_string_to_metric_families(ask(port, "GET", "/metrics")[1].decode()):
        for sample in family.samples:
            found[sample.name.removeprefix("specrun_registry_") + sample.labels.get("content", "")] = sample.value
    return found


def test_what_it_had_and_what_it_fetched_is_counted(origin: Origin, tmp_path: Path) -> None:
    manifest, layer = push(origin.port, "v1")
    address = f"http://127.0.0.1:{origin.port}"
    with cache(tmp_path / "cache", address, "--proxy-ttl", "0", "--quota", "1m") as port:
        before = figures(port)
        assert before["quota_limit_bytes"] == 1 << 20
        counters = [name for name in before if name.startswith(("cache_", "upstream_", "quota_used"))]
        assert len(counters) == 7 and not any(before[name] for name in counters)
        raw = ask(port, "GET", "/v2/team/app/manifests/v1", None, {"Accept": MANIFEST})[1]
        for _ in range(3):
            assert manifest_at(port, "v1") == manifest_at(port, manifest) == manifest
            assert ask(port, "GET", f"/v2/team/app/blobs/{layer}")[0] == 200
        assert ask(port, "GET", f"/v2/team/app/blobs/{layer}", None, {"Range": "bytes=0-9"})[0] == 206
        assert ask(port, "HEAD", f"/v2/team/app/blobs/{layer}")[0] == 200
        assert manifest_at(port, "v9") == "404"
        after = figures(port)
        assert (after["cache_hits_totalmanifest"], after["cache_misses_totalmanifest"]) == (6, 2)
        assert (after["cache_hits_totalblob"], after["cache_misses_totalblob"]) == (3, 1)
        assert after["upstream_received_bytes_total"] == len(raw) + 100_000
        assert after["quota_used_bytes"] == len(raw) + 100_000 and after["cache_stale_answers_total"] == 0


def test_pushes_are_refused(origin: Origin, tmp_path: Path) -> None:
    manifest, layer = push(origin.port, "v1")
    with cache(tmp_path / "cache", f"http://127.0.0.1:{origin.port}") as port:
        assert manifest_at(port, "v1") == manifest
        for method, path in (
            ("POST", "/v2/team/app/blobs/uploads/"),
            ("PUT", "/v2/team/app/manifests/v1"),
            ("DELETE", "/v2/team/app/manifests/v1"),
            ("DELETE", f"/v2/team/app/blobs/{layer}"),
        ):
            status, answer = ask(port, method, path, b"{}")
            assert status == 405 and b"this registry is a cache: push to 127.0.0.1:" in answer
        assert manifest_at(port, "v1") == manifest


def test_what_is_here_is_served_while_the_upstream_is_away(tmp_path: Path) -> None:
    with our_registry(tmp_path) as origin:
        manifest, layer = push(origin.port, "v1")
        with cache(tmp_path / "cache", f"http://127.0.0.1:{origin.port}") as port:
            assert manifest_at(port, "v1") == manifest
            assert ask(port, "GET", f"/v2/team/app/blobs/{layer}")[0] == 200
    began = time.monotonic()
    with cache(tmp_path / "cache", f"http://127.0.0.1:{origin.port}", "--proxy-ttl", "0") as port:
        assert manifest_at(port, "v1") == manifest
        status, data = ask(port, "GET", f"/v2/team/app/blobs/{layer}")
        assert (status, digest_of(data)) == (200, layer)
        assert json.loads(ask(port, "GET", "/v2/team/app/tags/list")[1])["tags"] == ["v1"]
        assert json.loads(ask(port, "GET", f"/v2/team/app/referrers/{manifest}")[1])["manifests"] == []
        status, answer = ask(port, "GET", "/v2/team/app/manifests/v2")
        assert status == 503 and b"cannot be reached" in answer
        assert ask(port, "GET", "/v2/team/app/blobs/sha256:" + 64 * "0")[0] == 503
        counted = figures(port)
        assert counted["cache_stale_answers_total"] == 3 and counted["upstream_received_bytes_total"] == 0
        assert (counted["cache_hits_totalmanifest"], counted["cache_misses_totalmanifest"]) == (1, 1)
        assert (counted["cache_hits_totalblob"], counted["cache_misses_totalblob"]) == (1, 1)
        assert "quota_limit_bytes" not in counted
    assert time.monotonic() - began < 10


def test_a_password_of_the_upstream(tmp_path: Path) -> None:
    import bcrypt

    users, password = tmp_path / "users", tmp_path / "password"
    users.write_bytes(b"cache:" + bcrypt.hashpw(b"s3cret", bcrypt.gensalt(4)) + b"\n")
    password.write_text("s3cret\n")
    Storage(str(tmp_path / "origin")).keep_manifest("team/app", EMPTY, Manifest(EMPTY_INDEX, ""), ["v1"])
    with served(tmp_path / "origin", "--htpasswd", str(users)) as origin:
        address = f"127.0.0.1:{origin}"
        with cache(tmp_path / "cache", address, "--proxy-user", "cache", "--proxy-password", str(password)) as port:
            assert manifest_at(port, "v1") == EMPTY
        with cache(tmp_path / "other", address) as port:
            assert manifest_at(port, "v1") in ("404", "503")


def test_a_folder_stays_what_it_is(tmp_path: Path) -> None:
    def refused(*options: str) -> str:
        with pytest.raises(SpecrunError) as caught:
            registry.serve(["--listen", "127.0.0.1:0", *options], None)  # type: ignore[arg-type]
        return caught.value.message

    Storage(str(tmp_path / "own")).keep_manifest("a", EMPTY, Manifest(EMPTY_INDEX, ""), [])
    Storage(str(tmp_path / "cache")).become_cache("127.0.0.1:1")
    own, cached = str(tmp_path / "own"), str(tmp_path / "cache")
    assert "is a registry of its own, not a cache of 127.0.0.1:1" in refused("--storage", own, "--proxy", "127.0.0.1:1")
    assert "is a cache of 127.0.0.1:1, not a cache of docker.io" in refused("--storage", cached, "--proxy", "docker.io")
    assert "is a cache of 127.0.0.1:1" in refused("--storage", cached)
    assert "--proxy-ttl belongs to --proxy" in refused("--storage", own, "--proxy-ttl", "5")
    assert "expected the address of a registry" in refused("--storage", own, "--proxy", "https://host/path")
    assert "carries no password" in refused("--storage", own, "--proxy", "https://user:secret@host")


class Source:
    """An upstream with one blob, which it sends as a test says."""

    def __init__(self, data: bytes, send: Callable[[http.server.BaseHTTPRequestHandler, bytes], None]) -> None:
        self.digest = digest_of(data)
        self.asked: list[str] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.asked.append(self.headers.get("Range", ""))
                send(self, data)

            def do_HEAD(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def answer(handler: http.server.BaseHTTPRequestHandler, data: bytes, size: int, first: int = 0) -> None:
    handler.send_response(206 if first else 200)
    if first:
        handler.send_header("Content-Range", f"bytes {first}-{size - 1}/{size}")
    handler.send_header("Content-Length", str(size - first))
    handler.end_headers()
    handler.wfile.write(data[first:])


def test_many_clients_are_one_fetch_and_see_it_come(tmp_path: Path) -> None:
    data, seen, go = os.urandom(3 << 20), threading.Event(), threading.Event()

    def slowly(handler: http.server.BaseHTTPRequestHandler, data: bytes) -> None:
        answer(handler, data[: 1 << 20], len(data))
        handler.wfile.flush()
        seen.set()
        go.wait(20)
        handler.wfile.write(data[1 << 20 :])

    source = Source(data, slowly)
    with cache(tmp_path / "cache", source.address) as port:

        def fetch(number: int) -> str:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request("GET", f"/v2/a{number % 2}/blobs/{source.digest}")
            coming = connection.getresponse()
            first = coming.read(1000)  # long before the last
            assert not go.is_set()
            arrived.release()
            rest = coming.read()
            connection.close()
            return digest_of(first + rest)

        arrived = threading.Semaphore(0)
        with ThreadPoolExecutor(20) as pool:
            running = [pool.submit(fetch, number) for number in range(20)]
            for _ in running:
                assert arrived.acquire(timeout=20)
            go.set()
            assert {one.result() for one in running} == {source.digest}
        assert source.asked == [""]
        assert not list((tmp_path / "cache").rglob("_uploads/*"))
    source.close()


def test_a_lie_is_never_whole_and_never_kept(tmp_path: Path) -> None:
    def lie(handler: http.server.BaseHTTPRequestHandler, data: bytes) -> None:
        answer(handler, data[:-1] + bytes([data[-1] ^ 1]), len(data))

    source = Source(os.urandom(1 << 20), lie)
    with cache(tmp_path / "cache", source.address) as port:
        for _ in range(2):
            with pytest.raises((http.client.IncompleteRead, ConnectionError)):
                ask(port, "GET", f"/v2/a/blobs/{source.digest}")
        assert ask(port, "GET", f"/v2/a/blobs/{source.digest}", None, {"Range": "bytes=0-9"})[0] == 502
        assert not [path for path in (tmp_path / "cache/blobs").rglob("*") if path.is_file()]
        assert not list((tmp_path / "cache").rglob("_uploads/*"))
    source.close()


def test_a_cut_is_gone_on_from(tmp_path: Path) -> None:
    left = [2]

    def cut(handler: http.server.BaseHTTPRequestHandler, data: bytes) -> None:
        first = int((handler.headers.get("Range") or "bytes=0-")[6:].rstrip("-"))
        if not left[0]:
            answer(handler, data, len(data), first)
            return
        left[0] -= 1
        answer(handler, data[: first + (len(data) - first) // 2], len(data), first)
        handler.close_connection = True

    source = Source(os.urandom(1 << 20), cut)
    with cache(tmp_path / "cache", source.address) as port:
        status, data = ask(port, "GET", f"/v2/a/blobs/{source.digest}")
        assert (status, digest_of(data)) == (200, source.digest)
    assert [bool(asked) for asked in source.asked] == [False, True, True]
    source.close()


def test_a_full_cache_lets_go_of_what_was_not_asked_for_the_longest(tmp_path: Path) -> None:
    with served(tmp_path / "origin") as origin:
        images = [push(origin, f"v{number}") for number in range(4)]
        with cache(tmp_path / "cache", f"http://127.0.0.1:{origin}", "--quota", "250000") as port:
            for _, layer in [*images[:2], images[0], images[2]]:
                assert ask(port, "GET", f"/v2/team/app/blobs/{layer}")[0] == 200
            kept = {f"sha256:{path.name}" for path in (tmp_path / "cache/blobs").rglob("*") if path.is_file()}
            assert kept == {images[0][1], images[2][1]}
            assert ask(port, "GET", f"/v2/team/app/blobs/{images[1][1]}")[0] == 200  # fetched again


def test_a_cache_that_is_killed_while_it_fetches_goes_on(tmp_path: Path) -> None:
    data, seen = os.urandom(1 << 20), threading.Event()

    def stall(handler: http.server.BaseHTTPRequestHandler, data: bytes) -> None:
        if seen.is_set():
            answer(handler, data, len(data))
            return
        answer(handler, data[: 1 << 19], len(data))
        handler.wfile.flush()
        seen.set()
        time.sleep(2)

    source = Source(data, stall)
    server, first = start_server(tmp_path / "cache", 0, "--proxy", source.address)
    path = f"/v2/a/blobs/{source.digest}"
    threading.Thread(target=lambda: pytest.raises(http.client.HTTPException, ask, first, "GET", path)).start()
    assert seen.wait(20)
    end_server(server, kill=True)
    with cache(tmp_path / "cache", source.address) as port:
        status, found = ask(port, "GET", f"/v2/a/blobs/{source.digest}")
        assert (status, hashlib.sha256(found).digest()) == (200, hashlib.sha256(data).digest())
    source.close()
