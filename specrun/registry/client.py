"""One registry as a client sees it: requests with retries by cause, redirects, TLS and authentication.

Credentials go to the registry itself and to the token server that it names over TLS or on loopback, and nowhere else.
"""

from __future__ import annotations

import glob
import ipaddress
import json
import os
import random
import re
import threading
import time
from urllib.parse import quote, urljoin, urlsplit

import urllib3

from specrun import __version__
from specrun.errors import SpecrunError
from specrun.registry import credentials

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    Body = Callable[[], Any] | None

ATTEMPTS = 5
MAX_REDIRECTS = 5
STALL = 30.0
"""Seconds without a byte after which a connection is given up."""
LONGEST_WAIT = 60.0
_NO_TLS = (urllib3.exceptions.SSLError, urllib3.exceptions.ProtocolError, urllib3.exceptions.NewConnectionError)
_HUB_HOST = "registry-1.docker.io"
_PARAMETER = re.compile(r'([a-zA-Z_]+)="([^"]*)"')


class RegistryError(SpecrunError):
    """The registry said no, or nothing that could be understood."""

    code = "registry"

    def __init__(self, message: str, *, status: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status


class Client:
    """Connections to the registry at `domain`; used by several threads."""

    def __init__(self, domain: str, *, verify: bool = True, plain: bool = False, attempts: int = ATTEMPTS) -> None:
        """`plain` is HTTP without TLS, because somebody has said so."""
        self.domain = domain
        self.attempts = attempts
        self.host = _HUB_HOST if domain == "docker.io" else domain
        self.loopback = _is_loopback(self.host)
        self.verify = verify
        self._schemes = ["http"] if plain else ["https", "http"] if self.loopback or not verify else ["https"]
        self._pool = urllib3.PoolManager(
            maxsize=8, retries=False, timeout=urllib3.Timeout(connect=10, read=STALL), **_tls(self.host, verify)
        )
        self._tokens: dict[str, str] = {}
        self._login: tuple[str, str] | None = None
        self._known_login = False
        self._lock = threading.Lock()

    def url(self, path: str) -> str:
        """The address of a path of the registry."""
        return f"{self._schemes[0]}://{self.host}{path}"

    def request(
        self,
        method: str,
        target: str,
        *,
        scope: str,
        headers: dict[str, str] | None = None,
        body: Callable[[], Any] | None = None,
        expected: Iterable[int] = (200,),
        stream: bool = False,
    ) -> urllib3.BaseHTTPResponse:
        """Ask; gives an answer with one of the `expected` statuses. `target` is a path or an address.

        `body` makes the body anew for each attempt. Raises RegistryError, after retries where they help.
        """
        wanted, failure = tuple(expected), ""
        for attempt in range(self.attempts):
            try:
                answer = self._once(method, target, scope, headers or {}, body, stream)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                failure = _reason(error)
                hopeless = (urllib3.exceptions.SSLError, urllib3.exceptions.NewConnectionError)
                if isinstance(error, hopeless) or attempt + 1 == self.attempts:
                    break
                _wait(attempt, "")
                continue
            if answer.status in wanted:
                return answer
            text = _read_error(answer)
            if answer.status not in (408, 429, 500, 502, 503, 504) or attempt + 1 == self.attempts:
                raise _refused(method, self.host, target, answer.status, text)
            failure = text
            _wait(attempt, answer.headers.get("Retry-After", ""))
        raise RegistryError(f"{self.host} cannot be reached: {failure}", hint=_reach_hint(failure))

    def _once(
        self, method: str, target: str, scope: str, headers: dict[str, str], body: Body, stream: bool
    ) -> urllib3.BaseHTTPResponse:
        answer = self._send(method, target, scope, headers, body, stream)
        if answer.status == 401:
            challenge = answer.headers.get("WWW-Authenticate", "")
            answer.drain_conn()
            if not self._authenticate(challenge, scope):
                raise RegistryError(f"{self.host} wants a login", status=401, hint=f"specrun login {self.domain}")
            answer = self._send(method, target, scope, headers, body, stream)
            if answer.status == 401:
                self._tokens.pop(scope, None)
        return answer

    def _send(
        self, method: str, target: str, scope: str, headers: dict[str, str], body: Body, stream: bool
    ) -> urllib3.BaseHTTPResponse:
        address = target if "://" in target else self.url(target)
        for _ in range(MAX_REDIRECTS + 1):
            sent = {"User-Agent": f"specrun/{__version__}", **headers}
            if self._is_ours(address) and (token := self._tokens.get(scope)):
                sent["Authorization"] = token
            try:
                answer = self._pool.request(
                    method, address, headers=sent, body=body() if body else None, redirect=False,
                    preload_content=not stream, decode_content=False,
                )  # fmt: skip
            except _NO_TLS:
                if not self._fall_back(address):
                    raise
                address = target if "://" in target else self.url(target)
                continue
            if answer.status not in (301, 302, 303, 307, 308) or "Location" not in answer.headers:
                return answer
            following = urljoin(address, answer.headers["Location"])
            answer.drain_conn()
            _check_redirect(address, following)
            address = following
        raise RegistryError(f"{self.host} redirects more than {MAX_REDIRECTS} times")

    def _fall_back(self, address: str) -> bool:
        """A registry on loopback, or one that needs no verification, may speak plain HTTP, as with Docker."""
        if self._schemes == ["https"] or not address.startswith(f"https://{self.host}/"):
            return False
        self._schemes = ["http"]  # several threads may find this out at once
        return True

    def _is_ours(self, address: str) -> bool:
        parts = urlsplit(address)
        return parts.netloc == self.host and parts.scheme == self._schemes[0]

    def login(self, user: str, password: str) -> None:
        """Use these from now on."""
        self._login, self._known_login = (user, password), True

    def _authenticate(self, challenge: str, scope: str) -> bool:
        """Answer a challenge; whether there is something new to try."""
        with self._lock:
            if not self._known_login:
                self._login, self._known_login = credentials.find(self.domain), True
            kind, _, rest = challenge.partition(" ")
            if kind.lower() == "basic":
                header = self._basic()
                if not header or self._tokens.get(scope) == header:
                    return False
                self._tokens[scope] = header
                return True
            if kind.lower() != "bearer":
                raise RegistryError(f"{self.host} wants an authentication that is not known: {kind[:40]!r}", status=401)
            parameters = dict(_PARAMETER.findall(rest))
            before = self._tokens.get(scope)
            self._tokens[scope] = f"Bearer {self._fetch_token(parameters, scope)}"
            return self._tokens[scope] != before

    def _basic(self) -> str:
        if not self._login:
            return ""
        return str(urllib3.make_headers(basic_auth=":".join(self._login))["authorization"])

    def _fetch_token(self, parameters: dict[str, str], scope: str) -> str:
        realm = parameters.get("realm", "")
        parts = urlsplit(realm)
        if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(parts.netloc)):
            raise RegistryError(f"{self.host} names a token server that is not safe: {realm[:200]!r}", status=401)
        query = [("service", parameters.get("service", "")), ("scope", scope or parameters.get("scope", ""))]
        address = realm + "?" + "&".join(f"{key}={quote(value, safe=':/,')}" for key, value in query if value)
        headers = {"User-Agent": f"specrun/{__version__}"}
        if self._login:
            headers["Authorization"] = self._basic()
        try:
            answer = self._pool.request("GET", address, headers=headers, redirect=False)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise RegistryError(f"the token server {parts.netloc} cannot be reached: {_reason(error)}") from error
        if answer.status != 200:
            hint = f"specrun login {self.domain}" if answer.status in (401, 403) else ""
            raise RegistryError(
                f"the token server {parts.netloc} refuses: status {answer.status}", status=401, hint=hint
            )
        try:
            document = json.loads(answer.data[: 1 << 20])
            token = document.get("token") or document.get("access_token")
        except (ValueError, AttributeError):
            token = None
        if not isinstance(token, str) or not token:
            raise RegistryError(f"the token server {parts.netloc} gave no token")
        return token


def _tls(host: str, verify: bool) -> dict[str, Any]:
    """As Docker's certs.d has it: certificates of authorities, and of clients."""
    if not verify:
        urllib3.disable_warnings()
        return {"cert_reqs": "CERT_NONE"}
    found: dict[str, Any] = {}
    for base in ("/etc/docker/certs.d", "/etc/specrun/certs.d"):
        folder = os.path.join(base, host)
        if authorities := sorted(glob.glob(f"{glob.escape(folder)}/*.crt")):
            found["ca_certs"] = authorities[0]
        for certificate in sorted(glob.glob(f"{glob.escape(folder)}/*.cert")):
            found["cert_file"], found["key_file"] = certificate, certificate.removesuffix(".cert") + ".key"
    return found


def _is_loopback(netloc: str) -> bool:
    host = netloc.rpartition(":")[0] if re.search(r":\d+$", netloc) else netloc
    host = host.strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_redirect(origin: str, target: str) -> None:
    before, after = urlsplit(origin), urlsplit(target)
    if after.scheme not in ("http", "https") or (before.scheme, after.scheme) == ("https", "http"):
        raise RegistryError(f"a redirect to {target[:200]!r} is not followed")
    try:
        address = ipaddress.ip_address((after.hostname or "").strip("[]"))
    except ValueError:
        return
    if address.is_link_local or (address.is_loopback and not _is_loopback(before.netloc)):
        raise RegistryError(f"a redirect to {target[:200]!r} is not followed")


def _wait(attempt: int, retry_after: str) -> None:
    delay = min(8.0, 0.25 * 2**attempt) * random.uniform(0.7, 1.3)
    if retry_after.isascii() and retry_after.isdigit():
        delay = min(float(retry_after), LONGEST_WAIT)
    time.sleep(delay)


def _reason(error: Exception) -> str:
    inner = getattr(error, "reason", None) or error
    text = str(inner).rpartition(": ")[2] or type(inner).__name__
    return text[:200]


def _reach_hint(failure: str) -> str:
    if "certificate" in failure.lower() or "CERTIFICATE" in failure:
        return "put its authority's certificate into /etc/docker/certs.d/HOST/ca.crt"
    return "is the name right, and is there a network?"


def _read_error(answer: urllib3.BaseHTTPResponse) -> str:
    try:
        errors = json.loads(answer.data[: 1 << 16] or b"{}").get("errors") or []
        facts = [one for one in errors if isinstance(one, dict)]
        parts = [f"{one.get('code', '')}: {one.get('message', '')}".strip(": ") for one in facts]
        return "; ".join(part[:200] for part in parts) or f"status {answer.status}"
    except (ValueError, AttributeError, urllib3.exceptions.HTTPError):
        return f"status {answer.status}"


def _refused(method: str, host: str, target: str, status: int, text: str) -> RegistryError:
    path = urlsplit(target).path if "://" in target else target.partition("?")[0]
    hint = {401: "log in with specrun login", 403: "this login may not do that"}.get(status, "")
    return RegistryError(f"{host} refuses {method} {path[:200]}: {text}", status=status, hint=hint)
