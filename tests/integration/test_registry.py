"""Push and pull with a real server of ours, with Debian's tools, and with servers that misbehave."""

from __future__ import annotations

import hashlib
import http.server
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.host import COMMAND, Host
from tests.support.liar import Liar, altered, cut, make_liar
from tests.support.pusher import end_server, start_server


@pytest.fixture
def liar() -> Iterator[Liar]:
    made = make_liar()
    yield made
    made.close()


@contextmanager
def serving(host: Host, *options: str) -> Iterator[str]:
    """`specrun registry serve` on a port of its own; gives host:port."""
    process = subprocess.Popen(
        [COMMAND, "registry", "serve", "--listen", "127.0.0.1:0", "--storage", str(host.folder / "storage"), *options],
        env=host.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        yield line.rstrip().rpartition("/")[2]
    finally:
        process.terminate()
        assert process.wait(30) == 0
        process.stdout.close()


def test_there_and_back(host: Host) -> None:
    with serving(host) as address:
        name = f"{address}/hello:v7"
        host.ok("tag", "busybox", name)
        first = host.ok("push", name)
        assert re.search(r"^v7: digest: sha256:[0-9a-f]{64} size: \d+$", first, re.MULTILINE) and ": Pushed" in first
        assert "Layer already exists" in host.ok("push", "--disable-content-trust", name)
        for verb in ("pull", "push"):
            trusted = host.run(verb, "--disable-content-trust=false", name)
            assert trusted.returncode == 125 and b"cannot be verified" in trusted.stderr
        assert f"Status: Image is up to date for {name}" in host.ok("pull", "--disable-content-trust", name)
        before = host.ok("images", "--no-trunc", "-q")
        host.ok("rmi", "-f", name, "busybox")
        pulled = host.ok("pull", name)
        assert pulled.startswith("v7: Pulling from hello\n") and f"Status: Downloaded newer image for {name}" in pulled
        assert host.ok("images", "--no-trunc", "-q").split()[0] == before.split()[0]
        assert host.ok("run", "--rm", "--network", "none", name, "echo", "works") == "works\n"
        host.ok("rmi", name)
        done = host.run("run", "--rm", "--network", "none", name, "echo", "pulled first")
        assert done.stdout == b"pulled first\n" and b"Unable to find image" in done.stderr
        digest = re.search("sha256:[0-9a-f]{64}", first)
        assert digest and host.ok("pull", "-q", f"{address}/hello@{digest[0]}")


def test_what_is_not_there(host: Host) -> None:
    with serving(host) as address:
        done = host.run("pull", f"{address}/nosuch:v1")
        assert done.returncode == 1 and b"manifest unknown" in done.stderr
        assert host.run("run", "--rm", f"{address}/nosuch:v1", "true").returncode == 125
        assert host.run("push", f"{address}/nosuch:v1").returncode == 1
        assert host.run("run", "--rm", "--pull", "never", f"{address}/nosuch:v1", "true").returncode == 125
    assert b"cannot be reached" in host.run("pull", f"{address}/nosuch:v1").stderr


def test_a_password(host: Host, tmp_path: Path) -> None:
    import bcrypt

    users = tmp_path / "users"
    users.write_bytes(b"alice:" + bcrypt.hashpw(b"s3cret", bcrypt.gensalt(4)) + b"\n")
    host.environment["DOCKER_CONFIG"] = str(tmp_path / "docker")
    with serving(host, "--htpasswd", str(users)) as address:
        host.ok("tag", "busybox", f"{address}/hello:v1")
        refused = host.run("push", f"{address}/hello:v1")
        assert refused.returncode == 1 and b"wants a login" in refused.stderr
        wrong = host.run("login", "-u", "alice", "--password-stdin", address, input=b"wrong\n")
        assert wrong.returncode == 1 and b"wrong" not in wrong.stderr
        assert not (tmp_path / "docker/config.json").exists()
        assert "Login Succeeded" in host.ok("login", "-u", "alice", "--password-stdin", address, input=b"s3cret\n")
        assert (tmp_path / "docker/config.json").stat().st_mode & 0o777 == 0o600
        host.ok("push", f"{address}/hello:v1")
        host.ok("pull", f"{address}/hello:v1")
        assert "Removing login credentials" in host.ok("logout", address)
        assert host.run("pull", f"{address}/hello:v1").returncode == 1


def test_tls_by_certs_d(host: Host, tmp_path: Path) -> None:
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(certificate),
         "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    with serving(host, "--tls-cert", str(certificate), "--tls-key", str(key)) as address:
        name = f"{address}/hello:v1"
        host.ok("tag", "busybox", name)
        assert host.run("push", name).returncode == 1
        host.ok("push", "--tls-verify=false", name)
        folder = Path("/etc/specrun/certs.d") / address
        folder.mkdir(parents=True)
        try:
            shutil.copy(certificate, folder / "ca.crt")
            host.ok("pull", name)
        finally:
            shutil.rmtree(folder)


@pytest.mark.skipif(not shutil.which("skopeo"), reason="skopeo is not installed")
def test_skopeo_understands_our_server(host: Host, tmp_path: Path) -> None:
    with serving(host) as address:
        host.ok("tag", "busybox", f"{address}/hello:v1")
        host.ok("push", f"{address}/hello:v1")
        copy = ["skopeo", "copy", "--insecure-policy"]
        source = ["--src-tls-verify=false", f"docker://{address}/hello:v1"]
        subprocess.run([*copy, *source, f"oci:{tmp_path}/layout:x"], check=True, capture_output=True)
        target = ["--dest-tls-verify=false", f"oci:{tmp_path}/layout:x", f"docker://{address}/again:v1"]
        subprocess.run([*copy, *target], check=True, capture_output=True)
        host.ok("pull", f"{address}/again:v1")
        assert host.ok("run", "--rm", "--network", "none", f"{address}/again:v1", "echo", "yes") == "yes\n"


def test_a_cut_is_gone_on_from(host: Host, liar: Liar) -> None:
    liar.change = cut(liar, 3)
    host.ok("pull", liar.name)
    size = sum(map(len, liar.blobs.values()))
    assert size <= liar.sent <= 1.05 * size + len(liar.manifest)
    assert sum(bool(asked) for path, asked in liar.asked if liar.layer in path) == 3
    assert host.ok("image", "verify") is not None


def test_a_killed_pull_is_gone_on_from(host: Host, liar: Liar) -> None:
    def slow(handler: http.server.BaseHTTPRequestHandler) -> bool:
        if liar.layer not in handler.path:
            return False
        data = liar.blobs[liar.layer]
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[: len(data) // 2])
        handler.wfile.flush()
        time.sleep(10)
        return True

    liar.change = slow
    process = host.spawn("pull", liar.name)
    partial = host.root / "pulls" / liar.layer[7:]
    for _ in range(300):
        if partial.exists() and partial.stat().st_size > 400_000:
            break
        time.sleep(0.05)
    process.kill()
    process.wait()
    liar.change = lambda handler: False
    liar.asked.clear()
    host.ok("pull", liar.name)
    (range_asked,) = [asked for path, asked in liar.asked if liar.layer in path]
    assert range_asked.startswith("bytes=") and range_asked != "bytes=0-"


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_passing_fault_is_tried_again(host: Host, liar: Liar, status: int) -> None:
    left = [2]

    def busy(handler: http.server.BaseHTTPRequestHandler) -> bool:
        if not left[0]:
            return False
        left[0] -= 1
        handler.send_response(status)
        handler.send_header("Retry-After", "0")
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return True

    liar.change = busy
    host.ok("pull", liar.name)


@pytest.mark.parametrize("lie", ["content", "longer", "redirect loop", "file", "diff id", "not json", "schema 1"])
def test_a_lie_is_found_out_and_leaves_nothing(host: Host, liar: Liar, lie: str) -> None:
    before = host.ok("images", "-aq", "--no-trunc")

    def redirect(target: str) -> Callable[[http.server.BaseHTTPRequestHandler], bool]:
        def change(handler: http.server.BaseHTTPRequestHandler) -> bool:
            if liar.layer not in handler.path:
                return False
            handler.send_response(307)
            handler.send_header("Location", target or handler.path)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return True

        return change

    layer = liar.blobs[liar.layer]
    if lie == "content":
        liar.blobs[liar.layer] = altered(layer)
    elif lie == "longer":
        liar.blobs[liar.layer] = layer + b"more"
    elif lie == "redirect loop":
        liar.change = redirect("")
    elif lie == "file":
        liar.change = redirect("file:///etc/passwd")
    elif lie == "not json":
        liar.manifest = b'{"schemaVersion": 2, "schemaVersion": 2}'
    elif lie == "schema 1":
        liar.manifest = b'{"schemaVersion": 1, "name": "x", "fsLayers": []}'
    else:
        liar.server.shutdown()
        liar.server.server_close()
        liar = Liar(layer, "sha256:" + 64 * "0")
    began = time.monotonic()
    done = host.run("pull", liar.name)
    assert done.returncode != 0 and b"Traceback" not in done.stderr and b"internal error" not in done.stderr
    assert time.monotonic() - began < 30
    assert host.ok("images", "-aq", "--no-trunc") == before or lie == "diff id"
    assert host.run("run", "--rm", "--pull", "never", "--network", "none", liar.name, "true").returncode != 0


def test_garbage_goes_and_what_is_needed_stays(host: Host) -> None:
    storage = str(host.folder / "storage")
    with serving(host) as address:
        host.ok("tag", "busybox", f"{address}/hello:v1")
        host.ok("push", f"{address}/hello:v1")
        orphan = b"named by no manifest"
        digest = f"sha256:{hashlib.sha256(orphan).hexdigest()}"
        assert ask(address, "POST", f"/v2/hello/blobs/uploads/?digest={digest}", orphan)[0] == 201
        assert " 0 blobs" in host.ok("registry", "gc", "--storage", storage)  # it is young
        assert " 1 blobs" in host.ok("registry", "gc", "--storage", storage, "--grace", "0", "--dry-run")
        assert " 1 blobs" in host.ok("registry", "gc", "--storage", storage, "--grace", "0")
        assert ask(address, "HEAD", f"/v2/hello/blobs/{digest}")[0] == 404
        host.ok("pull", f"{address}/hello:v1")
        assert ask(address, "DELETE", "/v2/hello/manifests/v1")[0] == 202
        host.ok("registry", "gc", "--storage", storage, "--grace", "0", "--untagged")
        assert ask(address, "GET", "/v2/hello/tags/list")[1] == b'{"name": "hello", "tags": []}'
    assert host.ok("registry", "fsck", "--storage", storage) == "0 blobs examined, 0 problems\n"


def test_fsck_finds_a_flipped_bit(host: Host) -> None:
    storage = host.folder / "storage"
    with serving(host) as address:
        host.ok("tag", "busybox", f"{address}/hello:v1")
        host.ok("push", f"{address}/hello:v1")
    assert host.ok("registry", "fsck", "--storage", str(storage)).endswith(" 0 problems\n")
    blob = max(
        (path for path in (storage / "blobs").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size
    )
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.write_bytes(data)
    done = host.run("registry", "fsck", "--storage", str(storage))
    assert done.returncode == 1 and f"blob sha256:{blob.name} is damaged".encode() in done.stdout


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/_catalog?n=-1", 400),
        ("GET", "/v2/_catalog?n=abc", 400),
        ("GET", "/v2/_catalog?n=99999999999", 200),
        ("GET", "/v2/%2e%2e/%2e%2e/x/manifests/v1", 400),
        ("GET", "/v2/a/blobs/sha256:..%2f..%2fid", 404),
        ("GET", "/v2/_uploads/manifests/v1", 400),
        ("GET", "/v2/a%00b/tags/list", 400),
        ("GET", "/v2/%ff/tags/list", 400),
        ("GET", f"/v2/{'a' * 256}/tags/list", 400),
        ("GET", "/v2/a/referrers/nothing", 400),
        ("PATCH", "/v2/a/blobs/uploads/..%2f..%2fid", 404),
        ("PUT", f"/v2/a/blobs/uploads/{'0' * 32}?digest=x", 404),
        ("TRACE", "/v2/", 405),
        ("GET", "/id", 404),
    ],
)
def test_requests_that_lead_nowhere(registry_address: str, method: str, path: str, status: int) -> None:
    assert ask(registry_address, method, path)[0] == status


@pytest.fixture(scope="module")
def registry_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("registry")
    process = subprocess.Popen(
        [COMMAND, "registry", "serve", "-q", "--listen", "127.0.0.1:0", "--storage", str(folder)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    yield process.stdout.readline().rstrip().rpartition("/")[2]
    process.terminate()
    process.wait(30)
    process.stdout.close()


def ask(address: str, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """One request, sent as it is written."""
    import http.client

    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_it_stops_when_what_it_has_begun_is_answered(tmp_path: Path) -> None:
    import http.client

    body = b"x" * 300_000
    server, port = start_server(tmp_path)
    resting, upload = (http.client.HTTPConnection("127.0.0.1", port, timeout=30) for _ in range(2))
    resting.request("GET", "/v2/")
    resting.getresponse().read()
    upload.putrequest("POST", f"/v2/a/blobs/uploads/?digest=sha256:{hashlib.sha256(body).hexdigest()}")
    upload.putheader("Content-Length", str(len(body)))
    upload.endheaders(body[:100_000])
    time.sleep(0.3)
    server.terminate()
    assert resting.sock.recv(1) == b""  # closed, and so it listens no longer
    with pytest.raises(ConnectionRefusedError):
        ask(f"127.0.0.1:{port}", "GET", "/v2/")
    upload.send(body[100_000:200_000])
    time.sleep(0.3)
    upload.send(body[200_000:])
    assert upload.getresponse().status == 201
    began = time.monotonic()
    end_server(server)
    assert time.monotonic() - began < 5
    for connection in (resting, upload):
        connection.close()


SPEC = """apiVersion: specrun/v1
kind: Push
metadata: {{name: published}}
spec: {{image: "busybox", to: "{address}/hello:v1"}}
---
apiVersion: specrun/v1
kind: Image
metadata: {{name: hello}}
spec:
  tags: [hello:pulled]
  pull: {{reference: "{address}/other:v1", policy: Always}}
"""


def test_specs_of_push_and_pull(host: Host, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    with serving(host) as address:
        host.ok("tag", "busybox", f"{address}/other:v1")
        host.ok("push", f"{address}/other:v1")
        spec.write_text(SPEC.format(address=address))
        assert host.run("plan", str(spec)).returncode == 2
        host.ok("apply", str(spec))
        assert host.run("plan", str(spec)).returncode == 0
        assert host.ok("run", "--rm", "--network", "none", "hello:pulled", "echo", "yes") == "yes\n"
        # Somebody moves both tags at the registry.
        host.ok("run", "--name", "one", "--network", "none", "busybox", "touch", "/changed")
        for name in ("hello", "other"):
            host.ok("commit", "one", f"{address}/{name}:v1")
            host.ok("push", f"{address}/{name}:v1")
        done = host.run("plan", str(spec))
        assert done.returncode == 2
        assert "push/published" in done.stdout.decode() and "image/hello" in done.stdout.decode()
        assert f"{address}/other:v1 has moved: it is sha256:" in done.stdout.decode()
        host.ok("apply", str(spec))
        assert host.run("plan", str(spec)).returncode == 0
        assert host.ok("run", "--rm", "--network", "none", "hello:pulled", "ls", "/changed") == "/changed\n"
        assert "stays in its registry" in host.ok("delete", str(spec))


def test_a_build_pulls_its_base(host: Host, tmp_path: Path) -> None:
    with serving(host) as address:
        host.ok("tag", "busybox", f"{address}/base:v1")
        host.ok("push", f"{address}/base:v1")
        host.ok("rmi", f"{address}/base:v1")
        (tmp_path / "Dockerfile").write_text(f'FROM {address}/base:v1\nCMD ["echo", "built"]\n')
        host.ok("build", "-t", "built", str(tmp_path))
        assert host.ok("run", "--rm", "--network", "none", "built") == "built\n"
    (tmp_path / "Dockerfile").write_text(f"FROM {address}/nosuch:v1\n")
    done = host.run("build", str(tmp_path))
    assert done.returncode == 1 and b"cannot be reached" in done.stderr


def test_figures_tell_the_routes_apart(host: Host) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    with serving(host) as address:
        host.ok("tag", "busybox", f"{address}/hello:v1")
        host.ok("push", f"{address}/hello:v1")
        host.ok("search-tags", f"{address}/hello")
        text = urllib.request.urlopen(f"http://{address}/metrics").read().decode()
    counted = {
        (sample.labels["method"], sample.labels["route"], sample.labels["status"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "specrun_registry_requests_total"
    }
    assert counted == {
        ("HEAD", "blobs", "404"): 2, ("POST", "upload", "202"): 2, ("PUT", "upload", "201"): 2,
        ("PUT", "manifests", "201"): 1, ("GET", "tags", "200"): 1,
    }  # fmt: skip
