"""HTTP/1.1 over connections that are kept: a request, an answer that is read as it comes, and what fails of both.

Nothing is followed, repeated or decoded here: that is up to who asks (specrun.registry.client).
"""

from __future__ import annotations

import http.client
import re
import select
import socket
import ssl
import threading
from urllib.parse import quote, urlsplit

from specrun.registry.proxies import proxy_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self
    from urllib.parse import SplitResult

    from specrun.registry.proxies import Proxy

_KEPT = 8
"""Connections to one place that wait for another request."""
_READABLE = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
"""What a request line may have besides letters and digits."""
_ORIGIN = re.compile(r"\[[A-Z0-9: _]+\] | \(_ssl\.c:[0-9]+\)")
"""What OpenSSL's words stand between."""
_FAILURES = (http.client.HTTPException, OSError, ValueError)
"""What http.client raises; ValueError for lengths that are no numbers."""


class TransportError(Exception):
    """There is no answer, or it has broken off; the text says why."""


class Unreachable(TransportError):
    """There is no connection."""


class Untrusted(TransportError):
    """There is no TLS, or none with the certificates that are wanted."""


class Silent(TransportError):
    """Nothing came for too long."""


class Headers:
    """Of an answer. What came several times is one text, with commas."""

    __slots__ = ("_values",)

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._values: dict[str, str] = {}
        for name, value in pairs:
            known = self._values.get(name.lower())
            self._values[name.lower()] = value if known is None else f"{known}, {value}"

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._values

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def get(self, name: str, default: str) -> str:
        """The value of a header, or the default."""
        return self._values.get(name.lower(), default)


class Connections:
    """To any number of places; used by several threads. `context` says what TLS has to be like."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._idle: dict[tuple[str, str], list[http.client.HTTPConnection]] = {}

    def __del__(self) -> None:
        for connections in self._idle.values():
            for connection in connections:
                connection.close()

    def ask(
        self, method: str, address: str, headers: dict[str, str], body: Iterable[bytes] | bytes | None = None, *,
        connect: float, read: float,
    ) -> Answer:  # fmt: skip
        """The answer to one request; who asks closes it. Raises TransportError.

        `connect` are the seconds that connecting, and sending a piece, may take, `read` those that nothing may come.
        """
        parts = urlsplit(address)
        place, target = (parts.scheme, parts.netloc), _target(parts)
        if parts.scheme == "http" and (proxy := _proxy_of(parts)):
            target, headers = f"http://{parts.netloc}{target}", {**headers, **proxy.headers}
        connection = self._take(place) or self._connect(parts, connect)
        whole = True
        try:
            connection.sock.settimeout(connect)
            try:
                connection.request(method, target, body, headers)
            except (BrokenPipeError, ConnectionResetError):
                whole = False  # it may have answered before it hung up
            connection.sock.settimeout(read)
            line = connection.sock
            return Answer(self, place, connection, connection.getresponse(), line, whole)
        except _FAILURES as error:
            connection.close()
            raise _translated(error) from error
        except BaseException:
            connection.close()
            raise

    def _take(self, place: tuple[str, str]) -> http.client.HTTPConnection | None:
        """One that is kept and that the other end has not closed."""
        while True:
            with self._lock:
                if not (idle := self._idle.get(place)):
                    return None
                connection = idle.pop()
            if connection.sock is not None and not _has_news(connection.sock):
                return connection
            connection.close()

    def _connect(self, parts: SplitResult, seconds: float) -> http.client.HTTPConnection:
        return _connected(parts, seconds, self._context if parts.scheme == "https" else None)

    def put_back(self, place: tuple[str, str], connection: http.client.HTTPConnection) -> None:
        """Keep a connection for the next request."""
        with self._lock:
            idle = self._idle.setdefault(place, [])
            if connection.sock is not None and len(idle) < _KEPT:
                idle.append(connection)
                return
        connection.close()


class Answer:
    """Status, headers, and the body as it comes. Use as a context, or close it."""

    def __init__(
        self, connections: Connections, place: tuple[str, str], connection: http.client.HTTPConnection,
        response: http.client.HTTPResponse, line: socket.socket, whole: bool,
    ) -> None:  # fmt: skip
        self.status = response.status
        self.headers = Headers(response.getheaders())
        self._connections = connections
        self._place = place
        self._connection = connection
        self._response = response
        self._line = line
        self._whole = whole
        """Whether all was sent that was to be."""
        self._left = -1 if response.length is None else response.length
        """Bytes that are to come; -1 where that is not told."""
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, most: int) -> bytes:
        """So many bytes, or fewer at the end. Raises TransportError."""
        parts, come = [], 0
        while come < most and (part := self.read1(most - come)):
            parts.append(part)
            come += len(part)
        return b"".join(parts)

    def read1(self, most: int) -> bytes:
        """What is there, once something is; b"" at the end. Raises TransportError, at an end before its time too."""
        try:
            data = self._response.read1(most)
            if not data and self._left <= 0:
                self._response.read(most)  # there is nothing more: now it is known to be read
        except _FAILURES as error:
            raise _translated(error) from error
        if self._left > 0:
            self._left -= len(data)
            if not data:
                raise TransportError(f"an answer ended {self._left} bytes early")
        return data

    def cut(self) -> None:
        """End it from another thread: who waits for the next byte waits no longer."""
        try:
            self._line.shutdown(socket.SHUT_RDWR)
        except (OSError, ValueError):
            pass  # it has ended meanwhile

    def close(self) -> None:
        """Be done with it; the connection is kept if all was read."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._left == 0:
                self.read1(1)
            whole = self._whole and self._response.isclosed()
        except TransportError:
            whole = False
        self._response.close()
        if whole:
            self._connections.put_back(self._place, self._connection)
        else:
            self._connection.close()


def speaks_tls(netloc: str, context: ssl.SSLContext, seconds: float) -> bool:
    """Whether there is TLS at a place. Nothing is sent through it, so that `context` need not verify. Raises
    TransportError where nothing is.
    """
    parts = urlsplit(f"https://{netloc}")
    connection = _connected(parts, seconds, None)
    try:
        context.wrap_socket(connection.sock, server_hostname=parts.hostname).close()
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")  # of one who speaks TLS, and wants it otherwise
    except ConnectionResetError:
        return False
    except _FAILURES as error:
        raise _unreachable(error) from error
    finally:
        connection.close()
    return True


def _connected(parts: SplitResult, seconds: float, context: ssl.SSLContext | None) -> http.client.HTTPConnection:
    """A connection to a place, by a proxy where there is one; with TLS inside where there is a `context`."""
    proxy, host = _proxy_of(parts), parts.hostname or ""
    port = parts.port or _PORTS[parts.scheme]
    where = (host, port) if proxy is None else (proxy.host, proxy.port)
    connection: http.client.HTTPConnection
    if context is None:
        connection = http.client.HTTPConnection(*where, timeout=seconds)
    else:
        connection = http.client.HTTPSConnection(*where, timeout=seconds, context=context)
    if proxy and parts.scheme == "https":
        connection.set_tunnel(host, port, proxy.headers)
    try:
        connection.connect()
    except _FAILURES as error:
        connection.close()
        failure = _unreachable(error)
        raise type(failure)(f"by the proxy {proxy}: {failure}") if proxy else failure from error
    return connection


_PORTS = {"http": 80, "https": 443}


def _proxy_of(parts: SplitResult) -> Proxy | None:
    return proxy_for(parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme])


def _target(parts: SplitResult) -> str:
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return target if target.isascii() else quote(target, safe=_READABLE)


def _has_news(line: socket.socket) -> bool:
    """Something came though nothing was asked: the end, or what nobody can understand."""
    poll = select.poll()
    poll.register(line, select.POLLIN)
    return bool(poll.poll(0))


def _unreachable(error: Exception) -> TransportError:
    if isinstance(error, TimeoutError):
        return Unreachable("there is no answer")
    translated = _translated(error)
    return translated if isinstance(error, (ssl.SSLError, ConnectionResetError)) else Unreachable(str(translated))


def _translated(error: Exception) -> TransportError:
    if isinstance(error, TimeoutError):
        return Silent("nothing came for too long")
    if isinstance(error, ssl.SSLError):
        return Untrusted(_ORIGIN.sub("", str(error.args[-1] if error.args else error)))
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return TransportError(text or type(error).__name__)
