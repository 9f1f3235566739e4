"""Pushes images of random bytes by the bare protocol, and remembers what the registry has acknowledged."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

from tests.support.host import COMMAND

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def start_server(
    storage: Path, port: int = 0, *options: str, log: IO[bytes] | None = None
) -> tuple[subprocess.Popen[str], int]:
    """A registry on `port` (0 for any), and the port; its access log goes to `log`."""
    command = [COMMAND, "registry", "serve", "--listen", f"127.0.0.1:{port}", "--storage", str(storage), *options]
    if log is None:
        command.append("-q")
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True)
    assert process.stdout is not None
    return process, int(process.stdout.readline().rstrip().rpartition(":")[2])


def end_server(process: subprocess.Popen[str], *, kill: bool = False) -> None:
    """Stop it gracefully or by SIGKILL."""
    (process.kill if kill else process.terminate)()
    status = process.wait(40)
    assert kill or status == 0
    assert process.stdout is not None
    process.stdout.close()


_NURSERY = """
import asyncio, os, signal, sys
from specrun.registry.gate import Open
from specrun.registry.server import Policy, Registry
from specrun.registry.serving import Listener
from specrun.registry.storage import Storage

async def serve(port):
    def ready(address):
        os.write(1, f"{os.getpid()} {address.rpartition(':')[2]}\\n".encode())
    await Listener(Registry(Storage(sys.argv[1]), Open(), Policy())).run("127.0.0.1", port, ready)

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    if os.fork() == 0:
        asyncio.run(serve(int(line)))
        os._exit(0)
"""


class Nursery:
    """Forks servers that have imported all they need, so that one can be killed and replaced many times a second."""

    def __init__(self, storage: Path) -> None:
        command = [sys.executable, "-c", _NURSERY, str(storage)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self.port = 0

    def start(self) -> None:
        """A server, on the port of the one before."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(f"{self.port}\n")
        self._process.stdin.flush()
        self.pid, self.port = map(int, self._process.stdout.readline().split())

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        os.kill(self.pid, signal.SIGKILL)
        while os.path.exists(f"/proc/{self.pid}"):
            time.sleep(0.001)

    def close(self) -> None:
        """End the last one too."""
        self.kill()
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        assert self._process.wait(30) == 0
        self._process.stdout.close()


def ask(
    port: int, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    """One request, sent as it is written."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def put_blob(port: int, name: str, data: bytes) -> tuple[int, bytes]:
    """In one request, or in two for a registry that wants it so."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", f"/v2/{name}/blobs/uploads/?digest={digest_of(data)}", data)
        answer = connection.getresponse()
        if answer.status == 202:
            answer.read()
            location = answer.getheader("Location") or ""
            joint = "&" if "?" in location else "?"
            connection.request("PUT", f"{location}{joint}digest={digest_of(data)}", data)
            answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


class Pusher:
    """Pushes to one repository until it is told to stop; cuts are borne."""

    def __init__(self, port: int, name: str, mark: str) -> None:
        self.port = port
        self.name = name
        self.mark = mark
        self.acknowledged: list[tuple[str, str, str]] = []
        """Tag, digest of the manifest, digest of its layer."""
        self.refusals: list[tuple[int, bytes]] = []

    def run(self, done: threading.Event) -> None:
        while not done.is_set():
            try:
                self.push(f"{self.mark}-{len(self.acknowledged)}")
            except (OSError, http.client.HTTPException):
                time.sleep(0.02)

    def push(self, tag: str) -> None:
        """Push one image."""
        layer, config = os.urandom(100_000), json.dumps({"tag": tag}).encode()
        for blob in (layer, config):
            status, answer = put_blob(self.port, self.name, blob)
            if status != 201:
                self.refusals.append((status, answer))
                return
        kind = "application/vnd.oci.image"
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": f"{kind}.config.v1+json", "digest": digest_of(config), "size": len(config)},
            "layers": [{"mediaType": f"{kind}.layer.v1.tar", "digest": digest_of(layer), "size": len(layer)}],
        }
        manifest = json.dumps(document).encode()
        path = f"/v2/{self.name}/manifests/{tag}"
        status, answer = ask(self.port, "PUT", path, manifest, {"Content-Type": MANIFEST})
        if status == 201:
            self.acknowledged.append((tag, digest_of(manifest), digest_of(layer)))
        else:
            self.refusals.append((status, answer))

    def lost(self) -> list[str]:
        """What was acknowledged and is not there, or is not what it was."""
        missing = []
        for tag, manifest, layer in self.acknowledged:
            found = ask(self.port, "GET", f"/v2/{self.name}/manifests/{tag}")
            blob = ask(self.port, "GET", f"/v2/{self.name}/blobs/{layer}")
            if (found[0], digest_of(found[1])) != (200, manifest) or (blob[0], digest_of(blob[1])) != (200, layer):
                missing.append(tag)
        return missing
