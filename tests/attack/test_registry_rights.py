"""What a server must not do for whoever may not have it: deletions, other repositories' content, bytes that differ."""

from __future__ import annotations

import http.client
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.pusher import Pusher, ask, digest_of, end_server, put_blob, start_server

MIB = 1 << 20


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    server, number = start_server(tmp_path)
    yield number
    end_server(server)


def begin(port: int, name: str = "a") -> str:
    """The address of a new upload."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", f"/v2/{name}/blobs/uploads/")
        answer = connection.getresponse()
        answer.read()
        return answer.getheader("Location") or ""
    finally:
        connection.close()


def content_is_what_its_names_say(storage: Path) -> bool:
    blobs = [path for path in (storage / "blobs/sha256").rglob("*") if path.is_file()]
    return all(digest_of(path.read_bytes()) == f"sha256:{path.name}" for path in blobs)


def test_what_deletes_nothing_deletes_nothing(tmp_path: Path) -> None:
    server, port = start_server(tmp_path, 0, "--no-delete")
    pusher = Pusher(port, "a", "t")
    pusher.push("v1")
    ((_, manifest, layer),) = pusher.acknowledged
    upload = begin(port)
    for path in ("/v2/a/manifests/v1", f"/v2/a/manifests/{manifest}", f"/v2/a/blobs/{layer}", upload):
        assert ask(port, "DELETE", path)[0] == 405
    assert pusher.lost() == [] and ask(port, "GET", upload)[0] == 204
    end_server(server)


def test_content_is_where_it_was_pushed_and_nowhere_else(port: int) -> None:
    blob = os.urandom(1000)
    path = f"blobs/{digest_of(blob)}"
    assert put_blob(port, "a", blob)[0] == put_blob(port, "b", blob)[0] == 201
    assert ask(port, "GET", f"/v2/c/{path}")[0] == 404
    assert ask(port, "DELETE", f"/v2/a/{path}")[0] == 202
    assert ask(port, "GET", f"/v2/b/{path}") == (200, blob)
    assert ask(port, "GET", f"/v2/a/{path}")[0] == ask(port, "HEAD", f"/v2/a/{path}")[0] == 404


def test_two_who_write_to_one_upload(port: int, tmp_path: Path) -> None:
    upload, parts = begin(port), [os.urandom(MIB) for _ in range(2)]
    statuses: list[int] = []

    def slowly(data: bytes) -> Iterator[bytes]:
        for start in range(0, MIB, MIB // 8):
            yield data[start : start + MIB // 8]
            time.sleep(0.05)

    def patch(data: bytes) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request("PATCH", upload, slowly(data), {"Transfer-Encoding": "chunked"}, encode_chunked=True)
            statuses.append(connection.getresponse().status)
        except OSError:  # refused before all of it was sent
            statuses.append(416)
        finally:
            connection.close()

    threads = [threading.Thread(target=patch, args=(data,)) for data in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [202, 416]
    results = [ask(port, "PUT", f"{upload}?digest={digest_of(data)}", b"")[0] for data in parts]
    assert results.count(201) <= 1
    assert content_is_what_its_names_say(tmp_path)


@pytest.mark.parametrize("given", ["5-9", "0-", "9-0", "bytes */5", "0-99", "-1-3"])
def test_a_chunk_that_does_not_belong_there(port: int, tmp_path: Path, given: str) -> None:
    upload = begin(port)
    status, _ = ask(port, "PATCH", upload, b"12345", {"Content-Range": given})
    assert status in (400, 416)
    assert ask(port, "PUT", f"{upload}?digest={digest_of(b'other')}", b"12345")[0] == 400
    assert ask(port, "GET", upload)[0] == 404 and not list((tmp_path / "blobs").rglob("*/*/*"))


def test_a_mount_from_a_repository_that_one_may_not_pull_from(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = serialization.Encoding.PEM
    public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "key.pem").write_bytes(public)
    options = ["--token-realm", "https://x/", "--token-service", "s", "--token-issuer", "i"]
    server, port = start_server(tmp_path / "storage", 0, *options, "--token-key", str(tmp_path / "key.pem"))

    def bearer(signed_by: ec.EllipticCurvePrivateKey = key, **granted: str) -> dict[str, str]:
        access = [{"type": "repository", "name": name, "actions": may.split()} for name, may in granted.items()]
        claims = {"iss": "i", "aud": "s", "exp": int(time.time()) + 60, "access": access}
        return {"Authorization": f"Bearer {jwt.encode(claims, signed_by, 'ES256')}"}

    blob = os.urandom(1000)
    digest = digest_of(blob)
    ours, all_of_both = bearer(mine="pull push"), bearer(mine="pull push", secret="pull push")
    assert ask(port, "POST", f"/v2/secret/blobs/uploads/?digest={digest}", blob, all_of_both)[0] == 201
    for mount in (f"mount={digest}&from=secret", f"mount={digest}"):
        assert ask(port, "POST", f"/v2/mine/blobs/uploads/?{mount}", b"", ours)[0] == 202
        assert ask(port, "GET", f"/v2/mine/blobs/{digest}", None, ours)[0] == 404
    assert ask(port, "GET", f"/v2/secret/blobs/{digest}", None, ours)[0] == 401
    assert ask(port, "GET", "/v2/_catalog", None, all_of_both)[0] == 401
    stranger = bearer(ec.generate_private_key(ec.SECP256R1()), secret="pull")
    assert ask(port, "GET", f"/v2/secret/blobs/{digest}", None, stranger)[0] == 401
    unsigned = jwt.encode({"iss": "i", "aud": "s", "exp": int(time.time()) + 60}, None, "none")
    assert ask(port, "GET", "/v2/", None, {"Authorization": f"Bearer {unsigned}"})[0] == 401
    assert ask(port, "POST", f"/v2/mine/blobs/uploads/?mount={digest}&from=secret", b"", all_of_both)[0] == 201
    end_server(server)
