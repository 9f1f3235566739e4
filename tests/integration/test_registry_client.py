"""Our client with docker-registry and with our own server: over plain HTTP and TLS, with passwords and tokens."""

from __future__ import annotations

import base64
import json
import os
import random
import re
import socket
import ssl
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.host import Host
from tests.support.images import spoiled
from tests.support.proxy import Proxy
from tests.support.registries import (
    PASSWORD,
    USER,
    Authority,
    Line,
    TokenServer,
    debian_registry,
    htpasswd,
    own_registry,
    trust,
)

SERVERS = {"docker-registry": debian_registry, "our server": own_registry}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def tokens(authority: Authority) -> Iterator[TokenServer]:
    server = TokenServer(authority)
    yield server
    server.close()


@pytest.fixture(autouse=True)
def own_configuration(host: Host) -> None:
    host.environment["DOCKER_CONFIG"] = str(host.folder / "docker")


def there_and_back(host: Host, name: str) -> str:
    """Push busybox, forget it, pull and run it; gives the digest."""
    host.ok("tag", "busybox", name)
    pushed = re.search(r"digest: (sha256:[0-9a-f]{64}) size: \d+$", host.ok("push", name).rstrip())
    assert pushed
    host.ok("rmi", name)
    pulled = host.ok("pull", name)
    assert f"Digest: {pushed[1]}\n" in pulled
    assert host.ok("run", "--rm", "--network", "none", name, "echo", "came back") == "came back\n"
    assert host.ok("image", "verify") == ""
    return pushed[1]


@pytest.mark.parametrize("server", SERVERS)
def test_plain_http_on_loopback(host: Host, tmp_path: Path, server: str) -> None:
    with SERVERS[server](tmp_path / "storage") as address:
        digest = there_and_back(host, f"{address}/deep/er/hello:v1")
        host.ok("tag", f"{address}/deep/er/hello:v1", f"{address}/deep/er/hello:v2")
        host.ok("push", "--all-tags", f"{address}/deep/er/hello")
        assert host.ok("search-tags", "-q", f"{address}/deep/er/hello").split() == ["v1", "v2"]
        assert host.ok("pull", "-aq", f"{address}/deep/er/hello").split() == [f"{address}/deep/er/hello"]
        both = f"{address}/deep/er/hello:v1@{digest}"
        assert host.ok("pull", both).startswith(f"{digest}: Pulling from deep/er/hello\n")
        assert host.ok("run", "--rm", "--network", "none", "--pull", "never", both, "echo", "yes") == "yes\n"
        # What another repository of the registry has is mounted from there.
        host.ok("tag", "busybox", f"{address}/other:v1")
        assert "Mounted from deep/er/hello" in host.ok("push", f"{address}/other:v1")


def test_the_first_command_on_a_host_may_be_a_pull(host: Host, tmp_path: Path) -> None:
    with own_registry(tmp_path / "storage") as address:
        host.ok("tag", "busybox", f"{address}/hello:v1")
        host.ok("push", f"{address}/hello:v1")
        host.environment["SPECRUN_ROOT"] = str(tmp_path / "root")
        assert "Pull complete" in host.ok("pull", f"{address}/hello:v1")
        assert host.ok("image", "verify") == ""


@pytest.mark.parametrize("server", SERVERS)
def test_a_password_over_tls(host: Host, tmp_path: Path, authority: Authority, server: str) -> None:
    users = htpasswd(tmp_path / "users")
    with SERVERS[server](tmp_path / "storage", tls=authority, users=users) as address:
        host.ok("tag", "busybox", f"{address}/hello:v1")
        unknown = host.run("push", f"{address}/hello:v1")
        assert unknown.returncode == 1 and b"certificate" in unknown.stderr.lower() and b"certs.d" in unknown.stderr
        trust(host, address, authority)
        refused = host.run("push", f"{address}/hello:v1")
        assert refused.returncode == 1 and b"specrun login" in refused.stderr
        wrong = host.run("login", "-u", USER, "--password-stdin", address, input=b"wrong-password")
        assert wrong.returncode == 1 and b"wrong-password" not in wrong.stdout + wrong.stderr
        assert b"does not take this login: " in wrong.stderr and b"are user and password right?" in wrong.stderr
        login = base64.b64encode(f"{USER}:of-yesterday".encode()).decode()
        (host.folder / "docker").mkdir(exist_ok=True)
        (host.folder / "docker/config.json").write_text(json.dumps({"auths": {address: {"auth": login}}}))
        old = host.run("push", f"{address}/hello:v1")
        assert b"does not take this login: " in old.stderr and f"specrun login {address}".encode() in old.stderr
        host.ok("login", "-u", USER, "--password-stdin", address, input=PASSWORD.encode())
        there_and_back(host, f"{address}/hello:v1")
        there_and_back_insecurely(host, address)
    assert secrets_in(host, PASSWORD) == [str(host.folder / "docker/config.json")]


def there_and_back_insecurely(host: Host, address: str) -> None:
    settings = host.environment.pop("SPECRUN_REGISTRIES")
    assert host.run("pull", f"{address}/hello:v1").returncode == 1
    host.ok("pull", "--tls-verify=false", f"{address}/hello:v1")
    Path(settings).write_text(f'[registry."{address}"]\ninsecure = true\n')
    host.environment["SPECRUN_REGISTRIES"] = settings
    host.ok("pull", f"{address}/hello:v1")


def secrets_in(host: Host, secret: str) -> list[str]:
    """Files below the test's folder that a password stands in, in clear or as it is sent."""
    import base64

    forms = [secret.encode(), base64.b64encode(f"{USER}:{secret}".encode())]
    files = [path for path in host.folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return [str(path) for path in files if any(form in path.read_bytes() for form in forms)]


@pytest.mark.parametrize("server", SERVERS)
def test_tokens_over_tls(host: Host, tmp_path: Path, authority: Authority, tokens: TokenServer, server: str) -> None:
    with SERVERS[server](tmp_path / "storage", tls=authority, tokens=tokens) as address:
        trust(host, address, authority)
        host.ok("tag", "busybox", f"{address}/hello:v1")
        refused = host.run("push", f"{address}/hello:v1")
        assert refused.returncode == 1 and b"token server" in refused.stderr and b"specrun login" in refused.stderr
        host.ok("login", "-u", USER, "--password-stdin", address, input=PASSWORD.encode())
        tokens.asked.clear()
        there_and_back(host, f"{address}/hello:v1")
        assert {"repository:hello:pull,push", "repository:hello:pull"} <= {one["scope"][0] for one in tokens.asked}
        host.ok("tag", "busybox", f"{address}/other:v1")
        assert "Mounted from hello" in host.ok("push", f"{address}/other:v1")
        assert ["repository:other:pull,push", "repository:hello:pull"] in [one["scope"] for one in tokens.asked]
        # What the registry does not take, though the token server gave it, is said.
        tokens.lifetime = -120
        assert host.run("pull", f"{address}/hello:v1").returncode == 1


HELPER = """#!/bin/sh
# Keeps one login for each server in a folder, as credential helpers of Docker do.
key=$(cat | tee {folder}/last-input | tr -d '\\n')
case "$1" in
store)
    server=$(echo "$key" | sed 's/.*"ServerURL": *"\\([^"]*\\)".*/\\1/' | tr / _)
    echo "$key" > {folder}/$server ;;
get)
    file={folder}/$(echo "$key" | tr / _)
    [ -e "$file" ] || {{ echo "credentials not found in native keychain"; exit 1; }}
    cat "$file" ;;
erase)
    rm -f {folder}/$(echo "$key" | tr / _) ;;
esac
"""


def add_helper(host: Host, keychain: Path) -> Path:
    """Let docker-credential-folder be on the PATH, with this folder; gives the program."""
    programs = host.folder / "bin"
    for folder in (keychain, programs):
        folder.mkdir()
    helper = programs / "docker-credential-folder"
    helper.write_text(HELPER.format(folder=keychain))
    helper.chmod(0o755)
    host.environment["PATH"] = f"{programs}:{host.environment['PATH']}"
    return helper


@pytest.mark.parametrize("kind", ["credsStore", "credHelpers"])
def test_credential_helpers(host: Host, tmp_path: Path, kind: str) -> None:
    users, keychain = htpasswd(tmp_path / "users"), tmp_path / "keychain"
    helper = add_helper(host, keychain)
    with own_registry(tmp_path / "storage", users=users) as address:
        config = host.folder / "docker/config.json"
        config.parent.mkdir()
        config.write_text(json.dumps({kind: "folder" if kind == "credsStore" else {address: "folder"}}))
        host.ok("login", "-u", USER, "--password-stdin", address, input=PASSWORD.encode())
        assert PASSWORD in (keychain / address).read_text() and secrets_in(host, PASSWORD) == []
        there_and_back(host, f"{address}/hello:v1")
        host.ok("logout", address)
        assert not (keychain / address).exists()
        assert host.run("pull", f"{address}/hello:v1").returncode == 1
        helper.write_text("#!/bin/sh\nexit 3\n")
        broken = host.run("pull", f"{address}/hello:v1")
        assert broken.returncode == 1 and b"docker-credential-folder get failed with status 3" in broken.stderr


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("keeper", ["file", "helper"])
def test_identity_tokens(
    host: Host, tmp_path: Path, authority: Authority, tokens: TokenServer, server: str, keeper: str
) -> None:
    """Login changes the password for one where the token server gives one; it is used as Docker's would be."""
    config, keychain = host.folder / "docker/config.json", tmp_path / "keychain"
    config.parent.mkdir()
    if keeper == "helper":
        add_helper(host, keychain)
        config.write_text('{"credsStore": "folder"}')
    tokens.identities = set()
    with SERVERS[server](tmp_path / "storage", tls=authority, tokens=tokens) as address:
        trust(host, address, authority)
        host.ok("login", "-u", USER, "--password-stdin", address, input=PASSWORD.encode())
        assert secrets_in(host, PASSWORD) == [] and len(tokens.identities) == 1
        (identity,) = tokens.identities
        if keeper == "helper":
            kept = json.loads((keychain / address).read_text())
            assert (kept["Username"], kept["Secret"]) == ("<token>", identity) and identity not in config.read_text()
        else:
            assert json.loads(config.read_text())["auths"][address]["identitytoken"] == identity
        tokens.asked.clear()
        there_and_back(host, f"{address}/hello:v1")
        assert "Login Succeeded" in host.ok("login", address)
        scopes = {one["scope"][0] for one in tokens.refreshed if "scope" in one}
        assert tokens.asked == [] and {"repository:hello:pull,push", "repository:hello:pull"} <= scopes
        tokens.identities.clear()  # somebody has withdrawn it
        refused = host.run("pull", f"{address}/hello:v1")
        assert refused.returncode == 1 and b"refuses: status 400" in refused.stderr
        assert f"specrun login {address}".encode() in refused.stderr and identity.encode() not in refused.stderr
        host.ok("logout", address)
        assert b"identity" not in config.read_bytes() and secrets_in(host, identity) == []


@pytest.mark.parametrize("keeper", ["file", "helper"])
def test_another_identity_token_is_kept_by_a_login_only(
    host: Host, tmp_path: Path, authority: Authority, tokens: TokenServer, keeper: str
) -> None:
    """As with Docker, whose daemon cannot tell its clients of one."""
    config, keychain = host.folder / "docker/config.json", tmp_path / "keychain"
    config.parent.mkdir()

    def kept(address: str) -> str:
        if keeper == "helper":
            entry = json.loads((keychain / address).read_text())
            assert entry["Username"] == "<token>"
            return str(entry["Secret"])
        entry = json.loads(config.read_text())["auths"][f"https://{address}"]
        assert entry["auth"] == base64.b64encode(f"{USER}:".encode()).decode()
        return str(entry["identitytoken"])

    with own_registry(tmp_path / "storage", tls=authority, tokens=tokens) as address:
        trust(host, address, authority)
        if keeper == "helper":
            add_helper(host, keychain)
            config.write_text('{"credsStore": "folder"}')
            tokens.identities = None
            host.ok("login", "-u", USER, "--password-stdin", address, input=PASSWORD.encode())
        else:
            login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            config.write_text(json.dumps({"auths": {f"https://{address}": {"auth": login}}}))
        # A password that is kept already gives way to the token that the server gives for it.
        tokens.identities, tokens.rotates = set(), True
        host.ok("login", address)
        first = kept(address)
        assert tokens.identities == {first} and secrets_in(host, PASSWORD) == []
        there_and_back(host, f"{address}/hello:v1")
        assert kept(address) == first and len(tokens.identities) > 1
        # Within a command the newest is used.
        tokens.withdraws = True
        host.ok("tag", "busybox", f"{address}/other:v1")
        tokens.refreshed.clear()
        host.ok("push", f"{address}/other:v1")
        used = [form["refresh_token"][0] for form in tokens.refreshed]
        assert used[0] == first and len(set(used)) == len(used) > 1 and kept(address) == first
        assert host.run("pull", f"{address}/other:v1").returncode == 1
        tokens.identities.add(first)
        host.ok("login", address)
        second = kept(address)
        assert second != first and second in tokens.identities
        tokens.identities = None
        host.ok("login", "-u", USER, "--password-stdin", address, input=PASSWORD.encode())
        assert len(json.loads(config.read_text())["auths"]) == 1  # under whatever name it was there
        assert "Removing" in host.ok("logout", address)
    assert secrets_in(host, second) == secrets_in(host, PASSWORD) == []


def test_an_identity_token_is_no_password(host: Host, tmp_path: Path) -> None:
    users = htpasswd(tmp_path / "users")
    with own_registry(tmp_path / "storage", users=users) as address:
        config = host.folder / "docker/config.json"
        config.parent.mkdir()
        config.write_text(json.dumps({"auths": {address: {"identitytoken": PASSWORD}}}))
        done = host.run("pull", f"{address}/hello:v1")
        assert done.returncode == 1 and b"wants a password, and there is only an identity token" in done.stderr
        host.ok("login", "-u", USER, "-p", PASSWORD, address)
        assert "identitytoken" not in config.read_text()


def test_the_login_that_is_there_is_used(host: Host, tmp_path: Path) -> None:
    with own_registry(tmp_path / "storage", users=htpasswd(tmp_path / "users")) as address:
        host.ok("login", "-u", USER, "--password-stdin", address, input=PASSWORD.encode())
        again = host.ok("login", address)
        assert "Authenticating with existing credentials" in again and "Login Succeeded" in again
        assert stat.S_IMODE((host.folder / "docker/config.json").stat().st_mode) == 0o600


def large(host: Host, name: str, size: int) -> None:
    """Let `name` be an image with a file of random bytes."""
    spoiled(host, name, fill=lambda tree: (tree / "large").write_bytes(os.urandom(size)))


@pytest.mark.parametrize("server", SERVERS)
def test_a_line_that_breaks_anywhere(host: Host, tmp_path: Path, server: str) -> None:
    """Both ways go on from where they stood: what has once come over the line is not sent again."""
    seed = random.randrange(1 << 30)
    dice = random.Random(seed)

    def breaks() -> int | None:
        return dice.choice([None, dice.randrange(4000), dice.randrange(700_000, 3 << 20), dice.randrange(8 << 20)])

    with SERVERS[server](tmp_path / "storage") as address:
        line = Line(address, breaks)
        name = f"{line.address}/large:v1"
        large(host, name, 20 << 20)
        for verb in ("push", "pull"):
            for _ in range(20):  # what can't be done says what is wrong
                done = host.run(verb, name, timeout=120)
                if done.returncode == 0:
                    break
                assert b"Traceback" not in done.stderr and b"cannot be reached" in done.stderr, (seed, done.stderr)
            assert done.returncode == 0, (seed, done.stderr)
            if verb == "push":
                blobs = [path.stat().st_size for path in (tmp_path / "storage").rglob("*") if path.is_file()]
                size = sum(one for one in blobs if one > 100)  # links are shorter
                assert size > 20 << 20
                if server == "our server":  # what others keep of what came before a break is theirs
                    assert line.up <= 1.05 * size, seed
                host.ok("rmi", "-f", name)
                line.down = 0
        assert line.down <= 1.05 * size, seed
        assert host.ok("image", "verify") == "" and not any((host.root / "pulls").iterdir())
        line.close()


def test_bars_on_a_terminal(host: Host, tmp_path: Path) -> None:
    """And the cursor ends up below them, with Docker's closing lines."""
    with own_registry(tmp_path / "storage") as address:
        line = Line(address, lambda: None)
        name = f"{line.address}/large:v1"
        large(host, name, 20 << 20)
        line.hold_at = 8 << 20  # long enough for more than one look at it
        pushed = on_a_terminal(line, host, "push", name)
        assert re.search(r"[0-9a-f]{12}: Pushing \[=+>? *\] +[0-9.]+[kM]?B/[0-9.]+MB", pushed)
        assert re.search(r"\x1b\[2K[0-9a-f]{12}: Pushed\r\n", pushed)
        assert re.search(r"v1: digest: sha256:[0-9a-f]{64} size: \d+\r\n$", pushed)
        host.ok("rmi", "-f", name)
        pulled = on_a_terminal(line, host, "pull", name)
        assert re.search(r"[0-9a-f]{12}: Downloading \[=+>? *\] +[0-9.]+[kM]?B/[0-9.]+MB", pulled)
        assert re.search(rf"Pull complete\r\nDigest: .*\r\nStatus: Downloaded newer image for {name}\r\n", pulled)
        host.ok("rmi", "-f", name)
        plain = host.ok("pull", name)
        assert "\x1b" not in plain and "Downloading" not in plain and ": Pull complete\n" in plain
        line.close()


def on_a_terminal(line: Line, host: Host, *words: str) -> str:
    """What a command writes to a terminal of 100 columns, while the line stands still for a moment."""
    import fcntl
    import pty
    import struct
    import termios
    import threading

    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    host.environment["TERM"] = "xterm"
    line.up = line.down = 0
    line.go_on.clear()
    process = host.spawn(*words, stdout=side, stderr=side)
    timer = threading.Timer(2, line.go_on.set)
    timer.start()
    os.close(side)
    text = b""
    try:
        while data := os.read(main, 1 << 16):
            text += data
    except OSError:
        pass  # EIO: the other end is closed
    os.close(main)
    timer.join()
    assert process.wait() == 0, text
    return text.decode()


@pytest.mark.parametrize("server", SERVERS)
def test_referrers(tmp_path: Path, host: Host, server: str) -> None:
    """Where the registry knows no referrers, the index under the tag of the digest is kept by whoever pushes."""
    import hashlib

    from specrun.oci.reference import Reference
    from specrun.paths import open_root
    from specrun.registry.client import Client
    from specrun.registry.listing import fallback_tag
    from specrun.registry.push import push
    from specrun.store.images import CONFIG_DIGEST, ImageStore

    with SERVERS[server](tmp_path / "storage") as address:
        host.ok("tag", "busybox", f"{address}/hello:v1")
        subject = re.search(r"digest: (sha256:[0-9a-f]{64}) size: (\d+)", host.ok("push", f"{address}/hello:v1"))
        assert subject
        store = ImageStore(open_root(str(host.root)))
        image = store.resolve("busybox")
        kind = "application/vnd.oci.image.manifest.v1+json"
        for number in range(2):
            document = {
                **store.manifest(image),
                "artifactType": f"application/x-signature{number}",
                "annotations": {"number": str(number)},
                "subject": {"mediaType": kind, "digest": subject[1], "size": int(subject[2])},
            }
            raw = json.dumps(document).encode()
            name = Reference.parse(f"{address}/hello:signature{number}")
            with store.adding():
                digest, size = store.blobs.put(raw)
                store.enter(digest, size, {CONFIG_DIGEST: image.id}, [name])
            assert digest == f"sha256:{hashlib.sha256(raw).hexdigest()}"
            for _ in range(2):  # the second time it is there already
                push(open_root(str(host.root)), name)
        listed = host.ok("registry", "referrers", f"{address}/hello:v1").splitlines()
        kinds = sorted(line.split()[1] for line in listed[1:])
        assert kinds == ["application/x-signature0", "application/x-signature1"]
        one = host.ok("registry", "referrers", "--artifact-type", "application/x-signature1", f"{address}/hello:v1")
        assert one.count("application/x-signature") == 1
        path = f"/v2/hello/manifests/{fallback_tag(subject[1])}"
        accepted = {"Accept": "application/vnd.oci.image.index.v1+json"}
        tagged = Client(address).request("GET", path, scope="", headers=accepted, expected=(200, 404)).status
        assert tagged == (200 if server == "docker-registry" else 404)


def test_a_server_that_wants_another_tls_is_not_asked_without(host: Host, authority: Authority) -> None:
    """On loopback a registry may speak plain HTTP, but what refuses our handshake has TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.server)
    context.verify_mode = ssl.CERT_REQUIRED  # of clients; by TLS 1.2 it is a part of the handshake
    context.load_verify_locations(authority.certificate)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    beginnings: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                line, _ = listener.accept()
            except OSError:
                return
            beginnings.append(line.recv(1, socket.MSG_PEEK))
            try:
                context.wrap_socket(line, server_side=True).close()
            except OSError:
                line.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        trust(host, address, authority)
        done = host.run("pull", f"{address}/hello:v1")
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert done.returncode == 1 and b"handshake failure" in done.stderr, done.stderr
    assert set(beginnings) == {b"\x16"}  # nothing but handshakes


@pytest.fixture
def proxy(host: Host) -> Iterator[Proxy]:
    """The only way to registry.example."""
    server = Proxy({"registry.example": "127.0.0.1"})
    host.environment.update({"HTTPS_PROXY": server.url, "HTTP_PROXY": server.url, "NO_PROXY": "192.0.2.1"})
    yield server
    server.close()


@pytest.mark.parametrize("server", SERVERS)
def test_by_a_proxy_over_tls(host: Host, tmp_path: Path, authority: Authority, proxy: Proxy, server: str) -> None:
    users = htpasswd(tmp_path / "users")
    with SERVERS[server](tmp_path / "storage", tls=authority, users=users) as address:
        name = address.replace("127.0.0.1", "registry.example")
        trust(host, name, authority)
        host.ok("login", "-u", USER, "-p", PASSWORD, name)
        there_and_back(host, f"{name}/hello:v1")
        assert set(proxy.asked) == {f"CONNECT {name}"}


def test_by_a_proxy_without_tls(host: Host, tmp_path: Path, proxy: Proxy) -> None:
    with own_registry(tmp_path / "storage") as address:
        name = address.replace("127.0.0.1", "registry.example")
        host.ok("tag", "busybox", f"{name}/hello:v1")
        host.ok("push", "--tls-verify=false", f"{name}/hello:v1")
        assert f"PUT http://{name}/v2/hello/manifests/v1" in proxy.asked
        host.ok("rmi", f"{name}/hello:v1")
        host.ok("pull", "--tls-verify=false", f"{name}/hello:v1")
        before = len(proxy.asked)
        host.ok("pull", f"{address}/hello:v1")
        assert len(proxy.asked) == before, "who is on this host is asked directly"


def test_what_a_proxy_says_is_told(host: Host, proxy: Proxy) -> None:
    host.environment["HTTPS_PROXY"] = proxy.url.replace("clerk", "stranger")
    port = proxy.server_port
    done = host.run("pull", "registry.example/hello")
    assert done.returncode == 1 and f"by the proxy 127.0.0.1:{port}: ".encode() in done.stderr, done.stderr
    assert b"407" in done.stderr and b"p%3As" not in done.stderr
    proxy.close()
    done = host.run("pull", "registry.example/hello")
    assert f"by the proxy 127.0.0.1:{port}: Connection refused".encode() in done.stderr
    host.environment["HTTPS_PROXY"] = "socks5://x"
    done = host.run("pull", "registry.example/hello")
    assert b"HTTPS_PROXY names no proxy that can be used: socks5://x" in done.stderr
