"""The persisted record of a container's life, and what counts as alive.

`state.json` is replaced atomically. The file `owner` is locked (flock, shared) by whoever is responsible for the
container: the command that makes it, then its monitor until it ends. The kernel lets go of the lock however they
end, so a free lock beside a status that says otherwise is a crash, also after a restart of the machine.
"""

from __future__ import annotations

import fcntl
import os

from specrun_runtime import jsontext
from specrun_runtime.files import write_atomic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CREATING = "creating"
CREATED = "created"
RUNNING = "running"
RESTARTING = "restarting"
EXITED = "exited"

STOPPED_MARK = "stopped"
"""A file in the container's folder: somebody has stopped it by hand, so no policy starts it again."""

KEPT_MARK = "kept"
"""A file in the container's folder: it is being restarted by hand, so it stays although it is to be removed."""

ORDERS = "orders.json"
"""A file in the container's folder: what its monitor is to do otherwise than it was asked at its start."""

REMOVED_MARK = "removed"
"""A file in the container's folder: it is being removed by force, so a power cut may take the record of its end."""

TRANSITIONS = {
    CREATING: {CREATED, RUNNING, EXITED},
    CREATED: {RUNNING, EXITED, CREATED},
    RUNNING: {EXITED, RESTARTING},
    RESTARTING: {RUNNING, EXITED},
    EXITED: {RUNNING, EXITED},
}
"""Status -> what may follow it."""


class State:
    """What is known of one container's process. Times are seconds since 1970, 0.0 for never."""

    __slots__ = (
        "error",
        "exit_code",
        "finished_at",
        "monitor_pid",
        "oom_killed",
        "pid",
        "restarts",
        "start_time",
        "started_at",
        "status",
    )

    def __init__(self, status: str = CREATING) -> None:
        self.status = status
        self.pid = 0
        self.start_time = 0
        """Of the process `pid`, in clock ticks since boot: with the pid, it names one process for ever."""
        self.monitor_pid = 0
        self.restarts = 0
        """How often the policy has started it again since somebody started it."""
        self.exit_code = 0
        self.started_at = 0.0
        self.finished_at = 0.0
        self.error = ""
        self.oom_killed = False

    @property
    def is_up(self) -> bool:
        """Whether its monitor is at it: the container runs, or waits to be started again."""
        return self.status in (RUNNING, RESTARTING)

    def move(self, status: str) -> None:
        """Go to `status`; raises ValueError for a transition that does not exist."""
        if status not in TRANSITIONS[self.status]:
            raise ValueError(f"a container that is {self.status} cannot become {status}")
        self.status = status

    def document(self) -> dict[str, Any]:
        """As it is stored."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def parse(cls, data: bytes) -> State:
        """The opposite of `document`, from its JSON text. Raises ValueError for anything else."""
        document = jsontext.loads(data)
        state = cls()
        for name in cls.__slots__:
            value = document[name]
            if type(value) is not type(getattr(state, name)) and not isinstance(value, (int, float)):
                raise ValueError(f"{name}: {value!r}")
            setattr(state, name, value)
        if state.status not in TRANSITIONS:
            raise ValueError(f"status: {state.status!r}")
        return state


def load(directory: str) -> State:
    """The state in the container's folder. Raises FileNotFoundError, and ValueError for a damaged record."""
    with open(f"{directory}/state.json", "rb") as file:
        data = file.read(65536)
    try:
        return State.parse(data)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{directory}/state.json is damaged: {error}") from error


def save(directory: str, state: State, *, durable: bool = True) -> None:
    """Store the state."""
    write_atomic(f"{directory}/state.json", jsontext.dumps(state.document()).encode(), durable=durable)


def own(directory: str) -> int:
    """Take a share of the responsibility for the container; closing the descriptor gives it up."""
    descriptor = os.open(f"{directory}/owner", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def take_over(directory: str) -> int | None:
    """The whole responsibility, if nobody has a share of it; None when somebody has."""
    try:
        descriptor = os.open(f"{directory}/owner", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def is_owned(directory: str) -> bool:
    """Whether somebody is responsible for the container now; looks only, and writes nothing."""
    try:
        descriptor = os.open(f"{directory}/owner", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
