"""A registry with one image, whose answers a test can change: it cuts, stalls, redirects and lies."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import threading
from collections.abc import Callable

Change = Callable[[http.server.BaseHTTPRequestHandler], bool]
"""Answers a request in the place of the registry, or gives False."""


class Liar:
    """A registry with one image, whose answers a test can change."""

    def __init__(self, layer: bytes, diff_id: str) -> None:
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        }
        self.config = json.dumps(config).encode()
        self.blobs = {self.digest(data): data for data in (self.config, layer)}
        self.layer = self.digest(layer)
        descriptors = [
            {"mediaType": kind, "digest": self.digest(data), "size": len(data)}
            for kind, data in (
                ("application/vnd.oci.image.config.v1+json", self.config),
                ("application/vnd.oci.image.layer.v1.tar", layer),
            )
        ]
        document = {
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptors[0], "layers": descriptors[1:],
        }  # fmt: skip
        self.manifest = json.dumps(document).encode()
        self.sent = 0
        self.asked: list[tuple[str, str]] = []
        """Path and Range of each request."""
        self.authorizations: list[str] = []
        self.change: Change = lambda handler: False
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.asked.append((self.path, self.headers.get("Range", "")))
                outer.authorizations.append(self.headers.get("Authorization", ""))
                if outer.change(self):
                    return
                if "/manifests/" in self.path:
                    self.answer(outer.manifest, "application/vnd.oci.image.manifest.v1+json")
                else:
                    self.answer(outer.blobs[self.path.rpartition("/")[2]], "application/octet-stream")

            def answer(self, data: bytes, kind: str, status: int = 200) -> None:
                first = int((self.headers.get("Range") or "bytes=0-")[6:].rstrip("-"))
                self.send_response(206 if first else status)
                if first:
                    self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data) - first))
                self.end_headers()
                self.wfile.write(data[first:])
                outer.sent += len(data) - first

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.address = f"127.0.0.1:{self.server.server_port}"
        self.name = f"{self.address}/lies:v1"

    def close(self) -> None:
        """End it."""
        self.server.shutdown()
        self.server.server_close()

    @staticmethod
    def digest(data: bytes) -> str:
        return f"sha256:{hashlib.sha256(data).hexdigest()}"


def make_liar() -> Liar:
    """One whose image has a layer of 1 MiB of random bytes."""
    from specrun.store.tar import REGULAR, Entry, header

    content = os.urandom(1 << 20)
    entry = Entry("file", REGULAR)
    entry.mode, entry.size = 0o644, len(content)
    layer = header(entry) + content + bytes(1024)
    return Liar(layer, Liar.digest(layer))


def cut(liar: Liar, times: int) -> Change:
    """Break the connection in the middle of the layer, so often."""
    left = [times]

    def change(handler: http.server.BaseHTTPRequestHandler) -> bool:
        if liar.layer not in handler.path or left[0] == 0:
            return False
        left[0] -= 1
        data = liar.blobs[liar.layer]
        first = int((handler.headers.get("Range") or "bytes=0-")[6:].rstrip("-"))
        handler.send_response(206 if first else 200)
        if first:
            handler.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        handler.send_header("Content-Length", str(len(data) - first))
        handler.end_headers()
        part = data[first : first + (len(data) - first) // 2]
        handler.wfile.write(part)
        liar.sent += len(part)
        handler.close_connection = True
        return True

    return change


def altered(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])
