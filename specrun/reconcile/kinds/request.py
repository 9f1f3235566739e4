"""From the fields of a Container or Job to what the engine is asked for, and what the kernel should then say.

A field whose counterpart the engine's ContainerRequest does not have is refused by name at validation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from specrun.engine.request import ContainerRequest
from specrun.reconcile.project import TOKEN
from specrun.spec.models import ProcessSpec
from specrun.spec.yamltext import Path

if TYPE_CHECKING:
    from specrun.engine.containers import Container
    from specrun.reconcile.kinds.base import Task

OURS = frozenset({"image", "dependsOn", "onUnhealthy", "update", "reload", "timeout", "network", "env"})
"""Fields that need nothing of the engine beyond what it always had."""

SLOTS: dict[str, str] = {
    "command": "command",
    "entrypoint": "entrypoint",
    "workingDir": "workdir",
    "hostname": "hostname",
    "security.user": "user",
    "stopSignal": "stop_signal",
    "stopTimeout": "stop_timeout",
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
    spec = task.resource.spec
    assert isinstance(spec, ProcessSpec)  # noqa: S101 - the table says so
    return ContainerRequest(
        spec.image,
        name=task.resource.metadata.name,
        command=spec.command,
        entrypoint=spec.entrypoint,
        env=[f"{key}={value}" for key, value in spec.env.items()],
        workdir=spec.workingDir or "",
        user=spec.security.user or "",
        hostname=spec.hostname or "",
        labels={**task.resource.metadata.labels, TOKEN: task.entry.token},
        detached=True,
        network=spec.network or "none",
        stop_signal=spec.stopSignal or "",
        stop_timeout=spec.stopTimeout,
    )


def wanted_facts(spec: ProcessSpec) -> dict[str, Any]:
    """What the kernel should say of the fields that the spec decides alone."""
    return {}


def update(task: Task, container: Container) -> None:
    """Change a running container in place."""


def health(container: Container) -> str:
    """The container's health: "", starting, healthy or unhealthy."""
    return getattr(container.state, "health", "") or ""
