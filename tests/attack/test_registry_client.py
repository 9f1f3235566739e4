"""Registries that lie, stall, flood and lead elsewhere: the client says so in time, and keeps nothing of it."""

from __future__ import annotations

import http.server
import json
import signal
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate

import pytest

from specrun.registry.auth import Authority, RegistryError
from specrun.registry.client import _check_redirect
from specrun.registry.hosts import Endpoint
from tests.support.host import Host
from tests.support.liar import Change, Liar, altered, make_liar

Handler = http.server.BaseHTTPRequestHandler


@pytest.fixture
def liar() -> Iterator[Liar]:
    made = make_liar()
    yield made
    made.close()


@pytest.fixture
def other() -> Iterator[Liar]:
    made = make_liar()
    yield made
    made.close()


@pytest.fixture
def quick(host: Host, liar: Liar) -> Callable[..., None]:
    """Settings of a test's own; a silence of a second is too long."""

    def write(**more: object) -> None:
        path = host.folder / "registries.toml"
        lines = [f'[registry."{liar.address}"]', "timeout = 1"]
        path.write_text("\n".join([*lines, *(f"{key} = {json.dumps(value)}" for key, value in more.items())]))
        host.environment["SPECRUN_REGISTRIES"] = str(path)

    write()
    return write


def say(handler: Handler, status: int, body: bytes = b"", **headers: str) -> None:
    handler.send_response(status)
    for key, value in {"Content-Length": str(len(body)), **headers}.items():
        if value:
            handler.send_header(key.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def of_layer(liar: Liar, act: Callable[[Handler], None]) -> Change:
    """Let `act` answer who asks for the layer."""

    def change(handler: Handler) -> bool:
        if liar.layer in handler.path:
            act(handler)
        return liar.layer in handler.path

    return change


def refused(host: Host, name: str, *words: str, within: float = 20) -> None:
    """A pull fails soon, says why in a line, and leaves nothing."""
    before = host.ok("images", "-aq", "--no-trunc")
    began = time.monotonic()
    done = host.run("pull", name)
    assert time.monotonic() - began < within
    text = done.stderr.decode()
    assert done.returncode == 1 and "Traceback" not in text and "internal error" not in text, text
    assert all(word in text for word in words), text
    assert host.ok("images", "-aq", "--no-trunc") == before and host.ok("image", "verify") == ""


@pytest.mark.parametrize("said", [-1, 1])
def test_another_length_than_the_manifest_s(host: Host, liar: Liar, said: int) -> None:
    size = len(liar.blobs[liar.layer])
    body = liar.blobs[liar.layer] if said < 0 else liar.blobs[liar.layer] + b"x"
    liar.change = of_layer(liar, lambda handler: say(handler, 200, body[: size + said]))
    refused(host, liar.name, f"has {size + said} bytes, not {size}")


def pour(handler: Handler, sent: list[int]) -> None:
    """Send a body without an end, and count it, until the client goes."""
    try:
        while True:
            handler.wfile.write(bytes(1 << 16))
            sent[0] += 1 << 16
    except OSError:
        handler.close_connection = True


def test_a_body_without_an_end(host: Host, liar: Liar) -> None:
    sent = [0]

    def flood(handler: Handler) -> None:
        handler.protocol_version = "HTTP/1.0"
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        pour(handler, sent)

    liar.change = of_layer(liar, flood)
    refused(host, liar.name, "sends more than")
    assert sent[0] < 32 << 20  # what the kernels hold at both ends


def test_a_cut_at_the_same_place_each_time(host: Host, liar: Liar) -> None:
    def cut(handler: Handler) -> None:
        data, first = liar.blobs[liar.layer], int((handler.headers.get("Range") or "bytes=0-")[6:].rstrip("-"))
        handler.send_response(206 if first else 200)
        if first:
            handler.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        handler.send_header("Content-Length", str(len(data) - first))
        handler.end_headers()
        handler.wfile.write(data[first:500_000])
        liar.sent += max(0, 500_000 - first)
        handler.close_connection = True

    liar.change = of_layer(liar, cut)
    refused(host, liar.name, "broke off", "what has come is kept", within=30)
    assert liar.sent < 510_000
    liar.change = lambda handler: False
    host.ok("pull", liar.name)
    assert liar.sent <= 1.05 * sum(map(len, liar.blobs.values())) + 10_000


@pytest.mark.parametrize("pace", ["silent", "a byte now and then"])
def test_a_stall(host: Host, liar: Liar, quick: object, pace: str) -> None:
    def stall(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(liar.blobs[liar.layer])))
        handler.end_headers()
        try:
            for number in range(40):
                if pace != "silent":
                    handler.wfile.write(liar.blobs[liar.layer][number : number + 1])
                time.sleep(0.1)
        except OSError:
            pass
        handler.close_connection = True

    liar.change = of_layer(liar, stall)
    came = "nothing came for too long" if pace == "silent" else "hardly anything came"
    refused(host, liar.name, f"broke off: {came}")


def test_an_interrupt_ends_a_pull_that_waits(host: Host, liar: Liar) -> None:
    def stall(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(liar.blobs[liar.layer])))
        handler.end_headers()
        handler.wfile.write(liar.blobs[liar.layer][:100_000])
        time.sleep(15)
        handler.close_connection = True

    liar.change = of_layer(liar, stall)
    process = host.spawn("pull", liar.name)
    partial = host.root / "pulls" / liar.layer[7:]
    deadline = time.monotonic() + 30
    while (not partial.exists() or not partial.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(8) == 130 and partial.stat().st_size == 100_000


def test_silence_from_the_beginning(host: Host, liar: Liar, quick: object) -> None:
    def silent(handler: Handler) -> bool:
        time.sleep(6)
        handler.close_connection = True
        return True

    liar.change = silent
    refused(host, liar.name, "cannot be reached: nothing came for too long")


def test_a_manifest_that_is_cut_is_asked_for_again(host: Host, liar: Liar) -> None:
    left = [2]

    def cut(handler: Handler) -> bool:
        if "/manifests/" not in handler.path or not left[0]:
            return False
        left[0] -= 1
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(liar.manifest)))
        handler.end_headers()
        handler.wfile.write(liar.manifest[:100])
        handler.close_connection = True
        return True

    liar.change = cut
    host.ok("pull", liar.name)
    left[0] = 99
    refused(host, liar.name, "cannot be reached")


def test_a_long_retry_after_is_not_waited_for(host: Host, liar: Liar) -> None:
    liar.change = of_layer(liar, lambda handler: say(handler, 429, Retry_After="3600"))
    refused(host, liar.name, "3600 seconds", within=10)
    liar.change = of_layer(liar, lambda handler: say(handler, 503, Retry_After=formatdate(time.time() + 7200)))
    refused(host, liar.name, "seconds", within=10)


def test_a_date_in_retry_after_is_waited_for(host: Host, liar: Liar) -> None:
    times: list[float] = []

    def busy(handler: Handler) -> bool:
        if liar.layer not in handler.path:
            return False
        times.append(time.time())
        if len(times) == 1:
            say(handler, 503, Retry_After=formatdate(int(time.time()) + 3, usegmt=True))
        return len(times) == 1

    liar.change = busy
    host.ok("pull", liar.name)
    assert times[1] - times[0] >= 1.9


def test_an_error_without_an_end_and_with_tricks(host: Host, liar: Liar) -> None:
    errors = [{"code": "DENIED", "message": "\x1b[2J\x1b]0;owned\x07\u202egnorw"}]
    liar.change = of_layer(liar, lambda handler: say(handler, 403, json.dumps({"errors": errors}).encode()))
    done = host.run("pull", liar.name)
    assert done.returncode == 1 and b"DENIED" in done.stderr
    assert b"\x1b" not in done.stderr and b"\x07" not in done.stderr and "\u202e".encode() not in done.stderr
    sent = [0]

    def flood(handler: Handler) -> None:
        handler.send_response(404)
        handler.send_header("Connection", "close")
        handler.end_headers()
        pour(handler, sent)

    liar.change = of_layer(liar, flood)
    refused(host, liar.name, "status 404")
    assert sent[0] < 32 << 20


@pytest.mark.parametrize("asked", ["/manifests/", "/blobs/"])
def test_a_chunk_of_less_than_nothing_is_not_all_that_follows(host: Host, liar: Liar, asked: str) -> None:
    sent = [0]

    def flood(handler: Handler) -> bool:
        if asked not in handler.path:
            return False
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"-1\r\n")
        handler.close_connection = True
        try:
            while sent[0] < 64 << 20:
                handler.wfile.write(b"x" * (1 << 16))
                sent[0] += 1 << 16
        except OSError:
            pass
        return True

    liar.change = flood
    refused(host, liar.name)
    assert sent[0] < 32 << 20


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda liar: b" " * (5 << 20), "larger than"),
        (lambda liar: b"[" * 100_000, "nested"),
        (lambda liar: liar.manifest.replace(b'"schemaVersion": 2', b'"schemaVersion": 1'), "schema version 1"),
        (lambda liar: liar.manifest.replace(b'"layers"', b'"manifests": [], "layers"'), "both an index and a manifest"),
        (lambda liar: liar.manifest.replace(b'"size": 105', b'"size": 1052388608105'), "MiB of layers, the disk"),
        (lambda liar: liar.manifest.replace(b'"size": 1', b'"size": -1'), "has no size"),
        (lambda liar: liar.manifest.replace(b'"sha256:', b'"sha256:../', 1), "has no digest"),
        (lambda liar: liar.manifest.replace(b'"layers": [', b'"layers": [' + _layer(liar) * 200), "layers"),
    ],
)  # fmt: skip
def test_a_manifest_that_is_none(host: Host, liar: Liar, spoil: Callable[[Liar], bytes], words: str) -> None:
    changed = spoil(liar)
    assert changed != liar.manifest
    liar.manifest = changed
    refused(host, liar.name, words)
    assert not any(liar.layer in path for path, _ in liar.asked)


def _layer(liar: Liar) -> bytes:
    return json.dumps(json.loads(liar.manifest)["layers"][0]).encode() + b", "


def test_the_digest_is_that_of_the_bytes_whatever_a_header_says(host: Host, liar: Liar) -> None:
    wrong = "sha256:" + 64 * "1"

    def lie(handler: Handler) -> bool:
        if "/manifests/" not in handler.path:
            return False
        kind = "application/vnd.oci.image.manifest.v1+json"
        say(handler, 200, liar.manifest, Docker_Content_Digest=wrong, Content_Type=kind)
        return True

    liar.change = lie
    assert wrong not in host.ok("pull", liar.name)
    refused(host, f"{liar.address}/lies@{wrong}", "sent a manifest that is not")


@pytest.mark.parametrize("told", ["bytes 0-9/10", "", "bytes 5-2/1", "{have}-"])
def test_another_range_than_was_asked_for(host: Host, liar: Liar, told: str) -> None:
    partial = host.root / "pulls" / liar.layer[7:]
    partial.parent.mkdir(mode=0o700, exist_ok=True)
    partial.write_bytes(liar.blobs[liar.layer][:1000])
    body = liar.blobs[liar.layer][1000:]
    liar.change = of_layer(liar, lambda handler: say(handler, 206, body, Content_Range=told.format(have=1000)))
    refused(host, liar.name, "another range")


def test_what_an_earlier_attempt_has_left_is_proven_too(host: Host, liar: Liar) -> None:
    partial = host.root / "pulls" / liar.layer[7:]
    partial.parent.mkdir(mode=0o700, exist_ok=True)
    partial.write_bytes(b"not of this layer")
    host.ok("pull", liar.name)
    assert host.ok("image", "verify") == "" and not partial.exists()


def test_a_range_that_is_not_satisfiable(host: Host, liar: Liar) -> None:
    partial = host.root / "pulls" / liar.layer[7:]
    partial.parent.mkdir(mode=0o700, exist_ok=True)
    partial.write_bytes(liar.blobs[liar.layer][:1000])

    def no_ranges(handler: Handler) -> bool:
        if liar.layer not in handler.path or not handler.headers.get("Range"):
            return False
        say(handler, 416)
        return True

    liar.change = no_ranges
    host.ok("pull", liar.name)


def log_in(host: Host, liar: Liar) -> None:
    """Have a password for the registry, which asks for it."""
    import base64

    auth = base64.b64encode(b"alice:s3cret").decode()
    folder = host.folder / "docker"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"auths": {liar.address: {"auth": auth}}}))
    host.environment["DOCKER_CONFIG"] = str(folder)


def asking(liar: Liar, beyond: Change) -> Change:
    def change(handler: Handler) -> bool:
        if not handler.headers.get("Authorization"):
            say(handler, 401, WWW_Authenticate='Basic realm="x"')
            return True
        return beyond(handler)

    return change


def test_credentials_do_not_follow_a_redirect(host: Host, liar: Liar, other: Liar) -> None:
    log_in(host, liar)
    other.blobs = liar.blobs
    target = f"http://{other.address}/v2/lies/blobs/{liar.layer}"
    liar.change = asking(liar, of_layer(liar, lambda handler: say(handler, 307, Location=target)))
    host.ok("pull", liar.name)
    assert other.asked and set(other.authorizations) == {""}
    # Nor is a challenge answered there.
    host.ok("rmi", liar.name)
    other.change = lambda handler: say(handler, 401, WWW_Authenticate='Basic realm="x"') is None
    refused(host, liar.name, "status 401")
    assert set(other.authorizations) == {""}


def test_credentials_do_not_go_to_the_address_of_a_foreign_layer(host: Host, liar: Liar, other: Liar) -> None:
    log_in(host, liar)
    other.blobs = dict(liar.blobs)
    document = json.loads(liar.manifest)
    document["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.nondistributable.v1.tar"
    document["layers"][0]["urls"] = [f"http://{other.address}/elsewhere/{liar.layer}", "file:///etc/passwd"]
    liar.manifest = json.dumps(document).encode()
    liar.change = asking(liar, of_layer(liar, lambda handler: say(handler, 404)))
    host.ok("pull", liar.name)
    assert [path for path, _ in other.asked] == [f"/elsewhere/{liar.layer}"] and other.authorizations == [""]
    host.ok("rmi", liar.name)
    other.blobs = {liar.layer: altered(liar.blobs[liar.layer])}
    refused(host, liar.name)
    assert set(other.authorizations) == {""}


def endpoint(host: str) -> Endpoint:
    return Endpoint(host, host, schemes=["https"])


@pytest.mark.parametrize(
    ("registry", "realm", "told"),
    [
        ("registry.example.com", "https://auth.example.com/token", True),
        ("registry.example.com:5000", "https://registry.example.com/token", True),
        ("127.0.0.1:5000", "http://localhost:5001/token", True),
        ("registry.example.com", "https://example.com.attacker.net/token", False),
        ("registry.example.com", "https://attacker.net/token", False),
        ("10.0.0.5:5000", "https://10.9.0.5/token", False),
        ("registry.example.com", "http://registry.example.com/token", False),
        ("registry.example.com", "http://127.0.0.1.attacker.net/token", False),
        ("registry.example.com", "file:///etc/passwd", False),
        ("registry.example.com", "https://[::1/", False),
        ("registry.example.com", "", False),
    ],
)
def test_who_is_told_a_password(registry: str, realm: str, told: bool) -> None:
    sent: list[str] = []

    def fetch(method: str, address: str, headers: dict[str, str], body: bytes | None) -> tuple[int, bytes]:
        sent.append(headers.get("Authorization", ""))
        return 200, b'{"token": "t"}'

    authority = Authority(endpoint(registry), fetch)
    authority.login("alice", "s3cret")
    challenge = f'Bearer realm="{realm}",service="s"'
    if told:
        assert authority.answer(challenge, "repository:a:pull", "")
        assert sent[0].startswith("Basic ") and authority.header("repository:a:pull") == "Bearer t"
        return
    with pytest.raises(RegistryError):
        authority.answer(challenge, "repository:a:pull", "")
    assert sent == []


@pytest.mark.parametrize(
    ("origin", "target", "followed"),
    [
        ("https://a.example/v2/", "https://cdn.example/x", True),
        ("http://127.0.0.1:5000/v2/", "http://127.0.0.1:6000/x", True),
        ("http://127.0.0.1:5000/v2/", "https://cdn.example/x", True),
        ("https://a.example/v2/", "http://a.example/x", False),
        ("https://a.example/v2/", "https://127.0.0.1/x", False),
        ("https://a.example/v2/", "https://localhost/x", False),
        ("https://a.example/v2/", "https://[::1]/x", False),
        ("https://a.example/v2/", "https://169.254.169.254/latest/meta-data", False),
        ("http://127.0.0.1:5000/v2/", "http://169.254.169.254/latest/meta-data", False),
        ("https://a.example/v2/", "", False),
    ],
)
def test_where_a_redirect_may_lead(origin: str, target: str, followed: bool) -> None:
    if followed:
        _check_redirect(origin, target, target)
        return
    with pytest.raises(RegistryError, match="not followed"):
        _check_redirect(origin, target, target)


def pages(liar: Liar, link: str, count: int = 3) -> Change:
    """A list of tags with a Link after each page."""

    def change(handler: Handler) -> bool:
        if "/tags/list" not in handler.path:
            return False
        number = int(handler.path.partition("page=")[2] or 0)
        body = json.dumps({"name": "lies", "tags": [f"t{number}a", f"t{number}b"]}).encode()
        say(handler, 200, body, Link=link.format(next=number + 1) if number + 1 < count else "")
        return True

    return change


def test_pages_of_tags(host: Host, liar: Liar) -> None:
    name = f"{liar.address}/lies"
    liar.change = pages(liar, '</v2/lies/tags/list?page={next}>; rel="next"')
    assert host.ok("search-tags", "-q", name).split() == ["t0a", "t0b", "t1a", "t1b", "t2a", "t2b"]
    liar.asked.clear()
    assert host.ok("search-tags", "-q", "--limit", "3", name).split() == ["t0a", "t0b", "t1a"]
    assert len(liar.asked) == 2
    assert host.ok("search-tags", "--filter", "name=t?b", "--limit", "2", name).split() == [
        "NAME", "TAG", name, "t0b", name, "t1b"
    ]  # fmt: skip
    liar.change = pages(liar, "</v2/lies/tags/list?page=1>; rel=next", 99)
    assert b"the same page after itself" in host.run("search-tags", name).stderr
    liar.change = pages(liar, "<http://attacker.example/tags?page={next}>; rel=next")
    assert b"next page elsewhere" in host.run("search-tags", name).stderr


def test_mirrors(host: Host, liar: Liar, other: Liar, quick: Callable[..., None]) -> None:
    """Asked first, trusted no more than the registry, and told nothing that is the registry's."""
    log_in(host, liar)
    liar.change = asking(liar, lambda handler: False)
    quick(mirrors=["http://127.0.0.1:1", f"http://{other.address}/prefix"])
    other.blobs, other.manifest = dict(liar.blobs), liar.manifest
    host.ok("pull", liar.name)  # the second mirror has it all
    assert liar.asked == [] and other.asked[0][0] == "/v2/prefix/lies/manifests/v1"
    host.ok("rmi", liar.name)
    other.blobs[liar.layer] = altered(liar.blobs[liar.layer])  # it lies: the registry is asked
    host.ok("pull", liar.name)
    assert any(liar.layer in path for path, _ in liar.asked)
    for status in (401, 404, 500):
        host.ok("rmi", liar.name)
        header = 'Basic realm="x"' if status == 401 else ""
        other.change = lambda handler, status=status, header=header: (  # type: ignore[misc]
            say(handler, status, WWW_Authenticate=header) is None
        )
        host.ok("pull", liar.name)
    assert set(other.authorizations) == {""}
    assert host.ok("image", "verify") == ""
    quick(mirrors=["ftp://mirror.example"])
    refused(host, liar.name, "registries.toml", "mirrors", "ftp://mirror.example")
    quick(mirror=["x"])
    refused(host, liar.name, "registries.toml", "unknown key 'mirror'")


def test_a_platform_by_index(host: Host, liar: Liar) -> None:
    kind = "application/vnd.oci.image.manifest.v1+json"
    child = {"mediaType": kind, "digest": Liar.digest(liar.manifest), "size": len(liar.manifest)}
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            {**child, "digest": "sha256:" + 64 * "0", "platform": {"os": "linux", "architecture": "s390x"}},
            {**child, "digest": "sha256:" + 64 * "1", "platform": {"os": "unknown", "architecture": "unknown"}},
            {**child, "platform": {"os": "linux", "architecture": "amd64"}},
        ],
    }
    raw = json.dumps(index).encode()

    def answer(handler: Handler) -> bool:
        if not handler.path.endswith("/manifests/v1"):
            return False
        say(handler, 200, raw, Content_Type="application/vnd.oci.image.index.v1+json")
        return True

    liar.change = answer
    assert f"Digest: {Liar.digest(raw)}" in host.ok("pull", "--platform", "linux/amd64", liar.name)
    done = host.run("pull", "--platform", "linux/arm64", liar.name)
    assert done.returncode == 1 and b"no matching manifest for linux/arm64" in done.stderr
    assert b"linux/s390x, unknown/unknown, linux/amd64" in done.stderr
