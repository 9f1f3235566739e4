"""Requests to one registry: retries by cause, redirects, TLS and authentication.

Credentials go to the registry itself and to its token server (specrun.registry.auth), and nowhere else.
"""

from __future__ import annotations

import ipaddress
import json
import random
import threading
import time
from urllib.parse import urlsplit

from specrun import __version__
from specrun.registry.auth import Authority, RegistryError
from specrun.registry.headers import address as absolute
from specrun.registry.headers import retry_after
from specrun.registry.hosts import Endpoint, is_loopback, origin, tls_context
from specrun.registry.transport import Answer, Connections, Silent, TransportError, Unreachable, Untrusted, speaks_tls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Body = Callable[[], Iterable[bytes] | bytes] | None

__all__ = ["ATTEMPTS", "Client", "RegistryError", "reason", "wait"]

ATTEMPTS = 5
MAX_REDIRECTS = 5
MOST_STALLS = 3
"""How many times in a row it is borne that nothing comes."""
SETTLING = 300.0
"""Seconds that a registry may think about what it was sent: some copy a whole blob then."""
LONGEST_WAIT = 60.0
"""Seconds; a registry that asks for a longer pause is not waited for."""
PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Statuses that another try may help against."""
MAX_ERROR = 1 << 16
MAX_TOKEN = 1 << 20
_AGENT = {"User-Agent": f"specrun/{__version__}"}


class Client:
    """Connections to the registry at `domain`, or to a mirror; used by several threads."""

    def __init__(
        self, domain: str, *, verify: bool = True, plain: bool = False, attempts: int = ATTEMPTS,
        endpoint: Endpoint | None = None,
    ) -> None:  # fmt: skip
        """`plain` is HTTP without TLS, because somebody has said so."""
        self.endpoint = endpoint or origin(domain, verify=verify)
        if plain:
            self.endpoint.schemes = ["http"]
        self.domain = domain
        self.host = self.endpoint.host
        self.attempts = attempts
        self.notify: Callable[[float], None] = lambda seconds: None
        """Told of the seconds that it waits before another try."""
        self._schemes = list(self.endpoint.schemes)
        self._answered = False
        self._authority = Authority(self.endpoint, self._fetch)
        self._connections: dict[tuple[str, bool], Connections] = {}
        self._lock = threading.Lock()

    def url(self, path: str) -> str:
        """The address of a path of the registry."""
        return f"{self._schemes[0]}://{self.host}{path}"

    def login(self, user: str, password: str, *, lasting: bool = False) -> None:
        """Use these from now on; `lasting` asks the token server for an identity token, to be kept for a password."""
        self._authority.login(user, password, lasting=lasting)

    @property
    def identity(self) -> str:
        """The identity token that the token server has given; "" where it gives none."""
        return self._authority.identity

    def request(
        self,
        method: str,
        target: str,
        *,
        scope: str,
        headers: dict[str, str] | None = None,
        body: Body = None,
        expected: Iterable[int] = (200,),
        stream: bool = False,
        attempts: int = 0,
    ) -> Answer:
        """Ask; gives an answer with one of the `expected` statuses. `target` is a path or an address.

        `body` makes the body anew for each attempt. The body of the answer is there only with `stream`, and the
        caller closes it then. Raises RegistryError, after retries where they help.
        """
        wanted, failure, most = tuple(expected), "", attempts or self.attempts
        stalls = 0
        for attempt in range(most):
            last = attempt + 1 == most
            try:
                answer = self._once(method, target, scope, headers or {}, body)
            except (TransportError, OSError) as error:
                failure = reason(error)
                stalls += isinstance(error, Silent)
                if last or stalls == MOST_STALLS or self._is_hopeless(error):
                    break
                wait(attempt, self.notify)
                continue
            self._answered = True
            if answer.status in wanted:
                if not stream:
                    _drop(answer)
                return answer
            text = _read_error(answer)
            pause = retry_after(answer.headers.get("Retry-After", ""), time.time())
            if answer.status not in PASSING or (last and (pause is None or pause <= LONGEST_WAIT)):
                raise self._refused(method, target, scope, answer.status, text, pause)
            if pause is not None and pause > LONGEST_WAIT:
                message = f"{self.host} is not ready, and asks to be left alone for {pause:.0f} seconds: {text}"
                raise RegistryError(message, status=answer.status, hint="try again later")
            failure = text
            wait(attempt, self.notify, pause)
        raise RegistryError(f"{self.host} cannot be reached: {failure}", hint=_reach_hint(failure))

    def document(
        self, target: str, *, scope: str, most: int, headers: dict[str, str] | None = None
    ) -> tuple[bytes, Answer]:
        """The body of an answer, of which no more than `most` bytes and one are read, and the answer.

        Raises RegistryError, after retries where they help.
        """
        for attempt in range(self.attempts):
            answer = self.request("GET", target, scope=scope, headers=headers, stream=True)
            try:
                with answer:
                    return answer.read(most + 1), answer
            except (TransportError, OSError) as error:
                failure = reason(error)
            wait(attempt, self.notify)
        raise RegistryError(f"{self.host} cannot be reached: {failure}", hint=_reach_hint(failure))

    def _is_hopeless(self, error: Exception) -> bool:
        """A name or a port that never answered is a mistake rather than a registry that starts again."""
        return isinstance(error, Untrusted) or (isinstance(error, Unreachable) and not self._answered)

    def _refused(
        self, method: str, target: str, scope: str, status: int, text: str, after: float | None
    ) -> RegistryError:
        path = urlsplit(target).path if "://" in target else target.partition("?")[0]
        message = f"{self.host} refuses {method} {path[:200]}: {text}"
        hint = "may this login do that?" if status == 403 and self._authority.header(scope) else ""
        if status == 401:  # what was asked for without a login was asked for again with one
            message, hint = f"{self.host} does not take this login: {text}", f"specrun login {self.domain}"
        return RegistryError(message, status=status, hint=hint, after=after)

    def _once(self, method: str, target: str, scope: str, headers: dict[str, str], body: Body) -> Answer:
        used = self._authority.header(scope)
        answer, ours = self._send(method, target, headers, body, used)
        if answer.status == 401 and ours:  # the challenge of another host is none of our registry
            challenge = answer.headers.get("WWW-Authenticate", "")
            _drop(answer)
            if not self._authority.answer(challenge, scope, used):
                raise RegistryError(f"{self.host} wants a login", status=401, hint=f"specrun login {self.domain}")
            answer, ours = self._send(method, target, headers, body, self._authority.header(scope))
            if answer.status == 401 and ours:
                self._authority.forget(scope)
        return answer

    def _send(
        self, method: str, target: str, headers: dict[str, str], body: Body, authorization: str
    ) -> tuple[Answer, bool]:
        """The answer after redirects, and whether it is the registry's own."""
        self._agree()
        address = target if "://" in target else self.url(target)
        for _ in range(MAX_REDIRECTS + 1):
            ours = self._is_ours(address)
            sent = {**_AGENT, **headers}
            if ours and authorization:
                sent["Authorization"] = authorization
            connect, read = self._patience(body is not None)
            answer = self._connections_to(address, ours).ask(
                method, address, sent, body() if body else None, connect=connect, read=read
            )
            if answer.status not in (301, 302, 303, 307, 308) or "Location" not in answer.headers:
                return answer, ours
            following = absolute(address, answer.headers["Location"])
            _drop(answer)
            _check_redirect(address, following, answer.headers["Location"])
            if answer.status == 303 and method != "HEAD":
                method, body = "GET", None
            address = following
        raise RegistryError(f"{self.host} redirects more than {MAX_REDIRECTS} times")

    def _patience(self, sends: bool) -> tuple[float, float]:
        """Seconds for connecting, and for each piece that is sent; and those without anything that comes."""
        stall = self.endpoint.stall
        return (stall, max(stall, SETTLING)) if sends else (min(10, stall), stall)

    def _agree(self) -> None:
        """Find out once whether an endpoint that may do without TLS has it; what has it is never asked without."""
        with self._lock:
            if len(self._schemes) == 1:
                return
            try:
                context = tls_context(self.host, verify=False, client=True)
                secure = speaks_tls(self.host, context, self._patience(False)[0])
            except Unreachable:
                if urlsplit(f"//{self.host}").port:
                    raise
                secure = False  # HTTP has a port of its own
            self._schemes = ["https" if secure else "http"]

    def _is_ours(self, address: str) -> bool:
        parts = urlsplit(address)
        return parts.netloc == self.host and parts.scheme == self._schemes[0]

    def _connections_to(self, address: str, ours: bool) -> Connections:
        """Those for an address; a certificate of ours is shown to the registry only."""
        scheme = address.partition("://")[0]
        with self._lock:
            if (scheme, ours) not in self._connections:
                verify = self.endpoint.verify
                context = tls_context(self.host, verify=verify, client=ours) if scheme == "https" else None
                self._connections[scheme, ours] = Connections(context)
            return self._connections[scheme, ours]

    def _fetch(self, method: str, address: str, headers: dict[str, str], body: bytes | None) -> tuple[int, bytes]:
        """One question to a token server, with retries; a redirect is an answer like any other."""
        server = urlsplit(address).netloc
        connections = self._connections_to(address, server == self.host)
        connect, read = self._patience(False)
        for attempt in range(self.attempts):
            last = attempt + 1 == self.attempts
            try:
                with connections.ask(
                    method, address, {**_AGENT, **headers}, body, connect=connect, read=read
                ) as answer:
                    data = answer.read(MAX_TOKEN)
            except (TransportError, OSError) as error:
                if last or isinstance(error, Untrusted):
                    message = f"the token server {server} cannot be reached: {reason(error)}"
                    raise RegistryError(message, hint=_reach_hint(reason(error))) from error
                wait(attempt, self.notify)
                continue
            if answer.status not in PASSING or last:
                break
            pause = retry_after(answer.headers.get("Retry-After", ""), time.time())
            wait(attempt, self.notify, pause and min(pause, LONGEST_WAIT))
        return answer.status, data


def _check_redirect(origin: str, target: str, written: str) -> None:
    before, after = urlsplit(origin), urlsplit(target)
    refused = not target or (before.scheme, after.scheme) == ("https", "http")
    try:
        address = ipaddress.ip_address((after.hostname or "").strip("[]"))
    except ValueError:
        inside = is_loopback(after.netloc)
    else:
        refused = refused or address.is_link_local
        inside = address.is_loopback
    if refused or (inside and not is_loopback(before.netloc)):
        raise RegistryError(f"{before.netloc} redirects to {written[:200]!r}, which is not followed")


def wait(attempt: int, notify: Callable[[float], None], pause: float | None = None) -> None:
    """Sleep before the attempt that follows the given one (from 0), as long as the registry asks for, if it does."""
    delay = min(8.0, 0.25 * 2**attempt) * random.uniform(0.7, 1.3) if pause is None else pause
    if delay >= 1:
        notify(delay)
    time.sleep(delay)


def reason(error: Exception) -> str:
    """What went wrong, in a few words."""
    return _printable(str(getattr(error, "strerror", None) or error or type(error).__name__)[:200])


def _reach_hint(failure: str) -> str:
    if "certificate" in failure.lower():
        return "put its authority's certificate into /etc/docker/certs.d/HOST/ca.crt, or use --tls-verify=false"
    return "is the name right, and is there a network?"


def _drop(answer: Answer) -> None:
    """Be done with an answer: a short rest is read, so that the connection can be used again."""
    try:
        answer.read(MAX_ERROR)
    except (TransportError, OSError):
        pass
    answer.close()


def _read_error(answer: Answer) -> str:
    try:
        data = answer.read(MAX_ERROR)
        answer.close()
        errors = json.loads(data or b"{}").get("errors") or []
        facts = [one for one in errors if isinstance(one, dict)]
        parts = [f"{one.get('code', '')}: {one.get('message', '')}".strip(": ") for one in facts]
        return "; ".join(_printable(part[:200]) for part in parts[:5]) or f"status {answer.status}"
    except (ValueError, AttributeError, TypeError, RecursionError, TransportError, OSError):
        return f"status {answer.status}"


def _printable(text: str) -> str:
    """A stranger's words may not move the cursor."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
