"""Kinds Container and Job: a process in a container, kept running or run to completion."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from specrun.spec import short
from specrun.spec.models.base import (
    AbsolutePath,
    Address,
    Bytes,
    Command,
    Cpus,
    Environment,
    ImageReference,
    Mac,
    Mode,
    Model,
    Name,
    PortNumber,
    Seconds,
)

_NETWORK = "none, host, bridge, a Network of these specs, or container:NAME"


_CONDITIONS = {"container": ("started", "healthy"), "job": ("completed",), "registry": ("started",)}


class Dependency(Model):
    """Something that must be there first: exactly one of its kinds is named."""

    ONE_OF = ("image", "build", "container", "job", "registry", "push", "check")

    image: Name | None = Field(default=None, description="An Image of these specs.")
    build: Name | None = Field(default=None, description="A Build of these specs.")
    container: Name | None = Field(default=None, description="A Container of these specs.")
    job: Name | None = Field(default=None, description="A Job of these specs.")
    registry: Name | None = Field(default=None, description="A Registry of these specs.")
    push: Name | None = Field(default=None, description="A Push of these specs.")
    check: Name | None = Field(default=None, description="A Check of these specs, which must pass.")
    condition: Literal["started", "healthy", "completed"] | None = Field(
        default=None,
        description="started (the default) or healthy for containers, completed for jobs.",
    )

    @model_validator(mode="after")
    def _fits(self) -> Dependency:
        kind = self.kind
        fitting = _CONDITIONS.get(kind, ())
        if self.condition is not None and self.condition not in fitting:
            expected = f"condition {' or '.join(fitting)}" if fitting else "no condition"
            found = f"{'an' if kind[0] in 'aeiou' else 'a'} {kind} is never {self.condition}"
            raise PydanticCustomError("bad-dependency", "{found}", {"found": found, "expected": expected})
        return self

    @classmethod
    def schema_rules(cls) -> list[dict[str, Any]]:
        """Which condition fits which kind."""
        return [
            {
                "if": {"required": [kind], "properties": {kind: {"not": {"type": "null"}}}},
                "then": {"properties": {"condition": {"enum": [None, *_CONDITIONS.get(kind, ())]}}},
            }
            for kind in cls.ONE_OF
        ]

    @property
    def kind(self) -> str:
        """The kind of what is depended on, in lower case."""
        return next(kind for kind in type(self).model_fields if kind != "condition" and getattr(self, kind))

    @property
    def key(self) -> str:
        """`kind/name` of what is depended on."""
        return f"{self.kind}/{getattr(self, self.kind)}"


def _port(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        return value
    try:
        found = short.ports(value)
    except ValueError as error:
        expected = "[address:][published:]port[/protocol]"
        raise PydanticCustomError("bad-port", "{found}", {"found": str(error), "expected": expected}) from error
    if len(found) == 1:
        return found[0]
    host = {"hostPort": f"{found[0]['hostPort']}-{found[-1]['hostPort']}"} if "hostPort" in found[0] else {}
    return {**found[0], **host, "containerPort": f"{found[0]['containerPort']}-{found[-1]['containerPort']}"}


_SHORT_PORT = Annotated[
    str, Field(pattern="^(([0-9.]+|\\[[0-9a-fA-F:.]+\\]):)?([0-9]*(-[0-9]+)?:)?[0-9]+(-[0-9]+)?(/(tcp|udp|sctp))?$")
]
_SHORT_VOLUME = Annotated[str, Field(pattern="^([^:]+:)?/[^:]*(:[a-zA-Z,]+)?$")]
_TEXT = Annotated[str, Field(min_length=1)]
_LIMIT = Annotated[int, Field(ge=-1)]
_RANGE = Annotated[str, Field(pattern="^[0-9]{1,5}-[0-9]{1,5}$")]


class Port(Model):
    """A port of the container, and where it is published. In short: `[address:][published:]port[/protocol]`."""

    containerPort: PortNumber | _RANGE = Field(description="The port in the container, or a range.")
    hostPort: Annotated[int, Field(ge=0, le=65535)] | _RANGE | None = Field(
        default=None, description="The port on the host, or a range; a free one by default."
    )
    hostIP: Address | None = Field(default=None, description="The host's address; all of them by default.")
    protocol: Literal["tcp", "udp", "sctp"] = Field(default="tcp", description="The protocol.")


def _volume(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        fields = short.volume(value)
        if unknown := fields.pop("options", None):
            raise ValueError(f"{unknown[0]!r} is not an option: expected ro, rw, z, Z, nocopy or a propagation")
    except ValueError as error:
        expected = "[source:]target[:options]"
        raise PydanticCustomError("bad-volume", "{found}", {"found": str(error), "expected": expected}) from error
    return fields


class Mount(Model):
    """Files that come from elsewhere. In short: `[source:]target[:options]`."""

    type: Literal["volume", "bind", "tmpfs"] = Field(default="volume", description="What it is.")
    source: str | None = Field(default=None, description="A volume's name, or a path of the host beside the spec.")
    target: AbsolutePath = Field(description="Where it is in the container.")
    readOnly: bool = Field(default=False, description="Not to be written to.")
    propagation: Literal["private", "rprivate", "shared", "rshared", "slave", "rslave"] | None = Field(
        default=None, description="What of later mounts is seen on the other side, of a bind."
    )
    selinux: Literal["z", "Z"] | None = Field(default=None, description="Accepted as Docker does.")
    noCopy: bool = Field(default=False, description="Do not fill a new volume from the image.")
    createHostPath: bool = Field(default=False, description="Make the host's folder of a bind when it is missing.")
    size: Bytes | None = Field(default=None, description="The size of a tmpfs, as 64m.")
    mode: Mode | None = Field(default=None, description='The mode of a tmpfs, as "1777".')

    @classmethod
    def schema_rules(cls) -> list[dict[str, Any]]:
        """Which fields fit which type."""

        def when(kind: str, then: dict[str, Any]) -> dict[str, Any]:
            given = {"properties": {"type": {"const": kind}}, "required": ["type"]}
            return {"if": given, "then": then}

        unset = {"type": "null"}
        not_tmpfs = {"properties": {"size": unset, "mode": unset}}
        not_bind = {"properties": {"propagation": unset, "createHostPath": {"const": False}}}
        bind = {"required": ["source"], "properties": {"source": {"type": "string", "minLength": 1}}}
        tmpfs = {"properties": {"source": {"enum": [None, ""]}}}
        return [
            when("bind", bind),
            when("tmpfs", tmpfs),
            {"if": {"properties": {"type": {"const": "tmpfs"}}, "required": ["type"]}, "else": not_tmpfs},
            {"if": {"properties": {"type": {"const": "bind"}}, "required": ["type"]}, "else": not_bind},
        ]

    @model_validator(mode="after")
    def _fits(self) -> Mount:
        def refuse(found: str, expected: str) -> None:
            raise PydanticCustomError("bad-volume", "{found}", {"found": found, "expected": expected})

        if self.type == "bind" and not self.source:
            refuse("a bind without its source", "source: a path of the host")
        if self.type == "tmpfs" and self.source:
            refuse("a tmpfs with a source", "no source")
        if self.type != "tmpfs" and (self.size is not None or self.mode is not None):
            refuse(f"size and mode of a {self.type}", "type: tmpfs")
        if self.type != "bind" and (self.propagation or self.createHostPath):
            refuse(f"propagation or createHostPath of a {self.type}", "type: bind")
        return self


def _file(value: Any) -> Any:
    return {"source": value} if isinstance(value, str) else value


class FileMount(Model):
    """A Secret or Config as a file of the container. In short: its name."""

    source: Name = Field(description="The object's name.")
    target: str | None = Field(
        default=None, description="The path in the container; /run/secrets/NAME for secrets, /NAME for configs."
    )
    uid: int | None = Field(default=None, ge=0, description="The file's owner.")
    gid: int | None = Field(default=None, ge=0, description="The file's group.")
    mode: Mode | None = Field(default=None, description='The file\'s mode; "0400" for secrets, "0444" for configs.')


def _attachment(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class Attachment(Model):
    """A network that the container joins. In short: its name."""

    name: str = Field(min_length=1, description="A Network of these specs, or bridge.")
    aliases: list[str] = Field(default_factory=list, description="More names that it answers to.")
    ipv4Address: Address | None = Field(default=None, description="Its address; a free one by default.")
    ipv6Address: Address | None = Field(default=None, description="Its IPv6 address.")
    macAddress: Mac | None = Field(default=None, description="Its MAC address.")


class Limits(Model):
    """What it may use at most."""

    memory: Bytes | None = Field(default=None, description="Memory, as 64m.")
    memorySwap: Bytes | None = Field(default=None, description="Memory and swap together.")
    cpus: Cpus | None = Field(default=None, description="Processors' worth of time, as 0.5.")
    pids: int | None = Field(default=None, ge=1, description="Processes and threads.")


class Reservations(Model):
    """What it is meant to have when memory is short."""

    memory: Bytes | None = Field(default=None, description="Memory, as 32m.")


class Resources(Model):
    """What it may use."""

    limits: Limits = Field(default_factory=Limits, description="What it may use at most.")
    reservations: Reservations = Field(default_factory=Reservations, description="What it is meant to have.")
    cpuShares: int | None = Field(default=None, ge=2, le=262144, description="Its weight among others; 1024 is usual.")
    cpuset: str | None = Field(default=None, pattern="^[0-9,-]+$", description="The processors it may use, as 0-3,5.")


class Capabilities(Model):
    """Parts of root's power."""

    add: list[str] = Field(default_factory=list, description="Given beyond the default, as NET_ADMIN; ALL for all.")
    drop: list[str] = Field(default_factory=list, description="Taken away from the default; ALL for all.")


class Security(Model):
    """As whom it runs, and what it may do."""

    user: str | None = Field(default=None, description="The user: name or number, with :group if wanted.")
    groups: list[str] = Field(default_factory=list, description="More groups.")
    privileged: bool = Field(default=False, description="Hardly isolated: all capabilities and devices.")
    capabilities: Capabilities = Field(default_factory=Capabilities, description="Parts of root's power.")
    readOnlyRootFilesystem: bool = Field(default=False, description="Nothing of the image may be written to.")
    noNewPrivileges: bool | None = Field(default=None, description="setuid programs gain nothing.")
    seccomp: str | None = Field(default=None, description="unconfined, or a profile: a file beside the spec.")
    userns: Literal["host", "private"] | None = Field(default=None, description="A user namespace of its own.")
    options: list[str] = Field(default_factory=list, description="More of Docker's --security-opt.")


class Healthcheck(Model):
    """How to see that it is well."""

    test: list[str] | str | None = Field(
        default=None, description="[CMD, program, …], [CMD-SHELL, line], [NONE], or a line for the shell."
    )
    interval: Seconds | None = Field(default=None, description="Between two probes; 30s by default.")
    timeout: Seconds | None = Field(default=None, description="How long a probe may take; 30s by default.")
    retries: int | None = Field(default=None, ge=1, description="Failures in a row that make it unhealthy; 3.")
    startPeriod: Seconds | None = Field(default=None, description="At first, failures do not count this long.")
    startInterval: Seconds | None = Field(default=None, description="Between two probes of that time; 5s.")
    disable: bool = Field(default=False, description="Not even the image's own probe.")


class Logging(Model):
    """How much of its output is kept."""

    maxSize: Bytes | None = Field(default=None, description="A log file's size, as 10m.")
    maxFile: int | None = Field(default=None, ge=1, description="How many files are kept.")


class Dns(Model):
    """Whom it asks for names."""

    servers: list[Address] = Field(default_factory=list, description="Servers.")
    search: list[str] = Field(default_factory=list, description="Domains that short names are looked for in.")
    options: list[str] = Field(default_factory=list, description="Options of the resolver.")


class Ulimit(Model):
    """A limit of its processes."""

    soft: int = Field(ge=-1, description="The limit; -1 for none.")
    hard: int = Field(ge=-1, description="How far the process may raise it; -1 for no end.")


def _ulimit(value: Any) -> Any:
    return {"soft": value, "hard": value} if isinstance(value, int) and not isinstance(value, bool) else value


def _device(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    source, _, rest = value.partition(":")
    target, _, permissions = rest.partition(":")
    return {"source": source, "target": target or source, "permissions": permissions or "rwm"}


class Device(Model):
    """A device of the host. In short: `source[:target[:permissions]]`."""

    source: AbsolutePath = Field(description="The device on the host.")
    target: AbsolutePath | None = Field(default=None, description="Its path in the container; the same by default.")
    permissions: str = Field(default="rwm", pattern="^[rwm]{1,3}$", description="read, write, mknod.")


class Reload(Model):
    """What to do instead of replacing it when only the content of its files has changed."""

    signal: str = Field(description="The signal that makes it read them again, as HUP.", pattern="^[A-Z0-9+]+$")


class Update(Model):
    """How it is replaced."""

    order: Literal["start-first", "stop-first"] = Field(
        default="stop-first", description="Whether the new one must be well before the old one is stopped."
    )
    monitor: Seconds = Field(default=5.0, description="How long the new one is watched.")
    onFailure: Literal["rollback", "pause"] = Field(
        default="rollback", description="Whether the old one comes back when the new one is not well."
    )


class ProcessSpec(Model):
    """What Container and Job have in common."""

    AT_MOST_ONE_OF = ("network", "networks")

    image: ImageReference = Field(description="The image: of an Image or Build of these specs, or in the store.")
    command: Command | None = Field(default=None, description="Replaces the image's command (Docker's CMD).")
    entrypoint: Command | None = Field(default=None, description="Replaces the image's entrypoint, and its command.")
    workingDir: AbsolutePath | None = Field(default=None, description="The working directory.")
    env: Environment = Field(default_factory=dict, description="Environment variables, over the image's.")
    envFiles: list[str] = Field(
        default_factory=list, description="Files of variables, beside the spec; env goes over them."
    )
    hostname: str | None = Field(default=None, description="The host name; the id's first 12 digits by default.")
    domainname: str | None = Field(default=None, description="The domain name.")
    network: str | None = Field(default=None, min_length=1, description=f"{_NETWORK}; bridge by default.")
    networks: list[Annotated[Attachment, BeforeValidator(_attachment, json_schema_input_type=_TEXT | Attachment)]] = (
        Field(default_factory=list, description="The networks that it joins, instead of `network`.")
    )
    ports: list[Annotated[Port, BeforeValidator(_port, json_schema_input_type=PortNumber | _SHORT_PORT | Port)]] = (
        Field(default_factory=list, description="Published ports.")
    )
    expose: list[Annotated[str, Field(pattern="^[0-9]{1,5}(-[0-9]{1,5})?(/(tcp|udp))?$")]] = Field(
        default_factory=list, description="Ports that it listens on, without being published."
    )
    extraHosts: dict[str, str] = Field(default_factory=dict, description="Host name -> address, for its /etc/hosts.")
    dns: Dns = Field(default_factory=Dns, description="Whom it asks for names.")
    volumes: list[Annotated[Mount, BeforeValidator(_volume, json_schema_input_type=_SHORT_VOLUME | Mount)]] = Field(
        default_factory=list, description="Files that come from elsewhere."
    )
    volumesFrom: list[str] = Field(
        default_factory=list, description="Containers whose volumes it has too, with :ro if wanted."
    )
    secrets: list[Annotated[FileMount, BeforeValidator(_file, json_schema_input_type=Name | FileMount)]] = Field(
        default_factory=list, description="Secrets as files, below /run/secrets by default."
    )
    configs: list[Annotated[FileMount, BeforeValidator(_file, json_schema_input_type=Name | FileMount)]] = Field(
        default_factory=list, description="Configs as files."
    )
    resources: Resources = Field(default_factory=Resources, description="What it may use.")
    ulimits: dict[str, Annotated[Ulimit, BeforeValidator(_ulimit, json_schema_input_type=_LIMIT | Ulimit)]] = Field(
        default_factory=dict, description="Limits of its processes, as nofile."
    )
    sysctls: dict[str, str] = Field(default_factory=dict, description="Kernel parameters of its namespaces.")
    shmSize: Bytes | None = Field(default=None, description="The size of /dev/shm, as 64m.")
    devices: list[Annotated[Device, BeforeValidator(_device, json_schema_input_type=AbsolutePath | Device)]] = Field(
        default_factory=list, description="Devices of the host."
    )
    security: Security = Field(default_factory=Security, description="As whom it runs, and what it may do.")
    pid: str | None = Field(default=None, description="host, or container:NAME, instead of a namespace of its own.")
    ipc: str | None = Field(default=None, description="host, private, shareable or container:NAME.")
    uts: Literal["host"] | None = Field(default=None, description="host instead of a namespace of its own.")
    cgroupns: Literal["host", "private"] | None = Field(default=None, description="The cgroup namespace.")
    cgroupParent: str | None = Field(default=None, description="The control group that its own is made in.")
    oomScoreAdj: int | None = Field(default=None, ge=-1000, le=1000, description="Who is killed first, -1000 to 1000.")
    oomKillDisable: bool = Field(default=False, description="Wait instead of being killed when memory is short.")
    init: bool = Field(default=False, description="A small init as the first process, that reaps the others.")
    tty: bool = Field(default=False, description="A terminal for its output.")
    stdinOpen: bool = Field(default=False, description="Its input stays open.")
    stopSignal: str | None = Field(default=None, description="What asks it to end; SIGTERM by default.")
    stopTimeout: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Seconds until it is killed; 10 by default."
    )
    logging: Logging = Field(default_factory=Logging, description="How much of its output is kept.")
    platform: str | None = Field(default=None, description="os/architecture; refused where it can't run.")
    dependsOn: list[Dependency] = Field(default_factory=list, description="What must be there first.")


class ContainerSpec(ProcessSpec):
    """A process that is kept running."""

    restart: Annotated[str, Field(pattern="^(no|always|unless-stopped|on-failure(:[0-9]{1,6})?)$")] | None = Field(
        default=None, description="no, on-failure[:tries], always or unless-stopped."
    )
    healthcheck: Healthcheck | None = Field(default=None, description="How to see that it is well.")
    onUnhealthy: Literal["restart", "replace", "stop"] | None = Field(
        default=None, description="What `apply --watch` does with it when it is unhealthy."
    )
    reload: Reload | None = Field(default=None, description="A signal instead of a replacement for changed files.")
    update: Update = Field(default_factory=Update, description="How it is replaced.")


class JobSpec(ProcessSpec):
    """A process that is run to completion, once for each version of its spec."""

    timeout: Seconds | None = Field(default=None, description="How long it may take.")
