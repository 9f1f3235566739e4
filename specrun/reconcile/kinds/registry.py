"""Kind Registry on the local runtime: a server in the background, with a keeper that starts it again when it ends.

What it is told to do is read from its command line, and where it listens from the kernel's tables. It has copies of
its own of the files that the spec names, so that the spec's folder may go.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any

from specrun.errors import SpecrunError
from specrun.files import discard, remove_tree, write_atomic
from specrun.reconcile.changes import Action, Change, Fact, Found
from specrun.reconcile.kinds.base import Desk, Task, View, fact_differences, input_differences, placed, spec_differences
from specrun.reconcile.kinds.files import MAX_BYTES, content_of, make_private, read_file
from specrun.reconcile.project import Entry
from specrun.registry.service import Service
from specrun.spec import models

if TYPE_CHECKING:
    from collections.abc import Iterator

    from specrun.registry.service import Running
    from specrun.spec.loader import Resource
    from specrun.spec.yamltext import Path

_FILES = ("htpasswd", "tls.certificate", "tls.key", "token.key", "proxy.secret")
"""What it may be given, by the fields of the spec, and so the files in its folder are called."""
_READ_AGAIN = ("htpasswd",)
"""Those that the server reads again by itself when they change."""
_EVERYWHERE = ("0.0.0.0", "[::]")  # noqa: S104
_IMAGES = "data"
"""The folder of its images, where the spec names none."""


def _spec(resource: Resource) -> models.RegistrySpec:
    assert isinstance(resource.spec, models.RegistrySpec)  # noqa: S101 - the table says so
    return resource.spec


class Registries:
    """Servers that outlive the command."""

    def unsupported(self, resource: Resource) -> list[Path]:
        """All of it is supported."""
        return []

    def observe(self, view: View, name: str, resource: Resource | None, entry: Entry | None) -> Found | None:
        """Its process, what that was told, where it listens, and the files that it was given."""
        folder = f"{view.root.registries}/{view.record.name}/{name}"
        service = Service(folder)
        if service.token is None:
            return None
        facts = {field: Fact(_digest_of_file(view, f"{folder}/{field}"), f"{folder}/{field}") for field in _FILES}
        running = service.running()
        if running is None:
            return Found("", "ended", service.token, {**facts, "state": Fact("ended", f"{folder}/server.json")})
        source = f"/proc/{running.pid}"
        facts["state"] = Fact("running", source)
        told = _told(running.options, folder)
        facts.update({field: Fact(value, f"{source}/cmdline") for field, value in told.items()})
        facts["listen"] = Fact(_listens(running), f"{source}/net/tcp")
        return Found(running.address, "running", service.token, facts)

    def inputs(self, view: View, resource: Resource) -> dict[str, str]:
        """Digests of the files and the secret that it is given, salted, as some of them are keys."""
        return {field: _digest(view, data) for field, data in _contents(view, resource)}

    def diff(self, desk: Desk, resource: Resource, found: Found | None, entry: Entry | None) -> Change:
        """A server that has ended, or was told something else, is started again; its images stay."""
        if found is None:
            gone = entry is not None and entry.made
            return Change(Action.CREATE, resource.key, "it is gone" if gone else "", drifted=gone)
        if entry is None or found.token not in (entry.token, *entry.earlier):
            return Change(Action.UPDATE, resource.key, "it is there already, and is taken over")
        inputs = desk.observed.inputs.get(resource.key, {})
        told = _told(_options(resource, ""), "")
        wanted = {"state": "running", "listen": _spec(resource).listen, **told, **dict.fromkeys(_FILES), **inputs}
        said = [*spec_differences(resource, entry), *input_differences(inputs, entry)]
        if changed := fact_differences(wanted, found):
            names = ", ".join(one.dotted for one in changed)
            reason = "its server has ended" if found.state == "ended" else f"{names} changed; its images stay"
            return placed(Action.UPDATE, resource, reason, changed, drifted=not said)
        if said:
            return placed(Action.UPDATE, resource, "its spec has changed, its server has not", said)
        return Change(Action.KEEP, resource.key, "")

    def apply(self, task: Task) -> None:
        """Give it its files, and start it unless it runs as it is to; one that runs hands over, and refuses nobody.

        Raises SpecrunError when it does not start; the server that was there before then serves on.
        """
        resource, view = task.resource, task.view
        folder = f"{view.root.registries}/{view.record.name}/{resource.metadata.name}"
        make_private(folder)
        before = {field: _content_of_file(f"{folder}/{field}") for field in _FILES}
        changed = _renew(view, folder, dict(_contents(view, resource)))
        options, service = _options(resource, folder), Service(folder)
        running, token = service.running(), service.token
        if (
            running
            and running.options == options
            and token == task.entry.token
            and _listens(running) == _spec(resource).listen
            and not changed.difference(_READ_AGAIN)
        ):
            return
        try:
            if running:
                service.change(options, task.entry.token)
            else:
                service.stop()
                service.start(options, task.entry.token)
        except SpecrunError:
            _renew(view, folder, {field: data for field, data in before.items() if data is not None})
            if running and token and not service.running():
                service.start(running.options, token)
            raise

    def remove(self, view: View, entry: Entry) -> str:
        """End it; its images go only when its spec says so, and only from a folder of the project's own."""
        folder = f"{view.root.registries}/{view.record.name}/{entry.name}"
        if not os.path.isdir(folder):
            return "-"
        Service(folder).stop()
        if entry.values.get("keep", True) and os.path.isdir(f"{folder}/{_IMAGES}"):
            for name in os.listdir(folder):
                if name != _IMAGES:
                    discard(f"{folder}/{name}")
            return f"ended; its images stay in {folder}: `keep: false` in its spec would remove them"
        remove_tree(folder)
        for above in (os.path.dirname(folder), view.root.registries):
            try:
                os.rmdir(above)
            except OSError:
                break
        return ""


def address_of(resource: Resource) -> str:
    """HOST:PORT by which this machine reaches the registry of a spec."""
    host, _, port = _spec(resource).listen.rpartition(":")
    return f"{'127.0.0.1' if host in _EVERYWHERE else host}:{port}"


def _options(resource: Resource, folder: str) -> dict[str, str]:
    """The server's command line: `--name` -> value, "" for a flag."""
    spec = _spec(resource)
    given: dict[str, str | bool | None] = {
        "--listen": spec.listen,
        "--storage": resource.path(spec.storage) if spec.storage else f"{folder}/{_IMAGES}",
        "--htpasswd": f"{folder}/htpasswd" if spec.htpasswd else None,
        "--read-only": spec.readOnly,
        "--no-delete": not spec.allowDelete,
        "--mount": spec.mount if spec.mount != "any" else None,
        "--quota": str(spec.quota) if spec.quota else None,
        "--warning": spec.warning,
    }
    if spec.tls:
        given |= {"--tls-cert": f"{folder}/tls.certificate", "--tls-key": f"{folder}/tls.key"}
    if token := spec.token:
        given |= {"--token-realm": token.realm, "--token-service": token.service, "--token-issuer": token.issuer}
        given["--token-key"] = f"{folder}/token.key"
    if proxy := spec.proxy:
        given |= {"--proxy": proxy.remote, "--proxy-insecure": not proxy.verify, "--proxy-user": proxy.user}
        given["--proxy-ttl"] = str(int(proxy.ttl)) if proxy.ttl is not None else None
        given["--proxy-password"] = f"{folder}/proxy.secret" if proxy.secret else None
    return {name: "" if value is True else str(value) for name, value in given.items() if value}


def _told(options: dict[str, str], folder: str) -> dict[str, Any]:
    """What a command line says, by the fields of the spec."""
    storage = options.get("--storage")
    limit = options.get("--quota")
    return {
        "storage": storage if storage != f"{folder}/{_IMAGES}" else None,
        "htpasswd.file": "--htpasswd" in options,
        "tls": "--tls-cert" in options,
        "readOnly": "--read-only" in options,
        "allowDelete": "--no-delete" not in options,
        "mount": options.get("--mount", "any"),
        "quota": int(limit) if limit else None,
        "warning": options.get("--warning"),
        "token.realm": options.get("--token-realm"),
        "token.service": options.get("--token-service"),
        "token.issuer": options.get("--token-issuer"),
        "proxy.remote": options.get("--proxy"),
        "proxy.verify": "--proxy-insecure" not in options,
        "proxy.user": options.get("--proxy-user"),
        "proxy.ttl": options.get("--proxy-ttl"),
    }


def _listens(running: Running) -> str | None:
    """Where it listens: as it was told, if that is among it; a name is any address with that port."""
    wanted = running.options.get("--listen", "")
    host, _, port = wanted.rpartition(":")
    named = host.strip("[]").replace(".", "").isdigit() is False and not host.startswith("[")
    if wanted in running.listening or (named and any(one.endswith(f":{port}") for one in running.listening)):
        return wanted
    return ", ".join(running.listening) or None


def files_of(resource: Resource) -> Iterator[tuple[str, str]]:
    """The fields of the spec that name files, dotted, and the files."""
    spec = _spec(resource)
    if spec.htpasswd:
        yield "htpasswd", spec.htpasswd
    if spec.tls:
        yield "tls.certificate", spec.tls.certificate
        yield "tls.key", spec.tls.key
    if spec.token:
        yield "token.key", spec.token.key


def _contents(view: View, resource: Resource) -> Iterator[tuple[str, bytes]]:
    """The contents of _FILES that the spec gives. Raises SpecrunError at the place of the field."""
    for field, path in files_of(resource):
        yield field, read_file(resource, path, *field.split("."))
    proxy = _spec(resource).proxy
    if proxy and proxy.secret:
        yield "proxy.secret", content_of(view.specs.resources[f"secret/{proxy.secret}"])


def _renew(view: View, folder: str, contents: dict[str, bytes]) -> set[str]:
    """Let its files hold this, and no others be there; gives those that were otherwise."""
    changed = set()
    for field in _FILES:
        path, data = f"{folder}/{field}", contents.get(field)
        if _digest_of_file(view, path) == (None if data is None else _digest(view, data)):
            continue
        changed.add(field)
        if data is None:
            discard(path)
        else:
            write_atomic(path, data)
    return changed


def _digest(view: View, data: bytes) -> str:
    return hashlib.sha256(view.record.salt.encode() + data).hexdigest()


def _digest_of_file(view: View, path: str) -> str | None:
    data = _content_of_file(path)
    return None if data is None else _digest(view, data)


def _content_of_file(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
