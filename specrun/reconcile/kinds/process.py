"""Kinds Container and Job on the local runtime: the container of the object's name that carries our token."""

from __future__ import annotations

import hashlib
import os
import time
from typing import TYPE_CHECKING, Any

from specrun.engine import control, policies
from specrun.engine.container import Container, ContainerNotFound
from specrun.engine.logs import read_log
from specrun.engine.mounting import anonymous_volumes
from specrun.engine.signals import signal_number
from specrun.errors import Conflict, SpecrunError
from specrun.reconcile import repair, rolling
from specrun.reconcile.changes import Action, Change, Fact, Found
from specrun.reconcile.diff import Difference, Operation
from specrun.reconcile.kinds import connect, given, request
from specrun.reconcile.kinds.base import (
    Desk,
    Task,
    View,
    fact_differences,
    gone,
    input_differences,
    placed,
    spec_differences,
)
from specrun.reconcile.kinds.files import digest_of, read_file
from specrun.reconcile.project import Entry, token_of
from specrun.spec import models
from specrun_runtime import state

if TYPE_CHECKING:
    from specrun.spec.loader import Resource
    from specrun.spec.yamltext import Path


class JobFailed(SpecrunError):
    """A job's command ended with another exit status than 0."""

    code = "job-failed"


class Unhealthy(SpecrunError):
    """A container is not what its health check wants, or did not stay up."""

    code = "unhealthy"


RENEWED = ("labels", "restart", "healthcheck", "logging", "stopSignal", "stopTimeout", "resources")
"""Fields that the engine changes without a new process."""
IN_PLACE = (*RENEWED, "ports", "networks", "onUnhealthy", "update", "reload", "dependsOn", "timeout")
"""These, those of the kernel's networks, and those that only say what is to be done later."""


def spec_of(resource: Resource) -> models.ProcessSpec:
    """The spec of a Container or Job."""
    assert isinstance(resource.spec, models.ProcessSpec)  # noqa: S101 - the table says so
    return resource.spec


class _Processes:
    """What the two kinds have in common."""

    job = False

    def unsupported(self, resource: Resource) -> list[Path]:
        """Fields that the engine can't be asked for."""
        return request.unsupported(spec_of(resource))

    def observe(self, view: View, name: str, resource: Resource | None, entry: Entry | None) -> Found | None:
        """The container of this name, whoever's it is."""
        container = view.containers.get(name)
        if container is None and entry is not None and entry.made:
            container = view.by_token(entry.token)  # somebody has renamed it
        if container is None:
            return None
        status, code = container.state.status, container.state.exit_code
        if container.state.is_up and not state.is_owned(container.directory):
            status, code = state.EXITED, 137  # its monitor was killed; the next change makes that official
        token = token_of(container)
        facts: dict[str, Fact] = {}
        made: dict[str, Any] = {}
        if status == state.RUNNING:
            facts, made = view.kernel.of_container(container)
            links, ties = connect.facts(view, container)
            facts, made = {**facts, **links}, {**made, **ties}
            facts["image.layers"], made["image.layers"] = _layers(view, container), "complete"
        record = f"{container.directory}/container.json"
        facts["name"], made["name"] = Fact(container.name, record), name
        if not self.job:
            facts["restart"] = Fact(policies.restart_text(container.host_config["RestartPolicy"]), record)
        if entry is not None and token == entry.token:
            facts.update(given.facts(view, entry))
        health = (container.health or {}).get("Status", "")
        detail = {"image_id": container.image_id, "exit_code": code, "made": made, "health": health}
        return Found(container.id, status, token, facts, detail)

    def inputs(self, view: View, resource: Resource) -> dict[str, str]:
        """Contents of its secrets, configs, env files, and of files that are bound into it."""
        spec = spec_of(resource)
        found: dict[str, str] = {}
        for kind, mounts in (("secret", spec.secrets), ("config", spec.configs)):
            for mount in mounts:
                source = view.specs.resources[f"{kind}/{mount.source}"]
                found[f"{kind}s.{mount.source}"] = digest_of(view, source)
        for index, name in enumerate(spec.envFiles):
            data = read_file(resource, name, "envFiles", index)
            found[f"envFiles.{name}"] = hashlib.sha256(data).hexdigest()
        for volume in spec.volumes:
            if volume.type == "bind" and volume.source and os.path.isfile(path := resource.path(volume.source)):
                found[f"volumes.{volume.target}"] = _digest_of_file(path)
        return found

    def diff(self, desk: Desk, resource: Resource, found: Found | None, entry: Entry | None) -> Change:
        """First whose it is, then its spec, then its image, then what the kernel says, then whether it runs."""
        key = resource.key
        if found is None:
            return gone(resource, entry, "exited" if self.job else "running", "containers of the state folder")
        if entry is None or found.token not in (entry.token, *entry.earlier):
            raise Conflict(
                f"{key} cannot be made: container {found.id[:12]} has the name {resource.metadata.name} "
                "and is not of this project",
                hint=f"choose another name, or remove it with `specrun rm -f {resource.metadata.name}`",
                place=resource.place("metadata", "name"),
            )
        if found.token != entry.token:
            return Change(Action.REPLACE, key, "an earlier apply was interrupted before it replaced this one")
        by_spec = self._by_spec(resource, entry)
        named = {one.dotted for one in by_spec.differences} if by_spec else set()
        reasons = [
            by_spec,
            self._by_image(desk, resource, found),
            self._by_inputs(desk, resource, entry),
            self._by_facts(desk, resource, found, named),
            self._by_health(resource, found),
        ]
        return _joined([one for one in reasons if one]) or self._by_run(resource, found)

    def _by_spec(self, resource: Resource, entry: Entry) -> Change | None:
        changed = spec_differences(resource, entry)
        if not changed:
            return None
        lasting = [one for one in changed if one.field[0] not in IN_PLACE and not _is_of_networks(one)]
        if lasting or self.job:
            return placed(Action.REPLACE, resource, f"{_names(lasting or changed)} cannot change in place", changed)
        return placed(Action.UPDATE, resource, f"in place: {_names(changed)}", changed)

    def _by_image(self, desk: Desk, resource: Resource, found: Found) -> Change | None:
        spec = spec_of(resource)
        made = desk.image_change(spec.image)
        if made and made.action in (Action.CREATE, Action.REPLACE) and not made.drifted:
            return Change(Action.REPLACE, resource.key, f"its image {spec.image} is made anew")
        current = desk.image(spec.image)
        if current and current.id != found.detail["image_id"]:
            moved = [Difference(Operation.CHANGE, ("image",), found.detail["image_id"], current.id, "index.json")]
            return placed(
                Action.REPLACE,
                resource,
                f"{spec.image} is another image now",
                moved,
                drifted=made is None or made.drifted,
            )
        return None

    def _by_inputs(self, desk: Desk, resource: Resource, entry: Entry) -> Change | None:
        changed = input_differences(desk.observed.inputs.get(resource.key, {}), entry)
        if not changed:
            return None
        spec = resource.spec
        if (
            isinstance(spec, models.ContainerSpec)
            and spec.reload
            and not any(one.dotted.startswith("env") for one in changed)
        ):
            return placed(Action.UPDATE, resource, f"reload by {spec.reload.signal}: changed content", changed)
        return placed(Action.REPLACE, resource, f"content of {_names(changed)} has changed", changed)

    def _by_facts(self, desk: Desk, resource: Resource, found: Found, named: set[str]) -> Change | None:
        """What the kernel and the records say otherwise, of the fields that are not `named` already."""
        wanted = {
            **found.detail.get("made", {}),
            **request.wanted_facts(spec_of(resource)),
            **desk.observed.inputs.get(resource.key, {}),
        }
        changed = [one for one in fact_differences(wanted, found) if one.dotted not in named]
        if not changed or self.job:
            return None
        how = "restart it: " if any(one.dotted.startswith(repair.BY_RESTART) for one in changed) else ""
        return placed(Action.UPDATE, resource, f"{how}{_names(changed)} was changed", changed, drifted=True)

    def _by_health(self, resource: Resource, found: Found) -> Change | None:
        """What onUnhealthy asks for."""
        spec = resource.spec
        if (
            not isinstance(spec, models.ContainerSpec)
            or not spec.onUnhealthy
            or found.detail.get("health") != "unhealthy"
        ):
            return None
        if found.state != state.RUNNING:
            stopped = spec.onUnhealthy == "stop"
            return Change(Action.KEEP, resource.key, "stopped, because it was unhealthy") if stopped else None
        action = Action.REPLACE if spec.onUnhealthy == "replace" else Action.UPDATE
        facts = [Difference(Operation.CHANGE, ("health",), "unhealthy", "healthy", "health check")]
        return placed(action, resource, f"{spec.onUnhealthy} it: it is unhealthy", facts, drifted=True)

    def _by_run(self, resource: Resource, found: Found) -> Change:
        """The spec is the same; is it also doing what it should?"""
        raise NotImplementedError

    def apply(self, task: Task) -> None:
        """Make it, make it anew, or go on with the one that is there."""
        raise NotImplementedError

    def remove(self, view: View, entry: Entry) -> str:
        """Stop and remove the container, if it is ours, and the volumes that nobody but its image has asked for."""
        return "" if remove_own(view, entry, volumes=True) else "-"

    def _run(self, task: Task) -> None:
        """Remove what is replaced, and start a new one."""
        rolling.sweep(task.view, task.entry)
        old = own_container(task.view, task.entry)
        if old is not None and rolling.is_wanted(task, old):
            rolling.replace(task, old)
            given.forget(task.view.root, task.view.record.name, task.entry.name, task.entry.earlier)
            return
        remove_own(task.view, task.entry)
        wanted = request.of(task)
        output = task.output if self.job else None
        running = task.view.engine.run(
            wanted, stdout=output.stdout if output else None, stderr=output.stderr if output else None
        )
        if not self.job:
            running.detach()
            return
        self._judge(task, running.wait())

    def _judge(self, task: Task, status: int) -> None:
        if status == 0:
            return
        container = task.view.engine.get(task.resource.metadata.name)
        lines = [data.decode("utf-8", "replace").rstrip() for _, _, data in read_log(container.directory, tail=5)]
        last = f"; its last output:\n    {chr(10).join(lines).replace(chr(10), chr(10) + '    ')}" if lines else ""
        raise JobFailed(f"the command ended with exit status {status}{last}", hint=f"specrun logs {container.name}")


class Containers(_Processes):
    """Kept running."""

    def _by_run(self, resource: Resource, found: Found) -> Change:
        if found.state == state.RUNNING:
            return Change(Action.KEEP, resource.key, "")
        if found.state == state.RESTARTING:
            return Change(Action.KEEP, resource.key, "is between two starts, as its restart policy says")
        code = found.detail["exit_code"]
        what = f"it has exited with status {code}" if found.state == state.EXITED else "it was never started"
        ended = [Difference(Operation.CHANGE, ("state",), found.state, "running", "state.json of the container")]
        return Change(Action.UPDATE, resource.key, f"start it again: {what}", ended, drifted=True)

    def apply(self, task: Task) -> None:
        """Create, replace, change limits, reload, or start again."""
        if task.change.action is not Action.UPDATE:
            self._run(task)
            return
        engine, name = task.view.engine, task.resource.metadata.name
        container = own_container(task.view, task.entry)
        if container is None:
            raise ContainerNotFound(f"No such container: {name}")
        changed = task.change.differences
        if container.name != name:
            control.rename(engine, container, name)
        if any(one.dotted.partition(".")[0] in RENEWED for one in changed):  # also of what `update` has changed
            control.renew(engine, container, request.without_files(task))
        self._renew(task, container)
        connect.settle(task, container)
        if container.state.status != state.RUNNING:
            self._start(task, container)
            return
        drifted = [one for one in changed if one.source]
        restart = any(one.dotted.startswith(repair.BY_RESTART) for one in drifted)
        wanted = {one.dotted: one.new for one in drifted if one.dotted.startswith(repair.IN_PLACE)}
        try:
            repair.in_place(container, wanted)
        except PermissionError:
            restart = True  # raising a limit of a process needs CAP_SYS_RESOURCE; a new process has it anyway
        unwell = any(one.dotted == "health" for one in changed)
        if unwell and getattr(task.resource.spec, "onUnhealthy", None) == "stop":
            engine.stop(container)
        elif restart:
            engine.stop(container)
            self._start(task, engine.get(name))

    def _start(self, task: Task, container: Container) -> None:
        running = task.view.engine.start(container)
        if running:
            running.detach()

    def _renew(self, task: Task, container: Container) -> None:
        """New content of its files, in place, and the signal that makes it read them."""
        spec = task.resource.spec
        assert isinstance(spec, models.ContainerSpec)  # noqa: S101 - the table says so
        changed = task.change.differences
        if any(one.dotted.startswith(("secrets.", "configs.")) for one in changed):
            given.rewrite(task.view, task.resource, spec, task.entry.token)
        running = container.state.status == state.RUNNING
        if running and spec.reload and any(one.source == "content" for one in changed):
            task.view.engine.kill(container, signal_number(spec.reload.signal))


class Jobs(_Processes):
    """Run to completion, once for each version of its spec."""

    job = True

    def _by_run(self, resource: Resource, found: Found) -> Change:
        if found.state == state.RUNNING:
            return Change(Action.UPDATE, resource.key, "is still running; its end is waited for")
        code = found.detail["exit_code"]
        if found.state == state.EXITED and code == 0:
            return Change(Action.KEEP, resource.key, "")
        what = f"its last run failed with exit status {code}" if found.state == state.EXITED else "it never ran"
        return Change(Action.REPLACE, resource.key, what)

    def apply(self, task: Task) -> None:
        """Run it, or wait for the run that an earlier apply has begun."""
        if task.change.action is not Action.UPDATE:
            self._run(task)
            return
        container = task.view.engine.get(task.resource.metadata.name)
        status = task.view.engine.wait(container)
        for _, stream, data in read_log(container.directory):
            sink = task.output.stdout if stream == "stdout" else task.output.stderr
            if sink is not None:
                os.write(sink, data)
        self._judge(task, status)


def own_container(view: View, entry: Entry) -> Container | None:
    """The container of an entry, if there is one and it carries one of the entry's tokens."""
    try:
        container = view.engine.get(entry.name)
    except ContainerNotFound:
        return view.by_token(entry.token) if entry.made else None  # somebody may have renamed it
    token = token_of(container)
    return container if token and token in (entry.token, *entry.earlier) else None


def remove_own(view: View, entry: Entry, *, volumes: bool = False) -> bool:
    """Stop and remove the container of an entry, and the files that it was given; whether there was one.

    With `volumes` its anonymous ones go too: one that is only replaced may have left data there.
    """
    container = own_container(view, entry)
    if container is not None:
        view.engine.stop(container)
        if volumes:
            names = anonymous_volumes(view.root, container.record)
            given.note_volumes(view.root, view.record.name, entry.name, names)
        view.engine.remove(container, force=True)
    if volumes:
        given.remove_volumes(view.root, view.record.name, entry.name)
    rolling.sweep(view, entry)
    given.forget(view.root, view.record.name, entry.name, [entry.token, *entry.earlier])
    return container is not None


def await_condition(view: View, entry: Entry, condition: str, timeout: float) -> None:
    """Wait until a container that was started is `healthy`. Raises Unhealthy."""
    if condition != "healthy":
        return
    deadline = time.monotonic() + timeout
    while True:
        container = own_container(view, entry)
        health = (container.health or {}).get("Status", "") if container else ""
        if health == "healthy":
            return
        if container is None or not container.state.is_up or health in ("", "none"):
            what = "is not running" if health else "has no health check"
            raise Unhealthy(f"{entry.key} {what}, so it is never healthy")
        if time.monotonic() > deadline:
            raise Unhealthy(f"{entry.key} was not healthy within {timeout:g} seconds: it is {health}")
        time.sleep(0.1)


def _is_of_networks(difference: Difference) -> bool:
    """Whether it is `network`, and both are one that is joined and left; `none`, `host` and another's are for life."""
    names = [str(name or "bridge") for name in (difference.old, difference.new)]
    lasting = any(name in ("none", "host") or name.startswith("container:") for name in names)
    return difference.field == ("network",) and not lasting


def _joined(reasons: list[Change]) -> Change | None:
    """One change for all of what is different: a replacement when anything asks for it."""
    chosen = [one for one in reasons if one.action is Action.REPLACE] or reasons
    if len(chosen) < 2:
        return chosen[0] if chosen else None
    differences: dict[str, Difference] = {}
    places = {}
    for one in chosen:
        for difference in one.differences:
            differences.setdefault(difference.dotted, difference)
        places.update(one.places)
    reason = "; ".join(one.reason for one in chosen)
    drifted = all(one.drifted for one in chosen)
    return Change(chosen[0].action, chosen[0].key, reason, list(differences.values()), places, drifted)


def _layers(view: View, container: Container) -> Fact:
    """Whether the folders that its files come from are there; looked at once for an image."""
    known: dict[str, Fact] = view.seen.setdefault("layers", {})
    if container.image_id not in known:
        images = view.engine.images
        missing = images.missing_layers(container.image_id)
        known[container.image_id] = Fact(f"without {missing[0]}" if missing else "complete", f"{view.root.path}/layers")
    return known[container.image_id]


def _names(found: list[Difference]) -> str:
    return ", ".join(dict.fromkeys(one.dotted for one in found))


def _digest_of_file(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
