"""What objects say of each other: names that must be there, and names that only one may have."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import TYPE_CHECKING, NamedTuple

from specrun.spec.models import BuildSpec, CheckSpec, ImageSpec, ProcessSpec, PushSpec, RegistrySpec
from specrun.spec.problems import Problem, dotted

if TYPE_CHECKING:
    from specrun.spec.loader import Resource
    from specrun.spec.yamltext import Path

BUILT_IN_NETWORKS = ("none", "host", "bridge")


class Need(NamedTuple):
    """Something that an object names: it must be in the specs (`required`) or may be elsewhere."""

    key: str
    path: Path
    condition: str
    """started, healthy, completed, or done for what has no life of its own."""
    required: bool


def needs(resource: Resource) -> Iterator[Need]:
    """All that this object names, images aside: those are found by their references."""
    spec = resource.spec
    if isinstance(spec, ProcessSpec):
        yield from _process_needs(spec)
    elif isinstance(spec, BuildSpec):
        for identity, name in spec.secrets.items():
            yield Need(f"secret/{name}", ("spec", "secrets", identity), "done", True)
    elif isinstance(spec, PushSpec):
        yield from _dependencies(spec)
        if spec.registry:
            yield Need(f"registry/{spec.registry}", ("spec", "registry"), "started", True)
    elif isinstance(spec, RegistrySpec):
        if spec.proxy and spec.proxy.secret:
            yield Need(f"secret/{spec.proxy.secret}", ("spec", "proxy", "secret"), "done", True)
    elif isinstance(spec, CheckSpec):
        for index, claim in enumerate(spec.claims):
            place: Path = (
                ("spec", index) if isinstance(resource.source.value["spec"], list) else ("spec", "claims", index)
            )
            if claim.job:
                yield Need(f"job/{claim.job}", (*place, "job"), "completed", True)
            for name, container in (("log", claim.log), ("processes", claim.processes)):
                if container:
                    yield Need(f"container/{container}", (*place, name), "started", True)
            for name, subject in (("exec", claim.exec), ("file", claim.file)):
                if subject and subject.container:
                    yield Need(f"container/{subject.container}", (*place, name, "container"), "started", True)


def _dependencies(spec: ProcessSpec | PushSpec) -> Iterator[Need]:
    for index, dependency in enumerate(spec.dependsOn):
        standing = {"container": "started", "job": "completed", "registry": "started"}.get(dependency.kind, "done")
        yield Need(dependency.key, ("spec", "dependsOn", index), dependency.condition or standing, True)


def _process_needs(spec: ProcessSpec) -> Iterator[Need]:
    yield from _dependencies(spec)
    for kind, mounts in (("secret", spec.secrets), ("config", spec.configs)):
        for index, mount in enumerate(mounts):
            yield Need(f"{kind}/{mount.source}", ("spec", f"{kind}s", index), "done", True)
    for index, volume in enumerate(spec.volumes):
        if volume.type == "volume" and volume.source:
            yield Need(f"volume/{volume.source}", ("spec", "volumes", index), "done", False)
    if spec.network and spec.network not in BUILT_IN_NETWORKS:
        kind, _, name = spec.network.partition(":")
        if kind == "container" and name:
            yield Need(f"container/{name}", ("spec", "network"), "started", False)
        else:
            yield Need(f"network/{spec.network}", ("spec", "network"), "done", False)
    for index, attachment in enumerate(spec.networks):
        if attachment.name not in BUILT_IN_NETWORKS:
            yield Need(f"network/{attachment.name}", ("spec", "networks", index), "done", False)
    for index, source in enumerate(spec.volumesFrom):
        yield Need(f"container/{source.partition(':')[0]}", ("spec", "volumesFrom", index), "started", False)


def check(resources: dict[str, Resource], inactive: dict[str, Resource], problems: list[Problem]) -> None:
    """What is named must be there; names of containers and jobs share one space; tags belong to one object."""
    users: dict[str, Resource] = {}
    tags: dict[str, Resource] = {}
    for resource in resources.values():
        if isinstance(resource.spec, (ImageSpec, BuildSpec)):
            _check_tags(resource, resource.spec, tags, problems)
        if isinstance(resource.spec, ProcessSpec):
            other = users.setdefault(resource.metadata.name, resource)
            if other is not resource:
                place = resource.place("metadata", "name")
                message = f"the container of {other.key} is called so already"
                problems.append(Problem(place, message, "duplicate-name", resource.key, "metadata.name"))
        for need in needs(resource):
            if need.required and need.key not in resources:
                problems.append(_missing(resource, need, resources, inactive))


def _check_tags(
    resource: Resource, spec: ImageSpec | BuildSpec, tags: dict[str, Resource], problems: list[Problem]
) -> None:
    for index, tag in enumerate(spec.tags):
        other = tags.setdefault(tag, resource)
        if other is not resource:
            place = resource.place("spec", "tags", index)
            message = f"{tag} is a tag of {other.key} already"
            problems.append(Problem(place, message, "duplicate-tag", resource.key, f"spec.tags[{index}]"))


def _missing(resource: Resource, need: Need, resources: dict[str, Resource], inactive: dict[str, Resource]) -> Problem:
    place = resource.place(*need.path)
    if hidden := inactive.get(need.key):
        note = f"choose one of its profiles with --profile: {', '.join(hidden.metadata.profiles or [])}"
        message = f"{need.key} is not chosen by any profile"
        return Problem(place, message, "no-such-spec", resource.key, dotted(need.path), note)
    close = get_close_matches(need.key, list(resources), 1)
    note = f'did you mean "{close[0].split("/")[1]}"?' if close else ""
    message = f"there is no {need.key} in these specs"
    return Problem(place, message, "no-such-spec", resource.key, dotted(need.path), note)
