"""Who we are at a registry: `config.json` of Docker's command line, with its helpers (docker login)."""

from __future__ import annotations

import base64
import binascii
import json
import os

from specrun.errors import SpecrunError
from specrun.files import locked, write_atomic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TOKEN_USER = "<token>"
"""The user name under which credential helpers keep an identity token."""
HUB = "https://index.docker.io/v1/"
"""What Docker's file calls the hub."""


class CredentialError(SpecrunError):
    """The file, or a helper, cannot be used. Never carries a secret."""

    code = "credentials"


def path() -> str:
    """`$DOCKER_CONFIG/config.json`, else ~/.docker/config.json."""
    folder = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    return f"{folder}/config.json"


def find(domain: str) -> tuple[str, str] | None:
    """User and password for a registry, TOKEN_USER and an identity token, or None. Raises CredentialError."""
    document = _load()
    key = HUB if domain == "docker.io" else domain
    helper = (document.get("credHelpers") or {}).get(domain) or document.get("credsStore")
    if helper:
        return _ask(str(helper), key)
    return next((_decode(document["auths"][name]) for name in _names(document, domain)), None)


def _names(document: dict[str, Any], domain: str) -> list[str]:
    """Those under which the file has something of a registry: with or without a scheme, as somebody has written it."""
    same = (domain, HUB[8:].rstrip("/") if domain == "docker.io" else domain)
    known = document.get("auths") or {}
    return [name for name in known if name.removeprefix("https://").removeprefix("http://").rstrip("/") in same]


def store(domain: str, user: str, password: str, identity: str = "") -> None:
    """Keep them, by the helper if one is configured, else in the file, which only its owner can read.

    With an identity token that is kept, and no password.
    """
    key = HUB if domain == "docker.io" else domain
    with _editing() as document:
        helper = (document.get("credHelpers") or {}).get(domain) or document.get("credsStore")
        if helper:
            login = {"Username": TOKEN_USER, "Secret": identity} if identity else {"Username": user, "Secret": password}
            _run(str(helper), "store", json.dumps({"ServerURL": key, **login}))
            document.setdefault("auths", {})[key] = {}
            return
        for name in _names(document, domain):
            del document["auths"][name]
        encoded = base64.b64encode(f"{user}:{'' if identity else password}".encode()).decode()
        token = {"identitytoken": identity} if identity else {}
        document.setdefault("auths", {})[key] = {"auth": encoded, **token}


def renew(domain: str, identity: str) -> None:
    """Keep this identity token in the place of the password, or of the identity token, that is kept."""
    with _editing() as document:
        helper = (document.get("credHelpers") or {}).get(domain) or document.get("credsStore")
        names = _names(document, domain)
        if helper:
            key = HUB if domain == "docker.io" else domain
            _run(str(helper), "store", json.dumps({"ServerURL": key, "Username": TOKEN_USER, "Secret": identity}))
        elif names:
            entry = document["auths"][names[0]]
            user = base64.b64decode(entry.get("auth") or "").partition(b":")[0]
            entry |= {"auth": base64.b64encode(user + b":").decode(), "identitytoken": identity}


def erase(domain: str) -> bool:
    """Forget them; whether there were any."""
    key = HUB if domain == "docker.io" else domain
    with _editing() as document:
        helper = (document.get("credHelpers") or {}).get(domain) or document.get("credsStore")
        if helper:
            _run(str(helper), "erase", key)
        names = _names(document, domain)
        for name in names:
            del document["auths"][name]
        return bool(names)


class _editing:
    """The document for a change, written back whole at the end, one editor at a time."""

    def __init__(self) -> None:
        os.makedirs(os.path.dirname(path()), mode=0o700, exist_ok=True)
        self._lock = locked(f"{path()}.lock")

    def __enter__(self) -> dict[str, Any]:
        self._lock.__enter__()
        self._document = _load()
        return self._document

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            write_atomic(path(), (json.dumps(self._document, indent="\t") + "\n").encode(), mode=0o600)
        self._lock.__exit__(None, None, None)


def _load() -> dict[str, Any]:
    try:
        with open(path(), encoding="utf-8") as file:
            document = json.load(file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        message = f"cannot read {path()}: {type(error).__name__}"
        raise CredentialError(message, hint="is it Docker's config.json?") from None
    if not isinstance(document, dict):
        raise CredentialError(f"{path()} is not a JSON object")
    return document


def _decode(entry: Any) -> tuple[str, str] | None:
    entry = entry if isinstance(entry, dict) else {}
    if token := entry.get("identitytoken"):
        return TOKEN_USER, str(token)
    text = entry.get("auth")
    if not text:
        return None
    try:
        user, colon, password = base64.b64decode(text, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise CredentialError(f"an entry of {path()} is damaged", hint="log in again") from None
    return (user, password.rstrip("\0")) if colon else None


def _ask(helper: str, key: str) -> tuple[str, str] | None:
    text = _run(helper, "get", key)
    try:
        found = json.loads(text) if text else {}
        if not isinstance(found, dict):
            raise ValueError(text[:0])
    except ValueError:
        raise CredentialError(f"docker-credential-{helper} gave no JSON") from None
    user, secret = found.get("Username"), found.get("Secret")
    return (str(user), str(secret)) if user and secret else None


def _run(helper: str, verb: str, given: str) -> str:
    if "/" in helper or helper.startswith("-"):
        raise CredentialError(f"{helper!r} is not the name of a credential helper")
    import subprocess

    try:
        command = [f"docker-credential-{helper}", verb]
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CredentialError(f"docker-credential-{helper} cannot be run: {type(error).__name__}") from None
    if done.returncode:
        if "not found" in done.stdout + done.stderr:
            return ""
        raise CredentialError(f"docker-credential-{helper} {verb} failed with status {done.returncode}")
    return done.stdout
