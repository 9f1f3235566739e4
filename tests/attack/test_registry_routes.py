"""No request makes the server fail: random addresses, headers and bodies are answered, and never by a 500."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from specrun.registry.protocol import InvalidDocument, Manifest, parse_range
from tests.support.pusher import ask, end_server, start_server

DESCRIPTION = Path(__file__).parents[2] / "docs/registry.openapi.yaml"
NAMES = st.sampled_from(["a", "a/b", "..", "%2e%2e", "A", "_x", "a//b", "a" * 300, "%00", "%ff", "blobs", "tags/list"])
DIGESTS = st.sampled_from(["sha256:" + "0" * 64, "sha512:" + "0" * 128, "sha256:x", "md5:0", "v1", "", "..", "%2F"])
TAILS = st.one_of(
    st.builds("{}/manifests/{}".format, NAMES, DIGESTS),
    st.builds("{}/blobs/{}".format, NAMES, DIGESTS),
    st.builds("{}/referrers/{}".format, NAMES, DIGESTS),
    st.builds("{}/blobs/uploads/{}".format, NAMES, st.sampled_from(["", "0" * 32, "..", "x"])),
    st.builds("{}/tags/list".format, NAMES),
    st.just("_catalog"),
    st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="?#"), max_size=60),
)
VALUES = st.sampled_from(["", "-1", "0", "99999999999999999999", "sha256:" + "0" * 64, "a", "%ff", "é".encode().hex()])
PARAMETERS = "n last digest mount from artifactType digest-algorithm tag".split()
QUERIES = st.lists(
    st.builds(
        "{}={}".format, st.sampled_from("n last digest mount from artifactType digest-algorithm tag".split()), VALUES
    ),
    max_size=3,
).map("&".join)
HEADERS = st.dictionaries(
    st.sampled_from(["Content-Range", "Range", "Content-Type", "If-None-Match", "Accept", "Authorization"]),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40).map(str.strip),
    max_size=3,
)


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    server, number = start_server(tmp_path_factory.mktemp("registry"))
    yield number
    end_server(server)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    method=st.sampled_from(["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"]),
    tail=TAILS, query=QUERIES, headers=HEADERS, body=st.binary(max_size=200),
)  # fmt: skip
def test_every_request_is_answered(
    port: int, method: str, tail: str, query: str, headers: dict[str, str], body: bytes
) -> None:
    status, _ = ask(port, method, f"/v2/{tail}?{query}", body, headers)
    assert 200 <= status < 500


@pytest.mark.parametrize(
    "raw",
    [
        b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"GET /v2/ HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ],
)
def test_what_two_servers_could_read_differently_is_refused(port: int, raw: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(raw)
        answer = b""
        with contextlib.suppress(ConnectionError):  # refused before all of it was read
            while part := connection.recv(65536):
                answer += part
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400")) or not answer


def test_a_manifest_of_many_bytes_is_refused_before_it_is_read(port: int) -> None:
    head = b"PUT /v2/a/manifests/v1 HTTP/1.1\r\nHost: x\r\nContent-Length: 67108864\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(head)
        assert connection.recv(4096).startswith(b"HTTP/1.1 413")


def test_the_routes_are_as_described(port: int, tmp_path: Path) -> None:
    """No server error, and no answer that the description does not have."""
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "run", str(DESCRIPTION), "--url", f"http://127.0.0.1:{port}",
        "--phases", "coverage,fuzzing", "--max-examples", "4", "--generation-deterministic", "--no-color",
        "--suppress-health-check", "all", "--checks",
        "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "16 selected / 16 total" in done.stdout


KEYS = "schemaVersion mediaType config layers manifests subject digest size annotations".split()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(KEYS), inner
    ),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(document=JSON, extra=st.binary(max_size=20))
def test_manifests_of_strangers_are_read_or_refused(document: object, extra: bytes) -> None:
    import json

    for raw in (json.dumps(document).encode(), extra, json.dumps(document).encode() + extra):
        with contextlib.suppress(InvalidDocument):
            Manifest(raw, "")


def test_json_that_nests_without_end_is_refused() -> None:
    with pytest.raises(InvalidDocument, match="nested deeper"):
        Manifest(b"[" * 200_000, "")


@given(text=st.text(max_size=40))
def test_ranges_of_strangers_are_read_or_refused(text: str) -> None:
    found = parse_range(text)
    assert found is None or found[0] >= 0
