"""The server on the network: connections, bodies, files by sendfile(2), time limits, logs, and a graceful stop."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import socket
import ssl
import sys
import time

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from specrun.errors import SpecrunError
from specrun.registry.gate import Refusal
from specrun.registry.metrics import Metrics
from specrun.registry.protocol import ProtocolError
from specrun.registry.server import Asked, Reply
from specrun.registry.sockets import BACKLOG, listen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from typing import Any

    from aiohttp.abc import AbstractStreamWriter

    from specrun.registry.server import Registry

IDLE = 60.0
"""Seconds without a byte after which a body, or a connection that asks nothing, is given up."""
LEAST = 16 << 10
"""Bytes of a body that must come in IDLE seconds. What has come of an upload is kept, so that its client can go on."""
STOP = 30.0
"""Seconds that requests have to end after SIGTERM."""
FRESH = 5.0
"""Seconds that a connection which was taken just before a hand-over has to ask for something."""
LEFT = "takes no more connections"
"""What is said when another server has taken over."""


class Listener:
    """One registry on one address."""

    def __init__(
        self, registry: Registry, *, log: Callable[[str], None] | None = None, tls: ssl.SSLContext | None = None,
        idle: float = IDLE,
    ) -> None:  # fmt: skip
        self.registry = registry
        self.metrics = Metrics(registry)
        self.log = log
        self.tls = tls
        self.idle = idle
        self._web = web.Server(
            self._serve, access_log=None, logger=self._logger(), keepalive_timeout=idle, read_bufsize=1 << 18,
            max_line_size=8190, max_field_size=8190,
        )  # fmt: skip
        self._open: dict[Any, float | None] = {}
        """Connection -> when it last did something; None while it is being answered."""
        self._fresh: set[Any] = set()
        """Connections that have asked for nothing yet."""
        self._leaving = False

    def _logger(self) -> logging.Logger:
        """What aiohttp has to say: a line for a request that is none, and all of it for a fault of ours."""

        class Lines(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                error = record.exc_info[1] if record.exc_info else None
                if isinstance(error, HttpProcessingError):
                    say(f"not a request: {' '.join(error.message.split())[:300]}")
                else:
                    to_stderr(self.format(record))

        say = self._say
        logger = logging.Logger("specrun.registry", logging.WARNING)
        logger.addHandler(Lines())
        return logger

    async def run(
        self, host: str, port: int, ready: Callable[[str], None], left: Callable[[], None] = lambda: None, *,
        listening: list[socket.socket] | None = None,
    ) -> None:  # fmt: skip
        """Serve until SIGTERM or SIGINT, or until SIGUSR1 when another server has the sockets too.

        `ready` is told the address, `left` that no more connections are taken. Sockets that are `listening` already
        are used as they are. Raises SpecrunError when the address is taken.
        """
        loop = asyncio.get_running_loop()
        stop, end = asyncio.Event(), asyncio.Event()

        def halt() -> None:
            stop.set()
            end.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, halt)
        loop.add_signal_handler(signal.SIGUSR1, end.set)
        _allow_many_files()
        listening = listening or listen(host, port)
        servers = []
        for sock in listening:  # whoever reads nothing of an answer for so long is cut off
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(self.idle * 1000))
            servers.append(await loop.create_server(self._connection, sock=sock, ssl=self.tls, backlog=BACKLOG))
        address = listening[0].getsockname()
        scheme = "https" if self.tls else "http"
        ready(f"{scheme}://{f'[{address[0]}]' if ':' in address[0] else address[0]}:{address[1]}")
        guard = asyncio.ensure_future(self._close_silent())
        await end.wait()
        if not stop.is_set():
            for sock in listening:
                loop.remove_reader(sock.fileno())
            await asyncio.sleep(0.01)  # what was taken last becomes a connection
        for server in servers:
            server.close()
        self._leaving = True
        if not stop.is_set():
            self._close_idle()
            left()
            await self._finish(stop)
        self._fresh.clear()
        await self._answered(STOP)
        guard.cancel()
        await self._web.shutdown(0.0)
        for server in servers:
            await server.wait_closed()

    def _close_idle(self) -> None:
        """Close the connections that ask for nothing now, and have been answered.

        aiohttp's own way is to close them all, and to take no more of the bodies that are on their way.
        """
        for connection, last in self._open.items():
            if last is not None and connection.transport and connection not in self._fresh:
                connection.transport.close()

    async def _finish(self, stop: asyncio.Event) -> None:
        """Until what has begun is answered, however long that takes, or `stop`."""
        fresh = time.monotonic() + FRESH
        while not stop.is_set() and not await self._answered(0.1):
            if time.monotonic() > fresh:
                self._fresh.clear()
        await asyncio.to_thread(self.registry.storage.swept)  # the other server counts anew what there is

    async def _answered(self, seconds: float) -> bool:
        """Whether within so many seconds everybody is answered, and no connection left."""
        limit = time.monotonic() + seconds
        while self._fresh or any(connection.transport for connection in self._open):
            if time.monotonic() > limit:
                return False
            self._close_idle()
            await asyncio.sleep(0.02)
        return True

    def _connection(self) -> asyncio.Protocol:
        connection = self._web()
        self._open[connection] = time.monotonic()
        self._fresh.add(connection)
        return connection

    async def _close_silent(self) -> None:
        """Half a request is not waited for for ever."""
        while True:
            await asyncio.sleep(min(5.0, self.idle / 2))
            limit = time.monotonic() - self.idle
            for connection, last in list(self._open.items()):
                if connection.transport is None:
                    del self._open[connection]
                    self._fresh.discard(connection)
                elif last is not None and last < limit:
                    connection.transport.abort()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        self._open[request.protocol] = None
        self._fresh.discard(request.protocol)
        started = time.monotonic()
        received = [0]
        route, response = "other", web.StreamResponse()
        self.metrics.busy.inc()
        try:
            route, reply = await self._reply(request, received)
            response = _response(request, reply)
            response.headers["Server"] = "specrun"
            if self._leaving:
                response.force_close()
            await response.prepare(request)
            if reply.stream and request.method != "HEAD":
                await _send(request, response, reply.stream)
            await response.write_eof()
        except ConnectionError:  # nobody is there any more to be answered
            if request.transport:
                request.transport.abort()
        finally:
            self._open[request.protocol] = time.monotonic()
            self.metrics.busy.dec()
            self._note(request, response, route, received[0], time.monotonic() - started)
        return response

    async def _reply(self, request: web.BaseRequest, received: list[int]) -> tuple[str, Reply]:
        route = "other"
        try:
            body = self._body(request, received)
            asked = Asked(request.method, request.raw_path, request.headers, request.content_length, body)
            if asked.path == "/healthz":
                return "health", self._health()
            if asked.path == "/metrics":
                await self.registry.enter(asked, [])
                return "metrics", Reply(200, {"Content-Type": "text/plain; version=0.0.4"}, self.metrics.text())
            try:
                reply = await self.registry.answer(asked)
            finally:
                route = asked.route
            return route, reply
        except ProtocolError as error:
            return route, _refusal(error)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except TimeoutError:
            return route, Reply(408, {"Connection": "close"})
        except OSError as error:
            self._say(f"error: {request.method} {request.raw_path[:300]!r}: {error}")
            full = error.errno in (28, 122)
            text = "the registry's disk is full" if full else "the registry's storage failed"
            return route, _refusal(ProtocolError("UNAVAILABLE", text, status=507 if full else 503))
        except web.HTTPException:
            raise
        except web.RequestPayloadError as error:
            raise ConnectionResetError(str(error)) from error

    async def _body(self, request: web.BaseRequest, received: list[int]) -> AsyncIterator[bytes]:
        """The parts of a body as they come. Raises TimeoutError when it is slow, ConnectionError when it is cut."""
        if request.headers.get("Expect", "").lower() == "100-continue" and request.transport:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        least, limit = LEAST, time.monotonic() + self.idle
        try:
            while True:
                async with asyncio.timeout(self.idle):
                    part = await request.content.readany()
                if not part:
                    return
                received[0] += len(part)
                now = time.monotonic()
                if received[0] >= least:
                    least, limit = received[0] + LEAST, now + self.idle
                elif now > limit:
                    raise TimeoutError
                yield part
        except (web.RequestPayloadError, ConnectionError) as error:
            # What had come before the line broke is as good as the rest, though aiohttp no longer gives it.
            request.content.set_exception(None)  # type: ignore[arg-type]
            if part := request.content.read_nowait():
                received[0] += len(part)
                yield part
            raise ConnectionResetError(str(error)) from error

    def _health(self) -> Reply:
        """Whether the storage can be written to."""
        good = os.access(f"{self.registry.storage.folder}/repositories", os.R_OK | os.X_OK)
        return Reply(200 if good else 503, {"Content-Type": "text/plain"}, b"ok\n" if good else b"no storage\n")

    def _note(
        self, request: web.BaseRequest, response: web.StreamResponse, route: str, received: int, seconds: float
    ) -> None:
        sent = response.body_length if response.prepared else 0
        status = response.status if response.prepared else 499
        self.metrics.count(request.method, route, status, sent, received, seconds)
        if self.log:
            moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            path = request.raw_path[:500].encode("ascii", "backslashreplace").decode()
            agent = request.headers.get("User-Agent", "-")[:120].encode("ascii", "backslashreplace").decode()
            line = f"{moment} {request.remote or '-'} {request.method} {path} {status} {received} {sent} {seconds:.3f}s"
            self._say(f'{line} "{agent}"')

    def _say(self, line: str) -> None:
        if self.log:
            self.log(line)


class _File(web.FileResponse):
    """A file that is sent once: aiohttp prepares again what its handler returns."""

    sent = False

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send the file, the first time."""
        if self.sent:
            return None
        self.sent = True
        return await super().prepare(request)


def _refusal(error: ProtocolError) -> Reply:
    headers = {"Content-Type": "application/json"}
    if isinstance(error, Refusal):
        headers["WWW-Authenticate"] = error.challenge
    return Reply(error.status, headers, error.body())


async def _send(request: web.BaseRequest, response: web.StreamResponse, parts: AsyncIterator[bytes]) -> None:
    """Send what comes. What can't be had to its end is cut off, so that nobody takes it for whole."""
    try:
        async for part in parts:
            await response.write(part)
    except (OSError, ProtocolError) as error:
        if request.transport:
            request.transport.abort()
        raise ConnectionResetError(str(error)) from error


def _allow_many_files() -> None:
    """Each connection is a descriptor, and takes another for the file that it is sent."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _response(request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
    headers = {"Docker-Distribution-API-Version": "registry/2.0", "X-Content-Type-Options": "nosniff", **reply.headers}
    if reply.file:
        return _File(reply.file, headers=headers, chunk_size=1 << 18)
    if reply.stream:
        return web.StreamResponse(status=reply.status, headers=headers)
    return web.Response(status=reply.status, headers=headers, body=reply.body)


def tls_context(certificate: str, key: str, client_ca: str = "") -> ssl.SSLContext:
    """TLS 1.2 or newer with this certificate. Raises SpecrunError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
        if client_ca:
            context.load_verify_locations(client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        why = error.strerror or str(error)
        raise SpecrunError(f"cannot use the certificate {certificate} with the key {key}: {why}") from error
    return context


def to_stderr(line: str) -> None:
    """The access log of a server in the foreground."""
    try:
        os.write(sys.stderr.fileno(), f"{line}\n".encode())
    except OSError:
        pass
