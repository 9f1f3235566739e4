"""One container, as its folder says: what was asked for, how it is, and what a command leaves there for its monitor."""

from __future__ import annotations

import os

from specrun.engine import groups
from specrun.errors import NotFound
from specrun.files import locked
from specrun_runtime import health, state
from specrun_runtime.cgroups import Cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from specrun.engine.record import Record


class ContainerNotFound(NotFound):
    """No container has that name, id or beginning of an id."""


class Container:
    """A container: what was asked for, and how it is."""

    __slots__ = ("_group", "directory", "record", "state")

    def __init__(self, directory: str, record: Record, known: state.State, group: str) -> None:
        self._group = group
        self.directory = directory
        self.record = record
        self.state = known

    @property
    def id(self) -> str:
        """64 hexadecimal digits."""
        return self.record.id

    @property
    def name(self) -> str:
        """Unique in its root."""
        return self.record.name

    @property
    def image(self) -> str:
        """The image, as it was asked for."""
        return self.record.image

    @property
    def image_id(self) -> str:
        """`sha256:` and the digest of the image's configuration."""
        return self.record.image_id

    @property
    def created(self) -> float:
        """Seconds since 1970."""
        return self.record.created

    @property
    def path(self) -> str:
        """The program."""
        return self.record.path

    @property
    def args(self) -> list[str]:
        """The program's arguments."""
        return self.record.args

    @property
    def config(self) -> dict[str, Any]:
        """`Config` of `docker inspect`."""
        return self.record.config

    @property
    def is_paused(self) -> bool:
        """Whether it runs and its processes are frozen; the kernel is asked."""
        return self.state.status == state.RUNNING and self.cgroup.is_frozen()

    @property
    def status(self) -> str:
        """What Docker calls it: created, running, paused, restarting or exited."""
        return "paused" if self.is_paused else self.state.status

    @property
    def health(self) -> dict[str, Any] | None:
        """`State.Health` of `docker inspect`; None when there is no check."""
        words = (self.config.get("Healthcheck") or {}).get("Test") or ["NONE"]
        return None if words[0] == "NONE" else health.load(self.directory) or dict(health.UNKNOWN)

    @property
    def cgroup(self) -> Cgroup:
        """Its control groups."""
        return Cgroup(self._group, groups.mounted())

    @property
    def host_config(self) -> dict[str, Any]:
        """`HostConfig` of `docker inspect`."""
        return self.record.host_config


def policy_name(container: Container) -> str:
    """The restart policy: `no`, `always`, `unless-stopped` or `on-failure`."""
    policy = container.host_config.get("RestartPolicy") or {}
    return str(policy.get("Name") or "no")


def patience(container: Container, timeout: float | None) -> float:
    """How many seconds a stop waits before it kills: `timeout`, or what the container was made with."""
    return float(container.config.get("StopTimeout", 10) if timeout is None else timeout)


def make_mark(container: Container, mark: str) -> None:
    """Leave an empty file in the container's folder, which its monitor looks for."""
    os.close(os.open(f"{container.directory}/{mark}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def clear_mark(container: Container, mark: str) -> None:
    """Take it away again."""
    try:
        os.unlink(f"{container.directory}/{mark}")
    except FileNotFoundError:
        pass


class Changing:
    """One command at a time changes a container; what it was asked to change may be gone by then."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._lock = locked(f"{container.directory}/change")

    def __enter__(self) -> None:
        try:
            self._lock.__enter__()
        except FileNotFoundError as error:
            raise ContainerNotFound(f"No such container: {self._container.id}") from error
        if not os.path.exists(f"{self._container.directory}/state.json"):
            self._lock.__exit__(None, None, None)
            raise ContainerNotFound(f"No such container: {self._container.id}")

    def __exit__(self, *_: object) -> None:
        self._lock.__exit__(None, None, None)
