"""Where a registry is reached, and by what rules: mirrors and exceptions (registries.toml), certificates (certs.d)."""

from __future__ import annotations

import glob
import ipaddress
import os
from urllib.parse import urlsplit

from specrun.errors import SpecrunError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from typing import Any

HUB = "docker.io"
HUB_HOST = "registry-1.docker.io"
STALL = 20.0
"""Seconds without a byte after which a connection is given up, unless registries.toml says otherwise."""
_KEYS = {"mirrors": list, "insecure": bool, "token-servers": list, "timeout": int}
_EXPECTED = {list: "a list", bool: "true or false", int: "a number of seconds from 1 to 3600"}


class SettingsError(SpecrunError):
    """registries.toml, or certs.d, cannot be used as it is."""

    code = "registry-settings"


class Endpoint:
    """One server that has the images of a domain: the registry itself, or a mirror of it."""

    __slots__ = ("domain", "host", "mirror", "prefix", "schemes", "stall", "token_servers", "verify")

    def __init__(self, domain: str, host: str, *, schemes: list[str], verify: bool = True) -> None:
        self.domain = domain
        """Under this name its credentials are kept."""
        self.host = host
        """Name or address, and perhaps a port."""
        self.schemes = schemes
        """Tried in this order."""
        self.verify = verify
        self.prefix = ""
        """What stands before the repositories' names at a mirror: empty, or ends with a slash."""
        self.mirror = False
        self.stall = STALL
        self.token_servers: list[str] = []
        """Hosts that its passwords may be sent to, though they are of another domain."""


def origin(domain: str, *, verify: bool = True) -> Endpoint:
    """The registry itself. Raises SettingsError."""
    settings = _settings().get(domain, {})
    verify = verify and not settings.get("insecure", False)
    host = HUB_HOST if domain == HUB else domain
    # As with Docker, a registry on loopback may speak plain HTTP; unlike there its certificate is not taken unseen.
    schemes = ["https", "http"] if is_loopback(host) or not verify else ["https"]
    made = Endpoint(domain, host, schemes=schemes, verify=verify)
    return _with(settings, made)


def _with(settings: dict[str, Any], made: Endpoint) -> Endpoint:
    made.token_servers = settings.get("token-servers", [])
    made.stall = float(settings.get("timeout", STALL))
    return made


def mirrors(domain: str) -> list[Endpoint]:
    """The mirrors of a registry, the first to be asked first. Raises SettingsError."""
    found = []
    for text in _settings().get(domain, {}).get("mirrors", []):
        parts = urlsplit(text)
        own = _settings().get(parts.netloc, {})
        made = Endpoint(parts.netloc, parts.netloc, schemes=[parts.scheme], verify=not own.get("insecure", False))
        made.prefix = f"{parts.path.strip('/')}/" if parts.path.strip("/") else ""
        made.mirror = True
        found.append(_with(own, made))
    return found


def settings_path() -> str:
    """`$SPECRUN_REGISTRIES`, else /etc/specrun/registries.toml; of others than root, below `$XDG_CONFIG_HOME`."""
    if chosen := os.environ.get("SPECRUN_REGISTRIES"):
        return chosen
    if os.geteuid():
        own = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
        if os.path.exists(path := f"{own}/specrun/registries.toml"):
            return path
    return "/etc/specrun/registries.toml"


def _settings() -> dict[str, dict[str, Any]]:
    """`[registry."DOMAIN"]` tables, checked whole."""
    path = settings_path()
    try:
        with open(path, "rb") as file:
            data = file.read(1 << 20)
    except FileNotFoundError:
        if os.environ.get("SPECRUN_REGISTRIES"):
            raise SettingsError(f"{path} is not there", hint="$SPECRUN_REGISTRIES names it") from None
        return {}
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error
    import tomllib

    try:
        document = tomllib.loads(data.decode())
    except ValueError as error:
        raise SettingsError(f"{path}: {error}", hint="is it TOML?") from error
    if unknown := sorted(document.keys() - {"registry"}):
        raise SettingsError(f'{path}: unknown key {unknown[0]!r}: expected tables [registry."HOST"]')
    tables = document.get("registry", {})
    if not isinstance(tables, dict):
        raise SettingsError(f'{path}: registry: expected tables [registry."HOST"]')
    for domain, table in tables.items():
        _check(path, domain, table)
    return tables


def _check(path: str, domain: str, table: object) -> None:
    where = f'{path}: [registry."{domain}"]'
    if not isinstance(table, dict):
        raise SettingsError(f"{where}: expected a table")
    for key, value in table.items():
        if key not in _KEYS:
            raise SettingsError(f"{where}: unknown key {key!r}", hint=f"known are {', '.join(_KEYS)}")
        if type(value) is not _KEYS[key] or (isinstance(value, int) and key == "timeout" and not 1 <= value <= 3600):
            raise SettingsError(f"{where}: {key} must be {_EXPECTED[_KEYS[key]]}, found {value!r}")
        for entry in value if isinstance(value, list) else []:
            if key == "mirrors" and not _is_mirror(entry):
                raise SettingsError(f"{where}: mirrors: {entry!r}: expected https://HOST[:PORT][/PREFIX] (or http:)")
            if not isinstance(entry, str):
                raise SettingsError(f"{where}: {key}: {entry!r} is not a text")


def _is_mirror(entry: object) -> bool:
    from specrun.registry.headers import address

    if not isinstance(entry, str) or address("", entry) != entry:
        return False
    parts = urlsplit(entry)
    return not parts.query and not parts.fragment


def is_loopback(netloc: str) -> bool:
    """Whether a host, with or without a port, is this machine by its own address or as `localhost`."""
    host = hostname(netloc)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def hostname(netloc: str) -> str:
    """The host in small letters, without a port and brackets."""
    try:
        return urlsplit(f"//{netloc}").hostname or ""
    except ValueError:
        return ""


def tls_context(host: str, *, verify: bool, client: bool) -> ssl.SSLContext:
    """What certificates a connection takes and shows, by the folder certs.d/HOST of Docker, and beside registries.toml.

    `*.crt` are authorities beside those of the system; `*.cert` with `*.key` are shown if `client`. Raises
    SettingsError.
    """
    import ssl

    if verify:
        context = ssl.create_default_context()  # with the system's authorities, whose reading takes long
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    for base in ("/etc/docker", os.path.dirname(settings_path())):
        folder = f"{glob.escape(base)}/certs.d/{glob.escape(host)}"
        try:
            for path in sorted(glob.glob(f"{folder}/*.crt")):
                context.load_verify_locations(path)
            for path in sorted(glob.glob(f"{folder}/*.cert")) if client else []:
                key = path.removesuffix(".cert") + ".key"
                if not os.path.exists(key):
                    message = f"{key} is missing, the key of the client certificate {path}"
                    raise SettingsError(message, hint="certificates of authorities are called *.crt")
                path = os.path.abspath(path)
                context.load_cert_chain(path, key)
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(f"{path} cannot be used: {error.strerror or error}") from error
    return context
