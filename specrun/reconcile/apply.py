"""Doing what a plan says, in its order, and nothing else.

The record of the project is written before each effect: with the token that the new container will carry, so that
a command that is killed in between leaves nothing that the next one does not know for its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from specrun.engine.containers import Container, ContainerNotFound, Engine
from specrun.engine.logs import read_log
from specrun.engine.request import ContainerRequest
from specrun.errors import SpecrunError
from specrun.oci.reference import Reference
from specrun.paths import Root
from specrun.reconcile.plan import Action, Change, Plan, image_config
from specrun.reconcile.project import TOKEN, Entry, Project
from specrun.spec.loader import Resource, Specs
from specrun.spec.models import ImageSpec, JobSpec, ProcessSpec
from specrun_runtime.errors import StartFailed


class JobFailed(SpecrunError):
    """A job's command ended with another exit status than 0."""

    code = "job-failed"


class ApplyFailed(SpecrunError):
    """A change could not be made; those before it were."""

    code = "apply-failed"


@dataclass(frozen=True)
class Output:
    """Where the outputs of jobs go as they come (descriptors, None for the log only), and the news of each change."""

    stdout: int | None
    stderr: int | None
    news: Callable[[str], None]


class Applier:
    """Applies one plan."""

    def __init__(self, root: Root, specs: Specs, record: Project, output: Output) -> None:
        self.root = root
        self.engine = Engine(root)
        self.specs = specs
        self.record = record
        self.output = output

    def apply(self, plan: Plan) -> int:
        """Make the changes; gives their number. Raises ApplyFailed at the first that fails."""
        done = 0
        for change in plan.needed:
            resource = self.specs.resources[change.key]
            try:
                self._change(change, resource)
            except (SpecrunError, StartFailed) as error:
                message = error.message
                raise ApplyFailed(
                    f"{change.key}: {message}",
                    hint=getattr(error, "hint", "")
                    or f"{done} of {len(plan.needed)} changes were made before this one",
                    place=resource.place("spec"),
                ) from error
            done += 1
            self.output.news(f"{change.action.value} {change.key}   {change.action.word}d")
        for resource in self.specs.resources.values():  # what was kept is ours as well
            if resource.key not in self.record.entries and isinstance(resource.spec, ImageSpec):
                self._remember(resource)
        return done

    def _change(self, change: Change, resource: Resource) -> None:
        spec = resource.spec
        if isinstance(spec, ImageSpec):
            self._make_image(resource, spec)
        elif isinstance(spec, ProcessSpec):
            if change.action is Action.UPDATE:
                self._continue(resource, isinstance(spec, JobSpec))
                return
            if change.action is Action.REPLACE:
                self._remove(resource)
            self._run(resource, spec)

    def _make_image(self, resource: Resource, spec: ImageSpec) -> None:
        from specrun.store.assemble import assemble_image

        self._remember(resource)
        packages, suite = spec.packages.include, spec.packages.suite
        assemble_image(self.root, packages, tags=list(spec.tags), suite=suite, config=image_config(spec))

    def _remember(self, resource: Resource) -> str:
        """Record the intent to have this object; gives its token."""
        token = os.urandom(16).hex()
        self.record.entries[resource.key] = Entry(resource.kind, resource.metadata.name, resource.values, token)
        self.record.save(self.root)
        return token

    def _run(self, resource: Resource, spec: ProcessSpec) -> None:
        token = self._remember(resource)
        request = ContainerRequest(
            spec.image,
            name=resource.metadata.name,
            command=spec.command,
            entrypoint=spec.entrypoint,
            env=[f"{key}={value}" for key, value in spec.env.items()],
            workdir=spec.workingDir or "",
            user=spec.security.user or "",
            hostname=spec.hostname or "",
            labels={**resource.metadata.labels, TOKEN: token},
            detached=True,
            network=spec.network,
        )
        job = isinstance(spec, JobSpec)
        stdout, stderr = (self.output.stdout, self.output.stderr) if job else (None, None)
        running = self.engine.run(request, stdout=stdout, stderr=stderr)
        if not job:
            running.detach()
            return
        status = running.wait()
        self._judge(resource, status)

    def _continue(self, resource: Resource, job: bool) -> None:
        container = self.engine.get(resource.metadata.name)
        if job:
            status = self.engine.wait(container)
            for _, stream, data in read_log(container.directory):
                sink = self.output.stdout if stream == "stdout" else self.output.stderr
                if sink is not None:
                    os.write(sink, data)
            self._judge(resource, status)
            return
        running = self.engine.start(container)
        if running:
            running.detach()

    def _judge(self, resource: Resource, status: int) -> None:
        if status == 0:
            return
        container = self.engine.get(resource.metadata.name)
        lines = [data.decode("utf-8", "replace").rstrip() for _, _, data in read_log(container.directory, tail=5)]
        last = f"; its last output:\n    {chr(10).join(lines).replace(chr(10), chr(10) + '    ')}" if lines else ""
        raise JobFailed(f"the command ended with exit status {status}{last}", hint=f"specrun logs {container.name}")

    def _remove(self, resource: Resource) -> None:
        container = self._own(resource.key)
        if container:
            self.engine.stop(container, float(container.config.get("StopTimeout", 10)))
            self.engine.remove(container, force=True)

    def _own(self, key: str) -> Container | None:
        return own_container(self.engine, self.record.entries.get(key))


def own_container(engine: Engine, entry: Entry | None) -> Container | None:
    """The container of an entry, if there is one and it carries the entry's token."""
    if entry is None or entry.kind == "Image":
        return None
    try:
        container = engine.get(entry.name)
    except ContainerNotFound:
        return None
    return container if (container.config.get("Labels") or {}).get(TOKEN) == entry.token else None


def delete(root: Root, record: Project, news: Callable[[str], None]) -> int:
    """Remove everything that the project has made; gives the number of objects removed.

    An image that a container of somebody else uses stays, and is said to.
    """
    engine = Engine(root)
    engine.mend()
    removed = 0
    for key, entry in reversed(list(record.entries.items())):
        if entry.kind == "Image":
            continue
        if container := own_container(engine, entry):
            engine.stop(container, float(container.config.get("StopTimeout", 10)))
            engine.remove(container, force=True)
            news(f"- {key}   deleted")
            removed += 1
        del record.entries[key]
        record.save(root)
    for key, entry in list(record.entries.items()):
        removed += _delete_image(engine, key, entry, news)
    record.remove(root)
    return removed


def _delete_image(engine: Engine, key: str, entry: Entry, news: Callable[[str], None]) -> int:
    removed = False
    for tag in entry.values.get("tags", []):
        try:
            image = engine.images.resolve(tag)
        except SpecrunError:
            continue
        users = [container.name for container in engine.list(all=True) if container.image_id == image.id]
        if users:
            news(f"  {key}   kept: {tag} is used by {', '.join(users)}")
            continue
        removed = engine.images.untag(Reference.parse(tag)) or removed
    if removed:
        news(f"- {key}   deleted")
    return int(removed)
