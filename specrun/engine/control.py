"""What is done to a container that exists already: paused and resumed, restarted, renamed, given other limits."""

from __future__ import annotations

import os
import time

from specrun.engine import bundle, orders, policies, resources
from specrun.engine.container import Container, clear_mark, make_mark, patience, policy_name
from specrun.engine.record import claim_name, release_name
from specrun.engine.security import Security
from specrun.engine.settings import record_of
from specrun.errors import Conflict, InvalidName, SpecrunError, UsageError
from specrun.paths import NAME, is_name
from specrun_runtime import state
from specrun_runtime.errors import IsolationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from specrun.engine.containers import Engine
    from specrun.engine.existing import Existing
    from specrun.engine.request import ContainerRequest


def pause(engine: Existing, container: Container) -> None:
    """Freeze all processes of the container."""
    with engine.changing(container):
        require_running(engine, container)
        if container.is_paused:
            raise Conflict(f"Container {container.name} is already paused")
        container.cgroup.freeze()
        engine.tell(container, "pause")


def resume(engine: Existing, container: Container) -> None:
    """Let them go on."""
    with engine.changing(container):
        require_running(engine, container)
        if not container.is_paused:
            raise Conflict(f"Container {container.name} is not paused")
        container.cgroup.thaw()
        engine.tell(container, "unpause")


def require_running(engine: Existing, container: Container) -> None:
    """Refuse a container that does not run, with Docker's words; its state is read again."""
    container.state = engine.get(container.id).state
    if container.state.status == state.RESTARTING:
        raise Conflict(f"Container {container.id} is restarting, wait until the container is running")
    if container.state.status != state.RUNNING:
        raise Conflict(f"Container {container.id} is not running")


def restart(engine: Engine, container: Container, timeout: float | None = None, signal: int = 0) -> None:
    """Stop and start it; one that is to be removed at its end is kept. Raises StartFailed.

    `timeout` and `signal` are those of `stop`.
    """
    if container.record.auto_remove and container.state.is_up:
        _stop_and_keep(engine, container, patience(container, timeout), signal or engine.stop_signal(container))
    else:
        engine.stop(container, timeout, signal)
    running = engine.start(engine.get(container.id))
    clear_mark(container, state.KEPT_MARK)
    if running:
        running.detach()
    engine.tell(container, "restart")


def _stop_and_keep(engine: Engine, container: Container, timeout: float, number: int) -> None:
    """Hold a share of the responsibility, so that nobody takes the ended container for one that is to be removed."""
    owner = state.own(container.directory)
    try:
        make_mark(container, state.KEPT_MARK)
        for signal, seconds in ((number, timeout), (9, 10.0)):
            try:
                engine.kill(container, signal)
            except Conflict:
                pass  # it ended by itself
            deadline = time.monotonic() + seconds
            while seconds < 0 or time.monotonic() < deadline:
                if not state.load(container.directory).is_up:
                    return
                time.sleep(0.01)
        raise SpecrunError(f"container {container.name} does not end")
    finally:
        os.close(owner)


def rename(engine: Existing, container: Container, name: str) -> None:
    """Give it another name. Raises Conflict when that stands for another container."""
    if not is_name(name):
        raise InvalidName(f"Invalid container name ({name}), only {NAME} are allowed")
    with engine.changing(container):
        before = engine.get(container.id).name
        if name == before:
            raise Conflict("Renaming a container with the same name as its current name")
        claim_name(engine.root, name, container.id)
        container.record.name = name
        container.record.save(container.directory, durable=container.record.durable)
        release_name(engine.root, before, container.id)
        if container.state.is_up:
            orders.renew(container)
        engine.tell(container, "rename", oldName=f"/{before}")


def update(engine: Existing, container: Container, changes: dict[str, Any], restart_policy: str = "") -> None:
    """Give it other limits and another restart policy, at once where it runs; all or nothing.

    `changes` are by the names of HostConfig. Raises UsageError for limits that cannot be.
    """
    with engine.changing(container):
        container.state = engine.get(container.id).state
        merged = {**container.host_config, **changes}
        if changes.get("Memory") and "MemorySwap" not in changes and 0 < merged.get("MemorySwap", 0) < merged["Memory"]:
            raise UsageError(
                "Memory limit should be smaller than already set memoryswap limit, "
                "update the memoryswap at the same time"
            )
        resources.check(merged)
        if restart_policy:
            if container.record.auto_remove:
                raise Conflict("Restart policy cannot be updated because AutoRemove is enabled for the container")
            merged["RestartPolicy"] = policies.parse_restart(restart_policy)
        if container.state.status == state.RUNNING and changes:
            _set_limits(container, resources.runtime_resources(changes))
        container.record.host_config = merged
        _keep(container)
        engine.tell(container, "update")


_RENEWABLE = {
    "config": ("Labels", "Healthcheck", "StopSignal", "StopTimeout"),
    "host_config": (
        "RestartPolicy",
        "LogConfig",
        "Memory",
        "MemorySwap",
        "MemoryReservation",
        "NanoCpus",
        "CpuShares",
        "CpusetCpus",
        "PidsLimit",
    ),
}
"""What of a container's record can be another one without a new process."""


def renew(engine: Engine, container: Container, request: ContainerRequest) -> None:
    """Let the container be what a new one of `request` would be, as far as that needs no new process.

    That is its labels, health check, restart policy, log options, limits and how it is stopped. Raises SpecrunError
    for a limit that the kernel refuses, with nothing changed, and for a monitor that does not answer.
    """
    request.check()
    wanted = record_of(request, engine.images.resolve(container.image_id), container.id)
    with engine.changing(container):
        container.state = engine.get(container.id).state
        limits = _limits(container.host_config, wanted.host_config)
        freed = container.host_config.get("CpusetCpus") and not wanted.host_config.get("CpusetCpus")
        if container.state.status == state.RUNNING and (limits or freed):
            if freed:
                limits.setdefault("cpu", {})["cpus"] = container.cgroup.inherited_cpus()
            _set_limits(container, limits)
        for part, names in _RENEWABLE.items():
            mine, new = getattr(container.record, part), getattr(wanted, part)
            for name in names:
                mine.pop(name, None)
                if name in new:
                    mine[name] = new[name]
        _keep(container)
        engine.tell(container, "update")


def _set_limits(container: Container, limits: dict[str, Any]) -> None:
    try:
        container.cgroup.limit(limits, devices=False)
    except IsolationError as error:
        raise SpecrunError(f"Cannot update container {container.id}: {error}") from error


_NO_LIMIT = {"memory": {"limit": -1, "swap": -1, "reservation": -1}, "cpu": {"quota": -1, "shares": 1024}}


def _limits(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """`linux.resources` that lead from one HostConfig to another: what is no longer limited is set free."""
    old, new = resources.runtime_resources(before), resources.runtime_resources(after)
    found = {}
    for part, free in {**_NO_LIMIT, "pids": {"limit": Security(after).pids_limit()}}.items():
        lifted = {name: value for name, value in free.items() if name in old.get(part, {})}
        if (wanted := {**lifted, **new.get(part, {})}) != old.get(part, {}):
            found[part] = wanted
    return found


def _keep(container: Container) -> None:
    """Write the changed record, and tell those who work by it."""
    container.record.save(container.directory, durable=container.record.durable)
    if container.state.is_up:
        bundle.renew_limits(container.record, container.directory)
        orders.renew(container)


def restored(engine: Engine) -> list[Container]:
    """What should run after the machine was started anew, by the rules of Docker's daemon."""
    found = []
    for container in engine.list(all=True):
        known = container.state
        if known.is_up or not known.started_at:
            continue
        name = policy_name(container)
        stopped = os.path.exists(f"{container.directory}/{state.STOPPED_MARK}")
        if name == "always" or (name == "unless-stopped" and not stopped):
            found.append(container)
        elif name == "on-failure" and known.exit_code != 0 and not stopped:
            most = (container.host_config["RestartPolicy"].get("MaximumRetryCount")) or 0
            if most == 0 or known.restarts < most:
                found.append(container)
    return sorted(found, key=lambda container: container.created)
