"""Registries that misbehave while something is pushed: it gets there whole, or the command says what is wrong."""

from __future__ import annotations

import hashlib
import http.server
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.host import Host
from tests.support.images import spoiled

SIZE = 20 << 20


class Taker:
    """A registry that only takes, and misbehaves as `fault` says."""

    def __init__(self, fault: str) -> None:
        self.fault = fault
        self.left = 2
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, bytes] = {}
        self.received = 0
        self._uploads: dict[str, bytes] = {}
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def say(self, status: int, **headers: str) -> None:
                self.send_response(status)
                for key, value in {"Content-Length": "0", **headers}.items():
                    self.send_header(key.replace("_", "-"), value)
                self.end_headers()

            def upload(self, status: int) -> None:
                session = self.path.partition("?")[0].rpartition("/")[2]
                size = len(outer._uploads[session])
                self.say(status, Location=f"/v2/r/blobs/uploads/{session}", Range=f"0-{max(0, size - 1)}")

            def faulty(self) -> bool:
                if outer.fault in ("429", "500", "503") and outer.left:
                    outer.left -= 1
                    self.rfile.read(int(self.headers.get("Content-Length") or 0))
                    self.say(int(outer.fault), Retry_After="0")
                    return True
                return False

            def do_HEAD(self) -> None:
                self.say(200 if self.path.rpartition("/")[2] in outer.blobs else 404)

            def do_GET(self) -> None:
                session = self.path.partition("?")[0].rpartition("/")[2]
                if session not in outer._uploads:
                    self.say(404)
                    return
                self.upload(204)

            def do_POST(self) -> None:
                if self.faulty():
                    return
                if outer.fault == "no location":
                    self.say(202)
                    return
                if outer.fault == "location of a file":
                    self.say(202, Location="file:///etc/passwd")
                    return
                session = os.urandom(8).hex()
                outer._uploads[session] = b""
                self.path = f"/{session}"
                self.upload(202)

            def take(self) -> bool:
                """The body; half of it where the line is to break."""
                session = self.path.partition("?")[0].rpartition("/")[2]
                length = int(self.headers.get("Content-Length") or 0)
                broken = outer.fault in ("cut", "forgetful") and length > 1 << 20 and outer.left > 0
                body = self.rfile.read(length // 2 if broken else length)
                outer.received += len(body)
                outer._uploads[session] += body
                if broken:
                    outer.left -= 1
                    if outer.fault == "forgetful":
                        del outer._uploads[session]
                    self.close_connection = True
                    self.connection.shutdown(2)
                return not broken

            def do_PATCH(self) -> None:
                if not self.faulty() and self.take():
                    if outer.fault == "lost bytes" and outer.left:
                        outer.left -= 1
                        session = self.path.partition("?")[0].rpartition("/")[2]
                        outer._uploads[session] = outer._uploads[session][:-1000]
                        self.say(503)
                        return
                    self.upload(202)

            def do_PUT(self) -> None:
                if self.faulty():
                    return
                if "/manifests/" in self.path:
                    body = self.rfile.read(int(self.headers["Content-Length"]))
                    digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
                    outer.manifests[self.path.rpartition("/")[2]] = body
                    told = "sha256:" + 64 * "0" if outer.fault == "another digest" else digest
                    self.say(201, Docker_Content_Digest=told)
                    return
                if not self.take():
                    return
                session, _, query = self.path.rpartition("/")[2].partition("?")
                digest = query.partition("digest=")[2]
                data = outer._uploads.pop(session)
                if f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
                    self.say(400)
                    return
                outer.blobs[digest] = data
                if outer.fault == "lost answer" and outer.left and len(data) > 1 << 20:
                    outer.left -= 1
                    self.close_connection = True
                    self.connection.shutdown(2)
                    return
                self.say(201)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.name = f"127.0.0.1:{self.server.server_port}/r:v1"


@pytest.fixture
def taker(request: pytest.FixtureRequest) -> Iterator[Taker]:
    made = Taker(request.param)
    yield made
    made.server.shutdown()
    made.server.server_close()


def large(host: Host, name: str) -> None:
    spoiled(host, name, fill=lambda tree: (tree / "large").write_bytes(os.urandom(SIZE)))


@pytest.mark.parametrize(
    "taker", ["", "429", "500", "503", "cut", "forgetful", "lost bytes", "lost answer"], indirect=True
)
def test_it_gets_there_whole(host: Host, taker: Taker) -> None:
    large(host, taker.name)
    digest = re.search("digest: (sha256:[0-9a-f]{64})", host.ok("push", taker.name))
    assert digest and f"sha256:{hashlib.sha256(taker.manifests['v1']).hexdigest()}" == digest[1]
    import json

    document = json.loads(taker.manifests["v1"])
    assert {one["digest"] for one in [document["config"], *document["layers"]]} <= taker.blobs.keys()
    again = 3 if taker.fault == "forgetful" else 1.1
    assert taker.received < again * (SIZE + (4 << 20)), "what the registry had was sent again"


@pytest.mark.parametrize(
    ("taker", "words"),
    [
        ("no location", b"gave no place to upload to"),
        ("location of a file", b"gave no place to upload to"),
        ("another digest", b"has stored sha256:0000"),
    ],
    indirect=["taker"],
)
def test_what_is_wrong_is_said(host: Host, taker: Taker, words: bytes) -> None:
    host.ok("tag", "busybox", taker.name)
    done = host.run("push", taker.name)
    assert done.returncode == 1 and words in done.stderr and b"Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize("taker", [""], indirect=True)
def test_a_damaged_blob_is_not_blamed_on_the_registry(host: Host, taker: Taker) -> None:
    large(host, taker.name)
    blob = max(Path(host.root, "oci/blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    with open(blob, "r+b") as file:
        file.seek(SIZE // 2)
        file.write(b"another text")
    done = host.run("push", taker.name)
    assert done.returncode == 1 and b"is damaged" in done.stderr and "v1" not in taker.manifests
