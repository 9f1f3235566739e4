"""Registries to talk to: Debian's docker-registry and our own server, with the ways of authentication there are.

Also what stands between: a token server, and a line that breaks.
"""

from __future__ import annotations

import base64
import http.server
import json
import random
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.host import COMMAND
from tests.support.ports import free_port

USER, PASSWORD = "alice", "s3cret-of-alice"
SERVICE, ISSUER = "the registry", "the issuer"


class Authority:
    """A certificate authority of openssl's making; it certifies 127.0.0.1, localhost and registry.example."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.certificate = folder / "ca.crt"
        self._openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.crt",
                      "-days", "2", "-subj", "/CN=authority of a test")  # fmt: skip
        (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:registry.example\n")
        self.server = self.issue("server")

    def issue(self, name: str) -> tuple[Path, Path]:
        """Certificate and key."""
        self._openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr",
                      "-subj", f"/CN={name}")  # fmt: skip
        self._openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
                      "-days", "2", "-extfile", "names", "-out", f"{name}.crt")  # fmt: skip
        return self.folder / f"{name}.crt", self.folder / f"{name}.key"

    def _openssl(self, *words: str) -> None:
        subprocess.run(["openssl", *words], cwd=self.folder, check=True, capture_output=True)


def trust(host: Any, address: str, authority: Authority) -> None:
    """Put the authority's certificate into the certs.d of a test's own settings."""
    settings = host.folder / "settings"
    folder = settings / "certs.d" / address
    folder.mkdir(parents=True, exist_ok=True)
    (settings / "registries.toml").touch()
    shutil.copy(authority.certificate, folder / "ca.crt")
    host.environment["SPECRUN_REGISTRIES"] = str(settings / "registries.toml")


def htpasswd(path: Path) -> Path:
    """A file with USER and PASSWORD."""
    import bcrypt

    path.write_bytes(USER.encode() + b":" + bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)) + b"\n")
    return path


class TokenServer:
    """Gives USER tokens for all that is asked for, and nobody else any; over TLS.

    With `identities` it gives, and takes, identity tokens too, as OAuth 2 has them.
    """

    def __init__(self, authority: Authority) -> None:
        self.certificate, key = authority.issue("tokens")
        self._key = key.read_text()
        self.asked: list[dict[str, list[str]]] = []
        self.lifetime = 300
        self.identities: set[str] | None = None
        """Those that are good; None for a server that knows none."""
        self.rotates = self.withdraws = False
        """Whether there is a new one with each answer, and whether the one before is no good then."""
        self.refreshed: list[dict[str, list[str]]] = []
        """The forms that identity tokens came in."""
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = parse_qs(urlsplit(self.path).query)
                outer.asked.append(query)
                expected = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
                if self.headers.get("Authorization") != expected:
                    self.send_error(401)
                    return
                answer = {"token": outer.token(query.get("scope", []))}
                if query.get("offline_token") == ["true"] and query.get("client_id") and outer.identities is not None:
                    answer["refresh_token"] = outer.identity()
                self._answer(200, answer)

            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                outer.refreshed.append(form)
                (identity,) = form.get("refresh_token", [""])
                whole = form["grant_type"] == ["refresh_token"] and form["service"] == [SERVICE] and form["client_id"]
                if not whole or "Authorization" in self.headers or identity not in (outer.identities or ()):
                    self._answer(400, {"error": "invalid_grant"})
                    return
                scopes = form.get("scope", [""])[0].split()
                if outer.withdraws:
                    (outer.identities or set()).discard(identity)
                if outer.rotates:
                    identity = outer.identity()
                self._answer(200, {"access_token": outer.token(scopes), "refresh_token": identity})

            def _answer(self, status: int, document: dict[str, str]) -> None:
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*authority.server)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.realm = f"https://127.0.0.1:{self._server.server_port}/token"

    def identity(self) -> str:
        """A new identity token."""
        assert self.identities is not None
        made = f"identity-{random.getrandbits(128):032x}"
        self.identities.add(made)
        return made

    def token(self, scopes: list[str]) -> str:
        """A token as docker-registry wants it, with the certificate of its key."""
        import jwt

        now = int(time.time())
        access = []
        for scope in scopes:
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        claims = {
            "iss": ISSUER, "sub": USER, "aud": SERVICE, "exp": now + self.lifetime, "nbf": now - 10, "iat": now - 10,
            "jti": str(random.random()), "access": access,
        }  # fmt: skip
        der = ssl.PEM_cert_to_DER_cert(self.certificate.read_text())
        return jwt.encode(claims, self._key, "RS256", headers={"x5c": [base64.b64encode(der).decode()]})

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def debian_registry(
    folder: Path, *, tls: Authority | None = None, users: Path | None = None, tokens: TokenServer | None = None,
    port: int = 0,
) -> Iterator[str]:  # fmt: skip
    """docker-registry on a port of its own; gives host:port. The test is skipped where there is none."""
    if not shutil.which("docker-registry"):
        pytest.skip("docker-registry is not installed")
    address = f"127.0.0.1:{port or free_port()}"
    config: dict[str, Any] = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder)}, "delete": {"enabled": True}},
        "http": {"addr": address, "secret": "of a test"},
    }
    if tls:
        config["http"]["tls"] = {"certificate": str(tls.server[0]), "key": str(tls.server[1])}
    if users:
        config["auth"] = {"htpasswd": {"realm": "a test", "path": str(users)}}
    if tokens and tls:
        config["auth"] = {
            "token": {
                "realm": tokens.realm,
                "service": SERVICE,
                "issuer": ISSUER,
                "rootcertbundle": str(tls.certificate),
            }
        }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder.parent / f"{folder.name}.json"  # JSON is YAML
    path.write_text(json.dumps(config))
    with open(folder.parent / f"{folder.name}.log", "wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", str(path)], stdout=log, stderr=log)
    try:
        await_port(address)
        yield address
    finally:
        process.kill()
        process.wait()


@contextmanager
def own_registry(
    folder: Path, *, tls: Authority | None = None, users: Path | None = None, tokens: TokenServer | None = None
) -> Iterator[str]:
    """`specrun registry serve` on a port of its own; gives host:port."""
    words = [COMMAND, "registry", "serve", "-q", "--listen", "127.0.0.1:0", "--storage", str(folder)]
    if tls:
        words += ["--tls-cert", str(tls.server[0]), "--tls-key", str(tls.server[1])]
    if users:
        words += ["--htpasswd", str(users)]
    if tokens:
        words += ["--token-realm", tokens.realm, "--token-service", SERVICE, "--token-issuer", ISSUER]
        words += ["--token-key", str(tokens.certificate)]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().rstrip().rpartition("/")[2]
    finally:
        process.terminate()
        assert process.wait(30) == 0
        process.stdout.close()


def await_port(address: str) -> None:
    """Until somebody listens there."""
    host, _, port = address.rpartition(":")
    for _ in range(600):
        try:
            socket.create_connection((host, int(port)), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"nobody listens on {address}")


class Line:
    """A TCP line to a registry that breaks after so many bytes of a connection as `breaks` says (None: not at all).

    `down` counts what has come from the registry, `up` what was sent to it. It stands still once `hold_at` bytes have
    gone one way, until `go_on` is set.
    """

    def __init__(self, registry: str, breaks: Any) -> None:
        self.registry = registry
        self.breaks = breaks
        self.down = self.up = 0
        self.hold_at = 1 << 62
        self.go_on = threading.Event()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            host, _, port = self.registry.rpartition(":")
            try:
                server = socket.create_connection((host, int(port)), 10)
            except OSError:
                client.close()
                continue
            budget, ends = [self.breaks()], [client, server]
            for source, target, way in ((client, server, "up"), (server, client, "down")):
                threading.Thread(target=self._carry, args=(source, target, way, budget, ends), daemon=True).start()

    def _carry(
        self, source: socket.socket, target: socket.socket, way: str, budget: list[int | None],
        ends: list[socket.socket],
    ) -> None:  # fmt: skip
        try:
            while data := source.recv(1 << 16):
                with self._lock:
                    if budget[0] is not None:
                        data = data[: budget[0]]
                        budget[0] -= len(data)
                    setattr(self, way, getattr(self, way) + len(data))
                target.sendall(data)
                if getattr(self, way) >= self.hold_at:
                    self.go_on.wait(60)
                if budget[0] == 0:
                    break
        except OSError:
            pass
        finally:
            for end in (target, source):  # without a reset, which would take away what is on its way
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
            with self._lock:
                ends.remove(target)
                left = not ends
            if left:  # the second direction has ended too
                source.close()
                target.close()

    def close(self) -> None:
        self._listener.close()
