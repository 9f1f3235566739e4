"""Kind Check: what must be true of a container or an image, looked at from outside."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from specrun.spec.models.base import AbsolutePath, Command, Environment, Mode, Model, Name, PortNumber, Seconds


class CommandCheck(Model):
    """A command in the container, and what it must do."""

    command: Command = Field(description="The program and its arguments.")
    env: Environment = Field(default={}, description="Environment variables.")
    user: str | None = Field(default=None, description="As whom.")
    exitCode: int = Field(default=0, ge=0, le=255, description="The exit status.")
    stdout: list[str] = Field(default=[], description="Regular expressions that its output must match.")
    stderr: list[str] = Field(default=[], description="Regular expressions that its error output must match.")
    notStdout: list[str] = Field(default=[], description="Regular expressions that its output must not match.")
    notStderr: list[str] = Field(default=[], description="Regular expressions that its error output must not match.")


class FileCheck(Model):
    """A file of the container."""

    path: AbsolutePath = Field(description="The file.")
    exists: bool = Field(default=True, description="Whether it is there.")
    type: Literal["file", "directory", "symlink", "socket", "fifo", "device"] | None = Field(
        default=None, description="What it is."
    )
    mode: Mode | None = Field(default=None, description='Its mode, as "0644".')
    uid: int | None = Field(default=None, ge=0, description="Its owner's number.")
    gid: int | None = Field(default=None, ge=0, description="Its group's number.")
    content: list[str] = Field(default=[], description="Regular expressions that its text must match.")
    notContent: list[str] = Field(default=[], description="Regular expressions that its text must not match.")
    executable: bool | None = Field(default=None, description="Whether anybody may execute it.")


class HttpCheck(Model):
    """A request, and its answer."""

    url: str = Field(description="http://… or https://…, from this host.")
    status: int = Field(default=200, ge=100, le=599, description="The status.")
    body: list[str] = Field(default=[], description="Regular expressions that the body must match.")
    headers: dict[str, str] = Field(default={}, description="Header -> regular expression.")


class PortCheck(Model):
    """A port, and whether something listens."""

    port: PortNumber = Field(description="The number, inside the container.")
    protocol: Literal["tcp", "udp"] = Field(default="tcp", description="The protocol.")
    listening: bool = Field(default=True, description="Whether something listens.")


class ProcessCheck(Model):
    """A process of the container."""

    command: str = Field(description="A regular expression that its command line matches.")
    count: int | None = Field(default=None, ge=0, description="How many there are; at least one by default.")
    user: str | None = Field(default=None, description="As whom it runs: a number.")


class MetadataCheck(Model):
    """What an image says about itself."""

    env: Environment = Field(default={}, description="Environment variables.")
    labels: dict[str, str] = Field(default={}, description="Labels.")
    entrypoint: list[str] | None = Field(default=None, description="The entrypoint.")
    cmd: list[str] | None = Field(default=None, description="The default command.")
    exposedPorts: list[str] = Field(default=[], description="Exposed ports, as 80/tcp.")
    volumes: list[AbsolutePath] = Field(default=[], description="Volumes.")
    workingDir: AbsolutePath | None = Field(default=None, description="The working directory.")
    user: str | None = Field(default=None, description="The user.")


class LogCheck(Model):
    """What the container has written."""

    contains: Annotated[list[str], Field(min_length=1)] = Field(description="Regular expressions that must match.")
    stream: Literal["stdout", "stderr"] | None = Field(default=None, description="Of one stream only.")


class CheckSpec(Model):
    """Assertions about a container or job of these specs, or about an image."""

    ONE_OF = ("container", "job", "image")

    container: Name | None = Field(default=None, description="A Container of these specs.")
    job: Name | None = Field(default=None, description="A Job of these specs.")
    image: str | None = Field(default=None, description="An image: commands run in a new container of it.")
    within: Seconds | None = Field(default=None, description="How long it may take until all is true, as 5s.")
    commands: list[CommandCheck] = Field(default=[], description="Commands and what they must do.")
    files: list[FileCheck] = Field(default=[], description="Files.")
    http: list[HttpCheck] = Field(default=[], description="Requests and their answers.")
    ports: list[PortCheck] = Field(default=[], description="Ports.")
    processes: list[ProcessCheck] = Field(default=[], description="Processes.")
    metadata: MetadataCheck | None = Field(default=None, description="What the image says about itself.")
    logs: list[LogCheck] = Field(default=[], description="What it has written.")
    exitCode: int | None = Field(default=None, ge=0, le=255, description="The exit status of a job.")
