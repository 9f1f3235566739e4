"""Who may do what on our server: users of an htpasswd file, or bearers of tokens that somebody trusted has signed."""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import time

from specrun.errors import SpecrunError
from specrun.registry.protocol import ProtocolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Protocol

    class Gate(Protocol):
        """Decides about each request."""

        def enter(self, headers: Mapping[str, str], wanted: list[tuple[str, str]]) -> str:
            """The user's name ("" for anybody) if all of `wanted`, pairs of repository and action, are allowed.

            Actions are pull, push, delete, and * of the repository "*" for the catalog. An empty list asks for a
            valid login only. May take long (bcrypt). Raises Refusal.
            """


class Refusal(ProtocolError):
    """Says how to log in."""

    def __init__(self, challenge: str, code: str = "UNAUTHORIZED") -> None:
        super().__init__(code)
        self.challenge = challenge


class Open:
    """Everybody may do everything that the server does at all."""

    def enter(self, headers: Mapping[str, str], wanted: list[tuple[str, str]]) -> str:
        """Nobody is refused."""
        return ""


class Htpasswd:
    """Basic authentication by a file as `htpasswd -B` writes it; a changed file is read again."""

    REMEMBERED = 300.0
    """Seconds that a right password is known for, because bcrypt is slow on purpose."""

    def __init__(self, path: str, realm: str = "specrun registry") -> None:
        self.path = path
        self.realm = realm
        self._stamp: tuple[int, int] | None = None
        self._users: dict[str, bytes] = {}
        self._key = os.urandom(32)
        self._known: dict[bytes, float] = {}
        self._read()

    def enter(self, headers: Mapping[str, str], wanted: list[tuple[str, str]]) -> str:
        """Any user of the file may do everything."""
        challenge = f'Basic realm="{self.realm}"'
        user, password = _basic(headers.get("Authorization", ""), challenge)
        self._read()
        mark = hmac.digest(self._key, user.encode() + b"\0" + password + self._users.get(user, b""), "sha256")
        if self._known.get(mark, 0.0) > time.monotonic():
            return user
        if not self._right(user, password):
            raise Refusal(challenge)
        if len(self._known) > 1000:
            self._known.clear()
        self._known[mark] = time.monotonic() + self.REMEMBERED
        return user

    def _right(self, user: str, password: bytes) -> bool:
        import bcrypt

        # An unknown user takes as long as a known one.
        stored = self._users.get(user, b"$2b$05$abcdefghijklmnopqrstuuGVSjXAXSw1sGPIFcs8ZMWmGQRvQ7vK2")
        try:
            return bcrypt.checkpw(password[:72], stored) and user in self._users
        except ValueError:
            return False

    def _read(self) -> None:
        try:
            status = os.stat(self.path)
            stamp = (status.st_mtime_ns, status.st_size)
            if stamp == self._stamp:
                return
            with open(self.path, encoding="utf-8") as file:
                lines = [line.strip() for line in file]
        except (OSError, UnicodeDecodeError) as error:
            if self._stamp:
                return  # being replaced: the old one stands
            why = getattr(error, "strerror", None) or str(error)
            hint = "`htpasswd -B -c FILE USER` writes such a file"
            raise SpecrunError(f"cannot read the password file {self.path}: {why}", hint=hint) from error
        self._users = _users(lines, self.path)
        self._stamp = stamp


def _users(lines: list[str], path: str) -> dict[str, bytes]:
    users = {}
    for number, line in enumerate(lines, 1):
        if not line or line.startswith("#"):
            continue
        user, colon, stored = line.partition(":")
        if not colon or not stored.startswith(("$2y$", "$2b$", "$2a$")):
            raise SpecrunError(
                f"{path}:{number}: expected user:hash with a bcrypt hash",
                hint="`htpasswd -B -c FILE USER` writes such a file",
            )
        users[user] = stored.encode()
    return users


def _basic(header: str, challenge: str) -> tuple[str, bytes]:
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        raise Refusal(challenge)
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        if not colon or b"\0" in password:
            raise Refusal(challenge)
        return user.decode(), password
    except (binascii.Error, UnicodeDecodeError, ValueError) as error:
        raise Refusal(challenge) from error


class Tokens:
    """Bearer tokens (JSON Web Tokens) that a token server signs, as distribution's token authentication has them."""

    ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "ES512", "EdDSA")

    def __init__(self, realm: str, service: str, issuer: str, key_file: str) -> None:
        self.realm = realm
        self.service = service
        self.issuer = issuer
        self.keys = _public_keys(key_file)

    def enter(self, headers: Mapping[str, str], wanted: list[tuple[str, str]]) -> str:
        """By what the token's `access` grants."""
        scheme, _, token = headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Refusal(self._challenge(wanted))
        claims = self._claims(token.strip(), wanted)
        granted = _granted(claims)
        for name, action in wanted:
            if action not in granted.get(name, ()) and "*" not in granted.get(name, ()):
                raise Refusal(self._challenge(wanted, 'error="insufficient_scope"'))
        return str(claims.get("sub", ""))

    def may(self, headers: Mapping[str, str], name: str, action: str) -> bool:
        """Whether one more thing is granted."""
        try:
            self.enter(headers, [(name, action)])
        except Refusal:
            return False
        return True

    def _claims(self, token: str, wanted: list[tuple[str, str]]) -> dict[str, Any]:
        import jwt

        for key in self.keys:
            try:
                claims: dict[str, Any] = jwt.decode(
                    token, key, algorithms=list(self.ALGORITHMS), audience=self.service, issuer=self.issuer,
                    leeway=60, options={"require": ["exp", "iss", "aud"]},
                )  # fmt: skip
                return claims
            except (jwt.InvalidTokenError, TypeError, ValueError):
                continue
        raise Refusal(self._challenge(wanted, 'error="invalid_token"'))

    def _challenge(self, wanted: list[tuple[str, str]], *more: str) -> str:
        scopes: dict[str, list[str]] = {}
        for name, action in wanted:
            scopes.setdefault(name, []).append(action)
        parts = [f'realm="{self.realm}"', f'service="{self.service}"']
        if scopes:
            text = " ".join(f"{_scope(name)}:{','.join(actions)}" for name, actions in scopes.items())
            parts.append(f'scope="{text}"')
        return "Bearer " + ",".join([*parts, *more])


def _scope(name: str) -> str:
    return "registry:catalog" if name == "*" else f"repository:{name}"


def _granted(claims: dict[str, Any]) -> dict[str, list[str]]:
    granted: dict[str, list[str]] = {}
    access = claims.get("access")
    for entry in access if isinstance(access, list) else []:
        if not isinstance(entry, dict) or not isinstance(entry.get("actions"), list):
            continue
        name = "*" if entry.get("type") == "registry" else str(entry.get("name"))
        granted.setdefault(name, []).extend(str(action) for action in entry["actions"])
    return granted


def _public_keys(path: str) -> list[Any]:
    """The keys of a PEM file of public keys or certificates. Raises SpecrunError."""
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from cryptography.x509 import load_pem_x509_certificates

    try:
        with open(path, "rb") as file:
            data = file.read(1 << 20)
        if b"BEGIN CERTIFICATE" in data:
            return [certificate.public_key() for certificate in load_pem_x509_certificates(data)]
        return [load_pem_public_key(data)]
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise SpecrunError(f"cannot read the keys of {path}: {why}", hint="expected PEM") from error
