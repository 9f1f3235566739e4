"""Answering a registry's challenges: a password for itself, or a token of the server that it names.

Passwords go to the registry, and to its token server if that is of the same host or domain, or was allowed by
name; over TLS, or where the registry itself is reached without. Tokens go to the registry only.
"""

from __future__ import annotations

import base64
import json
import threading
from urllib.parse import urlencode, urlsplit

from specrun.errors import SpecrunError
from specrun.registry import credentials
from specrun.registry.credentials import TOKEN_USER
from specrun.registry.headers import challenges
from specrun.registry.hosts import Endpoint, hostname, is_loopback

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Fetch = Callable[[str, str, dict[str, str], bytes | None], tuple[int, bytes]]
    """Method, address, headers, body -> status, body."""


_CLIENT = "specrun"
"""Who asks, in the words of OAuth 2."""


class RegistryError(SpecrunError):
    """The registry said no, or nothing that could be understood."""

    code = "registry"

    def __init__(self, message: str, *, status: int = 0, hint: str = "", after: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        """Of the answer; 0 when there was none."""
        self.after = after
        """The seconds that the registry wants to be left alone, if it has said so."""


class Authority:
    """Who we are at one endpoint; used by several threads."""

    def __init__(self, endpoint: Endpoint, fetch: Fetch) -> None:
        self.endpoint = endpoint
        self._fetch = fetch
        self._headers: dict[str, str] = {}
        self._login: tuple[str, str] | None = None
        self._looked = False
        self._lasting = False
        self._lock = threading.Lock()

    def login(self, user: str, password: str, *, lasting: bool = False) -> None:
        """Use these, and not what is stored; `lasting` asks for an identity token in the place of the password."""
        self._login, self._looked, self._lasting = (user, password), True, lasting

    @property
    def identity(self) -> str:
        """The identity token that we go by; "" for a password, or nobody."""
        return self._login[1] if self._login and self._login[0] == TOKEN_USER else ""

    def header(self, scope: str) -> str:
        """The Authorization for a scope; "" before it was asked for."""
        return self._headers.get(scope, "")

    def answer(self, challenge: str, scope: str, used: str) -> bool:
        """Answer a challenge to a request that went with the header `used`; whether there is something new to try.

        Raises RegistryError, and CredentialError of a helper.
        """
        with self._lock:
            if (other := self._headers.get(scope, "")) != used:
                return bool(other)  # another thread has answered meanwhile
            if not self._looked:
                self._login, self._looked = credentials.find(self.endpoint.domain), True
            known = dict(reversed(challenges(challenge)))
            if "bearer" in known:
                header = f"Bearer {self._token(known['bearer'], scope)}"
            elif "basic" in known:
                if self.identity:
                    message = f"{self.endpoint.host} wants a password, and there is only an identity token"
                    raise RegistryError(message, status=401, hint=f"specrun login -u USER {self.endpoint.domain}")
                header = _basic(self._login)
            else:
                names = ", ".join(known)[:80]
                raise RegistryError(
                    f"{self.endpoint.host} wants an authentication that is not known: {names or 'none'}", status=401
                )
            self._headers[scope] = header
            return header not in ("", used)

    def forget(self, scope: str) -> None:
        """What was answered is not taken."""
        self._headers.pop(scope, None)

    def _token(self, parameters: dict[str, str], scope: str) -> str:
        realm = parameters.get("realm", "")
        server = self._server(realm)
        service, scopes = parameters.get("service", ""), scope.split() or parameters.get("scope", "").split()
        headers: dict[str, str] = {}
        if self.identity:  # by the form of OAuth 2
            fields = {
                "grant_type": "refresh_token", "refresh_token": self.identity, "client_id": _CLIENT,
                "service": service, "scope": " ".join(scopes),
            }  # fmt: skip
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            status, data = self._fetch("POST", realm, headers, urlencode(fields).encode())
            return self._read(server, status, data)
        if self._login:
            headers["Authorization"] = _basic(self._login)
        pairs = [("service", service)] * bool(service) + [("scope", one) for one in scopes]
        if self._login and self._lasting:
            pairs += [("offline_token", "true"), ("client_id", _CLIENT)]
        query = urlencode(pairs, safe=":/,")
        joint = "&" if urlsplit(realm).query else "?"
        return self._read(server, *self._fetch("GET", f"{realm}{joint}{query}" if query else realm, headers, None))

    def _read(self, server: str, status: int, data: bytes) -> str:
        if status != 200:
            hint = f"specrun login {self.endpoint.domain}" if status in (400, 401, 403) else ""
            raise RegistryError(f"the token server {server} refuses: status {status}", status=401, hint=hint)
        try:
            document = json.loads(data)
            token = document.get("token") or document.get("access_token")
        except (ValueError, AttributeError, RecursionError):
            token = None
        if not isinstance(token, str) or not token or not (token.isascii() and token.isprintable()):
            raise RegistryError(f"the token server {server} gave no token", status=401)
        identity = document.get("refresh_token")
        wanted = self._lasting or self.identity
        if wanted and isinstance(identity, str) and identity and identity.isascii() and identity.isprintable():
            self._login, self._lasting = (TOKEN_USER, identity), False
        return token

    def _server(self, realm: str) -> str:
        """The host of a realm that may be asked, and told our password if we have one."""
        ours = self.endpoint
        try:
            parts = urlsplit(realm)
            host = parts.hostname or ""
        except ValueError:
            parts, host = urlsplit(""), ""
        plain = is_loopback(parts.netloc) or (parts.scheme == "http" and not ours.verify)
        if not host or (parts.scheme != "https" and not (parts.scheme == "http" and plain)):
            raise RegistryError(f"{ours.host} names a token server that is not safe: {realm[:200]!r}", status=401)
        if self._login and not self._may_know(parts.netloc, host):
            raise RegistryError(
                f"{ours.host} names the token server {parts.netloc[:200]}, which is of another domain: "
                "the password is not sent there",
                status=401,
                hint=f'allow it in registries.toml: [registry."{ours.domain}"] token-servers = ["{host[:200]}"]',
            )
        return parts.netloc

    def _may_know(self, netloc: str, host: str) -> bool:
        ours = hostname(self.endpoint.host)
        if host == ours or netloc in self.endpoint.token_servers or host in self.endpoint.token_servers:
            return True
        if is_loopback(netloc) and is_loopback(self.endpoint.host):
            return True
        parent = ours.split(".")[-2:]
        return len(parent) == 2 and not parent[1].isdigit() and host.split(".")[-2:] == parent


def _basic(login: tuple[str, str] | None) -> str:
    if not login:
        return ""
    return "Basic " + base64.b64encode(":".join(login).encode()).decode()
