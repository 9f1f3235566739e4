"""From the fields of a Container or Job to what the engine is asked for, and what the kernel should then say.

A field whose counterpart the engine's ContainerRequest does not have is refused by name at validation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from specrun.engine.mountspec import MountRequest
from specrun.engine.request import ContainerRequest
from specrun.reconcile.kinds import given
from specrun.reconcile.kinds.files import read_file
from specrun.reconcile.project import TOKEN
from specrun.spec import dotenv
from specrun.spec.models import ProcessSpec
from specrun.spec.yamltext import Path

if TYPE_CHECKING:
    from specrun.reconcile.kinds.base import Task
    from specrun.spec.loader import Resource
    from specrun.spec.models.process import Mount

OURS = frozenset(
    "image command entrypoint env envFiles dependsOn onUnhealthy update reload timeout network secrets configs".split()
)
"""Fields that need nothing of the engine beyond what it always had."""

SLOTS: dict[str, str] = {
    "workingDir": "workdir",
    "hostname": "hostname",
    "security.user": "user",
    "stopSignal": "stop_signal",
    "stopTimeout": "stop_timeout",
    "volumes": "mounts",
    "volumesFrom": "volumes_from",
}
"""Field -> the engine's name of it."""


def unsupported(spec: ProcessSpec) -> list[Path]:
    """The fields of this spec that the engine can't be asked for."""
    known = frozenset(ContainerRequest.__slots__)
    found: list[Path] = []
    for name in sorted(spec.model_fields_set):
        value = getattr(spec, name)
        if name in OURS or value == type(spec).model_fields[name].default:
            continue
        if name in ("security", "resources"):
            found += _unsupported_within(name, value, known)
        elif SLOTS.get(name) not in known:
            found.append((name,))
    if spec.network not in (None, "none", "host") and "networks" not in known:
        found.append(("network",))
    return found


def _unsupported_within(name: str, value: Any, known: frozenset[str]) -> list[Path]:
    set_here = value.model_dump(exclude_defaults=True)
    return [(name, part) for part in set_here if SLOTS.get(f"{name}.{part}") not in known]


def of(task: Task) -> ContainerRequest:
    """The request for the object's container."""
    resource = task.resource
    spec = resource.spec
    assert isinstance(spec, ProcessSpec)  # noqa: S101 - the table says so
    mounts = [_mount(resource, volume) for volume in spec.volumes]
    return ContainerRequest(
        spec.image,
        name=resource.metadata.name,
        command=spec.command,
        entrypoint=spec.entrypoint,
        env=[f"{key}={value}" for key, value in {**_env_files(resource, spec), **spec.env}.items()],
        workdir=spec.workingDir or "",
        user=spec.security.user or "",
        hostname=spec.hostname or "",
        labels={**resource.metadata.labels, TOKEN: task.entry.token},
        detached=True,
        network=spec.network or "none",
        stop_signal=spec.stopSignal or "",
        stop_timeout=spec.stopTimeout,
        mounts=[*mounts, *given.mounts(task.view, resource, spec, task.entry.token)],
        volumes_from=spec.volumesFrom,
    )


def _env_files(resource: Resource, spec: ProcessSpec) -> dict[str, str]:
    found: dict[str, str] = {}
    for index, name in enumerate(spec.envFiles):
        data = read_file(resource, name, "envFiles", index)
        found.update(dotenv.parse(data.decode("utf-8", "surrogateescape")))
    return found


def _mount(resource: Resource, mount: Mount) -> MountRequest:
    source = mount.source or ""
    size = [f"size={mount.size}"] if mount.size is not None else []
    mode = [f"mode={mount.mode}"] if mount.mode is not None else []
    return MountRequest(
        mount.type,
        resource.path(source) if mount.type == "bind" else source,
        mount.target,
        read_only=mount.readOnly,
        propagation=mount.propagation or "",
        no_copy=mount.noCopy,
        tmpfs_options=[*size, *mode],
        create=mount.createHostPath,
    )


def wanted_facts(spec: ProcessSpec) -> dict[str, Any]:
    """What the kernel should say of the fields that the spec decides alone."""
    limits = spec.resources.limits
    wanted = {
        "resources.limits.memory": limits.memory,
        "resources.limits.cpus": limits.cpus,
        "resources.limits.pids": limits.pids,
        "resources.reservations.memory": spec.resources.reservations.memory,
        "resources.cpuShares": spec.resources.cpuShares,
        "resources.cpuset": spec.resources.cpuset,
        "oomScoreAdj": spec.oomScoreAdj,
        **{f"ulimits.{name}": [limit.soft, limit.hard] for name, limit in spec.ulimits.items()},
    }
    return {name: value for name, value in wanted.items() if value is not None}
