"""Rules about specs that can be applied but perhaps should not be: declared values, checked in every plan.

A waiver in the object's metadata lets it break a rule, with a reason, and until a day if it names one. A waiver that
has expired, or that waives nothing, is a finding itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple

from specrun.oci.reference import Reference
from specrun.spec import models
from specrun.spec.problems import dotted

if TYPE_CHECKING:
    from specrun.spec.loader import Resource, Specs
    from specrun.spec.yamltext import Path

_SECRET = ("PASSWORD", "PASSWD", "SECRET", "TOKEN", "API_KEY", "APIKEY", "PRIVATE_KEY", "CREDENTIAL")


class Breach(NamedTuple):
    """Where a rule is broken, and in which words."""

    path: Path
    message: str


@dataclass(frozen=True)
class Rule:
    """One rule."""

    name: str
    summary: str
    advice: str
    check: Callable[[Resource], Iterator[Breach]]


@dataclass(frozen=True)
class Finding:
    """A rule that an object breaks; `waived` is the reason of a waiver that holds."""

    rule: str
    resource: Resource
    path: Path
    message: str
    advice: str
    waived: str = ""

    def document(self) -> dict[str, Any]:
        """For JSON and SARIF, with the fields of a problem."""
        place = self.resource.place(*self.path)
        return {
            "file": place.file,
            "line": place.line,
            "column": place.column,
            "code": self.rule,
            "subject": self.resource.key,
            "field": dotted(self.path),
            "message": self.message,
            "note": self.advice,
            "waived": self.waived,
        }

    def line(self) -> str:
        """For the end of a plan."""
        place = self.resource.place(*self.path)
        waived = f" (waived: {self.waived})" if self.waived else f"; {self.advice}"
        return f"{place}  {self.resource.key}  {self.message}{waived}  [{self.rule}]"


def _processes(resource: Resource) -> models.ProcessSpec | None:
    return resource.spec if isinstance(resource.spec, models.ProcessSpec) else None


def _privileged(resource: Resource) -> Iterator[Breach]:
    spec = _processes(resource)
    if spec and spec.security.privileged:
        yield Breach(("spec", "security", "privileged"), "is privileged: hardly isolated from the host")
    if spec and spec.security.seccomp == "unconfined":
        yield Breach(("spec", "security", "seccomp"), "has no system call filter")


def _host_namespaces(resource: Resource) -> Iterator[Breach]:
    spec = _processes(resource)
    for name in ("network", "pid", "ipc", "uts", "cgroupns"):
        if spec and getattr(spec, name) == "host":
            yield Breach(("spec", name), f"shares the host's {name}")


def _limits(resource: Resource) -> Iterator[Breach]:
    if isinstance(resource.spec, models.ContainerSpec) and resource.spec.resources.limits.memory is None:
        yield Breach(("spec",), "has no limit of memory")


def _latest(resource: Resource) -> Iterator[Breach]:
    spec = _processes(resource)
    if spec:
        reference = Reference.parse(spec.image).canonical
        if reference.endswith(":latest") and "@" not in reference:
            yield Breach(("spec", "image"), f"{spec.image} is :latest, which moves")


def _secret_in_env(resource: Resource) -> Iterator[Breach]:
    spec = _processes(resource)
    for name, value in (spec.env if spec else {}).items():
        if value and not name.endswith("_FILE") and any(word in name.upper() for word in _SECRET):
            yield Breach(("spec", "env", name), f"{name} looks like a secret, and the environment is no place for one")
    if isinstance(resource.spec, models.SecretSpec) and resource.spec.content is not None:
        yield Breach(("spec", "content"), "the secret stands in the spec itself")


def _published(resource: Resource) -> Iterator[Breach]:
    spec = _processes(resource)
    for index, port in enumerate(spec.ports if spec else []):
        if port.hostIP in (None, "0.0.0.0", "::"):  # noqa: S104
            yield Breach(("spec", "ports", index), f"port {port.containerPort} is published on all addresses")
    registry = resource.spec if isinstance(resource.spec, models.RegistrySpec) else None
    if registry and registry.listen.startswith(("0.0.0.0:", "[::]:")) and not (registry.htpasswd or registry.token):
        yield Breach(("spec", "listen"), "lets everybody in on all addresses")


RULES = (
    Rule("privileged", "containers that are hardly isolated", "name the capabilities that it needs", _privileged),
    Rule("host-namespace", "namespaces of the host", "leave the field out", _host_namespaces),
    Rule("no-limits", "containers that can take all memory", "give resources.limits.memory", _limits),
    Rule("latest", "images that move", "give a version, or a digest", _latest),
    Rule("secret-in-env", "secrets that everybody sees", "use a Secret and its file", _secret_in_env),
    Rule("published-everywhere", "ports open to the network", "give an address, as 127.0.0.1:8080:80", _published),
)


def findings(specs: Specs, today: date) -> list[Finding]:
    """All rules that are broken, in the order of the specs; waived ones too."""
    return [one for resource in specs.resources.values() for one in _of(resource, today)]


def _of(resource: Resource, today: date) -> Iterator[Finding]:
    waivers = {waiver.rule: (index, waiver) for index, waiver in enumerate(resource.metadata.waivers)}
    used = set()
    for rule in RULES:
        for breach in rule.check(resource):
            waived = ""
            if rule.name in waivers:
                used.add(rule.name)
                _, waiver = waivers[rule.name]
                if waiver.expires is None or date.fromisoformat(waiver.expires) >= today:
                    waived = waiver.reason
            yield Finding(rule.name, resource, breach.path, breach.message, rule.advice, waived)
    for name, (index, waiver) in waivers.items():
        path: Path = ("metadata", "waivers", index)
        if name not in used:
            known = name in {rule.name for rule in RULES}
            message = f"the waiver of {name} waives nothing" if known else f"there is no rule {name}"
            yield Finding("waiver", resource, path, message, "remove it")
        elif waiver.expires and date.fromisoformat(waiver.expires) < today:
            yield Finding("waiver", resource, path, f"the waiver of {name} expired on {waiver.expires}", "renew it")
