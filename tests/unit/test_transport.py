"""Connections to registries: kept when all was read, made anew when the other end has gone."""

from __future__ import annotations

import http.server
import select
import threading
from collections.abc import Iterator

import pytest

from specrun.registry.transport import Answer, Connections, TransportError, Unreachable

BODY = bytes(range(256)) * 4096


class Server(http.server.ThreadingHTTPServer):
    """Answers BODY, by the way that the path tells."""

    daemon_threads = True

    def __init__(self) -> None:
        self.lines = 0
        super().__init__(("127.0.0.1", 0), _Handler)

    def process_request(self, *arguments: object) -> None:
        self.lines += 1
        super().process_request(*arguments)  # type: ignore[arg-type]

    def handle_error(self, *_: object) -> None:
        pass  # somebody hangs up


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        if self.path == "/chunked":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for at in range(0, len(BODY), 1000):
                part = BODY[at : at + 1000]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.write(b"0\r\n\r\n")
            return
        self.send_header("Content-Length", str(len(BODY)))
        self.send_header("WWW-Authenticate", "Basic")
        self.send_header("WWW-Authenticate", 'Bearer realm="x"')
        self.end_headers()
        self.wfile.write(BODY[: 1000 if self.path == "/cut" else None])
        self.close_connection = self.path in ("/cut", "/gone")

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def ask(server: Server, connections: Connections, path: str, method: str = "GET") -> Answer:
    address = f"http://127.0.0.1:{server.server_port}{path}"
    return connections.ask(method, address, {}, connect=10, read=10)


def test_a_connection_is_kept_when_all_was_read(server: Server) -> None:
    connections = Connections()
    for path in ("/", "/chunked", "/", "/chunked"):
        with ask(server, connections, path) as answer:
            assert answer.read(2 * len(BODY)) == BODY and answer.read(1) == b""
    with ask(server, connections, "/") as answer:
        assert answer.read(len(BODY)) == BODY  # without having seen the end
    ask(server, connections, "/", "HEAD").close()
    with ask(server, connections, "/chunked") as answer:
        assert b"".join(iter(lambda: answer.read1(777), b"")) == BODY
    assert server.lines == 1


def test_who_does_not_read_all_pays_with_the_connection(server: Server) -> None:
    connections = Connections()
    with ask(server, connections, "/") as answer:
        assert answer.read(100) == BODY[:100]
    with ask(server, connections, "/") as answer:
        assert answer.read(2 * len(BODY)) == BODY
    assert server.lines == 2


def test_a_connection_that_was_closed_meanwhile_is_not_used(server: Server) -> None:
    connections = Connections()
    with ask(server, connections, "/gone") as answer:
        assert answer.read(2 * len(BODY)) == BODY
    (kept,) = (one for idle in connections._idle.values() for one in idle)
    assert select.select([kept.sock], [], [], 30)[0]  # the end has come
    with ask(server, connections, "/") as answer:
        assert answer.read(2 * len(BODY)) == BODY
    assert server.lines == 2


def test_an_end_before_its_time_is_an_error(server: Server) -> None:
    with ask(server, Connections(), "/cut") as answer, pytest.raises(TransportError, match="bytes early"):
        answer.read(2 * len(BODY))


def test_headers_that_come_twice_are_one(server: Server) -> None:
    with ask(server, Connections(), "/") as answer:
        assert answer.headers["www-authenticate"] == 'Basic, Bearer realm="x"'
        assert "Www-Authenticate" in answer.headers and answer.headers.get("Location", "none") == "none"


def test_nobody_is_there(server: Server) -> None:
    with pytest.raises(Unreachable, match="Connection refused"):
        Connections().ask("GET", "http://127.0.0.1:1/", {}, connect=10, read=10)
    with pytest.raises(Unreachable, match="not known|name resolution"):
        Connections().ask("GET", "http://nosuch.invalid/", {}, connect=10, read=10)
