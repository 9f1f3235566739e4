"""Replacing a container while it serves: the new one must be well before the old one goes, or the old one stays.

A replacement passes through two more names, `NAME.next` and `NAME.old`. What a killed command leaves under them
carries a token of ours, and the next apply sweeps it away.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from specrun.engine import connecting
from specrun.engine.container import ContainerNotFound
from specrun.engine.record import claim_name, release_name
from specrun.errors import SpecrunError
from specrun.reconcile.kinds import request
from specrun.reconcile.project import Entry, token_of
from specrun.spec import models
from specrun_runtime import state
from specrun_runtime.errors import StartFailed

if TYPE_CHECKING:
    from specrun.engine.container import Container
    from specrun.engine.request import ContainerRequest
    from specrun.reconcile.kinds.base import Task, View

NEXT, OLD = ".next", ".old"


class RolledBack(SpecrunError):
    """The new container was not well, and the old one still serves."""

    code = "rolled-back"
    exit_status = 3


def is_wanted(task: Task, old: Container | None) -> bool:
    """Whether the spec says how it is replaced, and there is something to replace."""
    spec = task.resource.spec
    asked = isinstance(spec, models.ContainerSpec) and "update" in spec.model_fields_set
    return asked and old is not None and old.state.status == state.RUNNING


def replace(task: Task, old: Container) -> None:
    """Replace `old`. Raises RolledBack when it is the old one that serves afterwards."""
    spec = task.resource.spec
    assert isinstance(spec, models.ContainerSpec)  # noqa: S101 - is_wanted has looked
    if spec.update.order == "start-first":
        _start_first(task, old, spec)
    else:
        _stop_first(task, old, spec)


def _start_first(task: Task, old: Container, spec: models.ContainerSpec) -> None:
    engine, name = task.view.engine, task.resource.metadata.name
    wanted = request.of(task)
    ports, wanted.network.ports = wanted.network.ports, {}
    wanted.name = f"{name}{NEXT}"
    new = _start(task, wanted, spec)
    if new is None:
        raise _rolled_back(task, old)
    connecting.hand_over(engine, old, new, ports)
    rename(task.view, old, f"{name}{OLD}")
    rename(task.view, new, name)
    _stop(task.view, old)
    engine.remove(old, force=True)


def _stop_first(task: Task, old: Container, spec: models.ContainerSpec) -> None:
    engine, name = task.view.engine, task.resource.metadata.name
    _stop(task.view, old)
    rename(task.view, old, f"{name}{OLD}")
    new = _start(task, request.of(task), spec)
    if new is None:
        rename(task.view, old, name)
        running = engine.start(engine.get(old.id))
        if running:
            running.detach()
        raise _rolled_back(task, old)
    engine.remove(old, force=True)


def _start(task: Task, wanted: ContainerRequest, spec: models.ContainerSpec) -> Container | None:
    """The new container when it is well; None, and nothing left of it, when it is not."""
    engine = task.view.engine
    try:
        running = engine.run(wanted)
        running.detach()
        new = engine.get(running.container_id)
    except (SpecrunError, StartFailed) as error:
        task.output.news(f"  {task.resource.key}   the new container did not start: {error.message}")
        _discard(task, wanted.name)
        return None
    if _is_well(task.view, new.id, spec):
        return engine.get(new.id)
    task.output.news(f"  {task.resource.key}   the new container was not well within {spec.update.monitor:g} s")
    engine.remove(engine.get(new.id), force=True)
    return None


def _discard(task: Task, name: str) -> None:
    """Remove the container that was made but could not be started, if it is the task's."""
    engine = task.view.engine
    try:
        container = engine.get(name)
    except ContainerNotFound:
        return
    if token_of(container) == task.entry.token:
        engine.remove(container, force=True)


def _is_well(view: View, identity: str, spec: models.ContainerSpec) -> bool:
    """Healthy, where it has a health check; else still running at the end of the time that it is watched."""
    checked = spec.healthcheck is not None and not spec.healthcheck.disable
    deadline = time.monotonic() + spec.update.monitor
    while True:
        try:
            container = view.engine.get(identity)
        except ContainerNotFound:
            return False
        if container.state.status != state.RUNNING or not state.is_owned(container.directory):
            return False
        health = (container.health or {}).get("Status", "")
        if checked and health in ("healthy", "unhealthy"):
            return bool(health == "healthy")
        if time.monotonic() > deadline:
            return not checked
        time.sleep(0.05)


def _rolled_back(task: Task, old: Container) -> RolledBack:
    return RolledBack(
        f"rolled back: container {old.id[:12]} still serves, as it was",
        hint=f"correct {task.resource.key} and apply again; exit status 3 says that nothing was lost",
    )


def sweep(view: View, entry: Entry) -> None:
    """Remove what a replacement that was killed has left under its other names."""
    for name in (f"{entry.name}{NEXT}", f"{entry.name}{OLD}"):
        try:
            container = view.engine.get(name)
        except ContainerNotFound:
            continue
        token = token_of(container)
        if container.name == name and token in (entry.token, *entry.earlier):
            _stop(view, container)
            view.engine.remove(container, force=True)


def rename(view: View, container: Container, name: str) -> None:
    """Give a container another name. Raises Conflict when it is taken."""
    old = container.name
    claim_name(view.root, name, container.id)
    container.record.name = name
    container.record.save(container.directory, durable=True)
    release_name(view.root, old, container.id)


def _stop(view: View, container: Container) -> None:
    view.engine.stop(view.engine.get(container.id))
