"""Kind Check: claims about containers, jobs, images, files, ports and pages, looked at from outside."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from specrun.checks.check import Check
from specrun.checks.matchers import BadExpectation, Matcher
from specrun.checks.subjects import (
    TIMEOUT,
    Exec,
    File,
    ImageConfig,
    ImageFile,
    Job,
    Log,
    Page,
    Port,
    Processes,
    Run,
    Subject,
)
from specrun.spec.models.base import AbsolutePath, Environment, ImageReference, Model, Name, PortNumber, Seconds, Texts

_SUBJECTS: dict[str, type[Subject]] = {
    "run": Run,
    "exec": Exec,
    "job": Job,
    "file": File,
    "image": ImageConfig,
    "log": Log,
    "processes": Processes,
    "port": Port,
    "http": Page,
}


def _expectations(values: dict[str, Any]) -> dict[str, Any]:
    for fact, wanted in values.items():
        try:
            Matcher.parse(wanted, (fact,))
        except BadExpectation as error:
            where = ".".join(str(part) for part in error.path)
            raise PydanticCustomError(
                "bad-expectation",
                "{found}",
                {
                    "found": f"{where}: {error}",
                    "expected": "a value, or equals, contains, matches, not, atLeast, atMost",
                },
            ) from error
    return values


_MATCHER = {
    "anyOf": [
        {"type": ["string", "number", "boolean", "null"]},
        {"type": "array"},
        {
            "type": "object",
            "properties": {
                "contains": {"not": {"enum": ["", None, []]}},
                "matches": {"type": "string", "minLength": 1},
                "atLeast": {"type": "number"},
                "atMost": {"type": "number"},
                "equals": True,
                "not": True,
            },
            "minProperties": 1,
            "additionalProperties": False,
        },
    ]
}
Expectations = Annotated[
    dict[str, Any],
    Field(min_length=1),
    AfterValidator(_expectations),
    WithJsonSchema({"type": "object", "minProperties": 1, "additionalProperties": _MATCHER}),
]


_TIMEOUT = "How long it may take before it is killed, as 10s; 1m by default, 0s for as long as it likes."


class RunSubject(Model):
    """A command in a new container of an image, removed afterwards."""

    image: ImageReference = Field(description="The image.")
    command: Texts | None = Field(
        default=None, description="The program and its arguments; the image's own by default."
    )
    env: Environment = Field(default_factory=dict, description="Environment variables.")
    user: str | None = Field(default=None, description="As whom, as user or user:group.")
    network: str = Field(default="none", description="The network: none unless it says otherwise.")
    timeout: Seconds | None = Field(default=None, description=_TIMEOUT)


class ExecSubject(Model):
    """A command in a running container."""

    container: Name = Field(description="A Container of these specs.")
    command: Texts = Field(description="The program and its arguments.")
    env: Environment = Field(default_factory=dict, description="Environment variables besides the container's.")
    user: str | None = Field(default=None, description="As whom, as user or user:group; the container's by default.")
    workingDir: AbsolutePath | None = Field(default=None, description="Where; the container's by default.")
    timeout: Seconds | None = Field(default=None, description=_TIMEOUT)


class FileSubject(Model):
    """A file in a running container, or in an image."""

    ONE_OF = ("container", "image")

    container: Name | None = Field(default=None, description="A Container of these specs.")
    image: ImageReference | None = Field(default=None, description="An image.")
    path: AbsolutePath = Field(description="The file; a link at its end is followed unless `target` is expected.")


class PortSubject(Model):
    """A TCP port."""

    host: str = Field(default="127.0.0.1", description="The host.")
    port: PortNumber = Field(description="The number.")


class Claim(Model):
    """One sentence, what it is about, and what is expected."""

    ONE_OF = tuple(_SUBJECTS)

    that: Annotated[str, Field(min_length=1)] = Field(description="The claim in words.")
    run: RunSubject | None = Field(default=None, description="A command. Facts: exitCode, stdout, stderr.")
    exec: ExecSubject | None = Field(
        default=None, description="A command in a running container. Facts: exitCode, stdout, stderr."
    )
    job: Name | None = Field(default=None, description="A Job of these specs. Facts: exitCode, stdout, stderr.")
    file: FileSubject | None = Field(
        default=None, description="A file. Facts: exists, type, mode, uid, gid, size, content, target."
    )
    image: ImageReference | None = Field(
        default=None,
        description="An image's configuration. Facts: entrypoint, command, env, labels, workingDir, user, ports, "
        "volumes, layers, size.",
    )
    log: Name | None = Field(default=None, description="A Container's log. Facts: stdout, stderr, all.")
    processes: Name | None = Field(default=None, description="A Container's processes. Facts: count, commands.")
    port: PortSubject | None = Field(default=None, description="A TCP port. Facts: open.")
    http: str | None = Field(
        default=None, pattern="^https?://[^/]", description="A page. Facts: status, body, headers."
    )
    eventually: Seconds | None = Field(default=None, description="How long it may take to become true, as 5s.")
    expect: Expectations = Field(
        description="Fact -> a value, or a mapping with equals, contains, matches, not, atLeast, atMost."
    )

    @model_validator(mode="after")
    def _facts(self) -> Self:
        kind = next((name for name in _SUBJECTS if getattr(self, name) is not None), None)
        for fact in self.expect if kind else ():
            facts = _SUBJECTS[str(kind)].facts
            if fact not in facts:
                message = f"expects {fact!r}, which is no fact of {kind}"
                raise PydanticCustomError("unknown-fact", "{found}", {"found": message, "expected": ", ".join(facts)})
        return self

    @classmethod
    def schema_rules(cls) -> list[dict[str, Any]]:
        """Which facts each subject has."""
        return [
            {
                "if": {"required": [name], "properties": {name: {"not": {"type": "null"}}}},
                "then": {"properties": {"expect": {"propertyNames": {"enum": list(subject.facts)}}}},
            }
            for name, subject in _SUBJECTS.items()
        ]

    def check(self) -> Check:
        """What the engine of checks runs."""
        return Check(self.that, self._subject(), self.expect, self.eventually or 0.0)

    def _subject(self) -> Subject:
        if self.run:
            run = self.run
            env = [f"{key}={value}" for key, value in run.env.items()]
            time = TIMEOUT if run.timeout is None else run.timeout
            return Run(run.image, run.command, time, env=env, user=run.user or "", network=run.network)
        if self.exec:
            one = self.exec
            env = [f"{key}={value}" for key, value in one.env.items()]
            time = TIMEOUT if one.timeout is None else one.timeout
            return Exec(one.container, one.command, time, env=env, user=one.user or "", workdir=one.workingDir or "")
        if self.file:
            file = self.file
            return File(file.container, file.path) if file.container else ImageFile(file.image or "", file.path)
        if self.port:
            return Port(self.port.host, self.port.port)
        if self.http:
            return Page(self.http)
        if self.image:
            return ImageConfig(self.image)
        if self.job:
            return Job(self.job)
        return Log(self.log) if self.log else Processes(self.processes or "")


class CheckSpec(Model):
    """Claims, run by `specrun check`; a list of them is enough."""

    LIST_FIELD: ClassVar[str] = "claims"

    claims: Annotated[list[Claim], Field(min_length=1)] = Field(description="The claims.")
