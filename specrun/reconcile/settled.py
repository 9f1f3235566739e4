"""What was found to be as the specs say, so that finding it again is quick.

A plan is a function of specs, host and record, and of nothing else. So when a plan was empty, and all that it was made
of is the same now, it is empty again: nobody has to read the specs, which takes longer than to look at the host. The
host itself is looked at every time. What is kept here may be lost: then the way is the long one.

Only `apply` writes it, under the project's lock. `plan`, `drift` and `apply --watch` read it without: a record that is
being changed is not the one that is kept here.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

from specrun import __version__
from specrun.files import write_atomic
from specrun.reconcile import project
from specrun.reconcile.changes import Action, Change, Observed, Plan
from specrun.reconcile.kinds import TABLE, kind_of
from specrun.reconcile.kinds.base import View
from specrun.spec import trace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from specrun.paths import Root
    from specrun.reconcile.changes import Found
    from specrun.reconcile.project import Project
    from specrun.reconcile.session import Session
    from specrun.spec.loader import Resource

_CODE = ("reconcile", "reconcile/kinds", "spec", "spec/models", "engine", "network")
"""Folders of this package whose change may change a plan."""
_PURE = frozenset(("Container", "Job", "Network", "Volume", "Secret", "Config", "Check", "Registry"))
"""Kinds that are observed by name and record alone, and whose inputs are files."""


def recall(root: Root | None, name: str, call: dict[str, Any], *, clean: bool = False) -> Plan | None:
    """The empty plan of this call, if all is as it was when that was found; None when the long way has to be gone.

    With `clean` only that of specs that break no rule of the policy, so that there is nothing else to be said of them.
    """
    if root is None:
        return None
    try:
        with open(project.settled_path(root, name), "rb") as file:
            known = json.load(file)
        if known["call"] != _call(call) or known["code"] != _code() or known["record"] != _record(root, name):
            return None
        if clean and not known["clean"]:
            return None
        if known["environment"] not in ("", _environment(known["salt"])):
            return None
        if any(trace.digest_of(path) != digest for path, digest in known["files"].items()):
            return None
        if any(trace.listing(path) != names for path, names in known["folders"].items()):
            return None
        if any(_content(path, salt) != digest for path, digest, salt in known["contents"]):
            return None
        if known["host"] != _host(root, project.load(root, name)):
            return None
        return Plan(name, [Change(Action.KEEP, key, reason) for key, reason in known["changes"]])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remember(root: Root, session: Session, call: dict[str, Any]) -> None:
    """Keep what an empty plan was made of, if it was made of what can be compared quickly."""
    specs, record, traced = session.specs, session.record, session.specs.trace
    if session.plan.needed or traced is None or not traced.repeatable:
        return
    if not all(_is_pure(resource) for resource in specs.resources.values()) or specs.resources.keys() - record.entries:
        return
    if any(entry.kind not in _PURE for entry in record.entries.values() if entry.key not in specs.resources):
        return
    by_environment = traced.variables or any(
        getattr(resource.spec, "environment", None) for resource in specs.resources.values()
    )
    from datetime import date

    from specrun.reconcile.policy import findings

    document = {
        "call": _call(call),
        "code": _code(),
        "salt": record.salt,
        "environment": _environment(record.salt) if by_environment else "",
        "files": traced.files,
        "folders": traced.folders,
        "contents": [one for resource in specs.resources.values() for one in _contents(resource, session)],
        "record": _record(root, record.name),
        "host": _digest(session.observed),
        "clean": not findings(specs, date.today()),
        "changes": [(change.key, change.reason) for change in session.plan.changes],
    }
    write_atomic(project.settled_path(root, record.name), json.dumps(document).encode(), durable=False)


def _is_pure(resource: Resource) -> bool:
    if resource.kind == "Image":  # what it was assembled by is in the specs; archives and registries are not
        return getattr(resource.spec, "packages", None) is not None
    return resource.kind in _PURE


def _contents(resource: Resource, session: Session) -> Iterator[tuple[str, str, str]]:
    """The files that the plan knows the content of: path, digest, and the salt that the digest begins with."""
    inputs = session.observed.inputs.get(resource.key, {})
    spec: Any = resource.spec
    if resource.kind in ("Secret", "Config") and spec.file is not None:
        yield resource.path(spec.file), inputs["content"], session.record.salt if resource.kind == "Secret" else ""
    if resource.kind == "Registry":
        from specrun.reconcile.kinds.registry import files_of

        for field, path in files_of(resource):
            yield resource.path(path), inputs[field], session.record.salt
    for name in getattr(spec, "envFiles", ()):
        yield resource.path(name), inputs[f"envFiles.{name}"], ""
    for volume in getattr(spec, "volumes", ()):
        if volume.type == "bind" and volume.source:
            yield resource.path(volume.source), inputs.get(f"volumes.{volume.target}", ""), ""


def _content(path: str, salt: str) -> str:
    """The digest of a file; "" for what is none."""
    if not os.path.isfile(path):
        return ""
    with open(path, "rb") as file:
        if not salt:
            return hashlib.file_digest(file, "sha256").hexdigest()
        return hashlib.sha256(salt.encode() + file.read()).hexdigest()


def _call(call: dict[str, Any]) -> dict[str, Any]:
    """What was asked for, and from where: paths are relative."""
    return {**call, "folder": os.getcwd()}


def _code() -> list[Any]:
    base = os.path.dirname(os.path.dirname(__file__))
    return [__version__, *(os.stat(f"{base}/{folder}").st_mtime_ns for folder in _CODE)]


def _environment(salt: str) -> str:
    """A digest that tells nothing of the variables."""
    text = json.dumps(sorted(os.environ.items()))
    return hashlib.sha256(salt.encode() + text.encode("utf-8", "surrogateescape")).hexdigest()


def _record(root: Root, name: str) -> str:
    return hashlib.sha256(b"\0".join(project.raw(root, name))).hexdigest()


def _host(root: Root, record: Project) -> str:
    """A digest of all that is observed of the project."""
    view = View.of_record(root, record)
    objects = {}
    for key, entry in record.entries.items():
        if entry.kind in TABLE:
            found = kind_of(entry.kind).observe(view, entry.name, None, entry)
            if found is not None:
                objects[key] = found
    return _digest(Observed(view.images, objects))


def _digest(observed: Observed) -> str:
    objects = {key: _plain(found) for key, found in observed.objects.items()}
    images = {name: [image.id, image.assembled, image.fault] for name, image in observed.images.items()}
    return hashlib.sha256(json.dumps([objects, images], sort_keys=True).encode()).hexdigest()


def _plain(found: Found) -> list[Any]:
    """All but where it was read."""
    return [found.id, found.state, found.token, {name: fact.value for name, fact in found.facts.items()}, found.detail]
