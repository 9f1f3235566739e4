"""An HTTP proxy that wants a password, and knows hosts that nobody else does."""

from __future__ import annotations

import base64
import http.client
import http.server
import select
import socket
import threading
from urllib.parse import urlsplit

USER, PASSWORD = "clerk", "p:s w%d"


class Proxy(http.server.ThreadingHTTPServer):
    """Takes CONNECT, and requests whose target is an address; `hosts` says what names are there."""

    daemon_threads = True

    def __init__(self, hosts: dict[str, str]) -> None:
        self.hosts = hosts
        self.asked: list[str] = []
        """Method and target of each request that it has let through."""
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """With the password, as HTTP_PROXY has it."""
        return f"http://{USER}:p%3As%20w%25d@127.0.0.1:{self.server_port}"

    def close(self) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: object) -> None:
        pass  # somebody hangs up


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def _is_let_in(self) -> bool:
        wanted = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.headers.get("Proxy-Authorization") == f"Basic {wanted}":
            self.server.asked.append(f"{self.command} {self.path}")
            return True
        self.close_connection = True
        self.send_response(407)
        self.send_header("Proxy-Authenticate", "Basic")
        self.send_header("Content-Length", "0")
        self.end_headers()
        return False

    def do_CONNECT(self) -> None:
        if not self._is_let_in():
            return
        host, _, port = self.path.rpartition(":")
        self.close_connection = True
        with socket.create_connection((self.server.hosts[host], int(port)), 10) as line:
            self.send_response(200)
            self.end_headers()
            ends = {self.connection: line, line: self.connection}
            while True:
                for end in select.select(list(ends), [], [])[0]:
                    data = end.recv(65536)
                    if not data:
                        return
                    ends[end].sendall(data)

    def _pass_on(self) -> None:
        if not self._is_let_in():
            return
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        line = http.client.HTTPConnection(self.server.hosts[parts.hostname or ""], parts.port or 80, timeout=10)
        kept = {name: value for name, value in self.headers.items() if not name.lower().startswith("proxy-")}
        line.request(self.command, parts.path + (f"?{parts.query}" if parts.query else ""), body or None, kept)
        answer = line.getresponse()
        data = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "content-length", "date", "server"):
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(data))
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        self.wfile.write(data)
        line.close()

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = _pass_on

    def log_message(self, *_: object) -> None:
        pass
