"""The containers that exist in a root: looked up, listed, signalled, awaited and removed.

Nothing here makes or starts one, so that it loads little: most verbs need no more.
"""

from __future__ import annotations

import _signal
import fcntl
import os
import time

from specrun import events
from specrun.engine import groups
from specrun.engine.container import Changing, Container, ContainerNotFound, make_mark, patience, policy_name
from specrun.engine.mend import discard, mend
from specrun.engine.record import Record, event_attributes, holder_of, release_name
from specrun.engine.signals import signal_number
from specrun.errors import Conflict, SpecrunError
from specrun_runtime import state
from specrun_runtime.fds import open_process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from specrun.network.networks import NetworkStore
    from specrun.paths import Root
    from specrun.store.images import ImageStore


class Existing:
    """The containers of one root."""

    def __init__(self, root: Root) -> None:
        self.root = root
        self._images: ImageStore | None = None

    @property
    def images(self) -> ImageStore:
        """The images of the root."""
        if self._images is None:
            from specrun.store.images import ImageStore

            self._images = ImageStore(self.root)
        return self._images

    @images.setter
    def images(self, store: ImageStore) -> None:
        self._images = store

    @property
    def networks(self) -> NetworkStore:
        """The networks of the root."""
        from specrun.network.networks import NetworkStore

        return NetworkStore(self.root)

    def get(self, name_or_id: str) -> Container:
        """The container of this name, id or unambiguous beginning of an id."""
        identity = holder_of(self.root, name_or_id) if "/" not in name_or_id.strip("/") else ""
        if not identity:
            identity = self._by_id(name_or_id)
        found = self._load(identity)
        if found is None:
            raise ContainerNotFound(f"No such container: {name_or_id}")
        return found

    def list(self, *, all: bool = False) -> list[Container]:
        """The running containers, or all of them; the newest first."""
        found = [container for container in map(self._load, self._identities()) if container]
        if not all:
            found = [container for container in found if container.state.is_up]
        return sorted(found, key=lambda container: container.created, reverse=True)

    def is_running(self, container: Container) -> bool:
        """Whether it runs now."""
        current = self._load(container.id)
        return current is not None and current.state.is_up

    def wait(self, container: Container) -> int:
        """Wait until the container has ended, if only to be started again; gives its exit status."""
        if policy_name(container) != "no" and container.state.is_up:
            return self._wait_for_one_end(container)
        try:
            result = os.open(f"{container.directory}/exit", os.O_RDONLY | os.O_CLOEXEC)
            owner = os.open(f"{container.directory}/owner", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise ContainerNotFound(f"No such container: {container.id}") from error
        try:
            while (
                (known := self._load(container.id))
                and known.state.status == state.CREATED
                and not known.state.finished_at
            ):
                time.sleep(0.02)
            # The monitor holds a share of this lock as long as it lives; both files stay readable when removed.
            fcntl.flock(owner, fcntl.LOCK_EX)
            text = os.pread(result, 16, 0)
        finally:
            os.close(owner)
            os.close(result)
        if text:
            return int(text)
        self.mend()
        return self.get(container.id).state.exit_code

    def _wait_for_one_end(self, container: Container) -> int:
        """Of a container that its policy starts again: the end of the life that it has now."""
        restarts = container.state.restarts
        while True:
            known = self.get(container.id).state
            if not known.is_up and not state.is_owned(container.directory):
                self.mend()
                return self.get(container.id).state.exit_code
            if known.restarts != restarts or known.status == state.RESTARTING:
                return known.exit_code
            time.sleep(0.02)

    def kill(self, container: Container, number: int = 9) -> None:
        """Send a signal to the container's first process."""
        handle = open_process(container.state.pid, container.state.start_time) if container.state.pid else None
        if handle is None:
            raise Conflict(f"Cannot kill container: {container.name}: Container {container.id} is not running")
        chosen = container.config.get("StopSignal")
        if number == 9 or not chosen or number == signal_number(chosen):
            _stay_down(container)
        try:
            _signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            pass
        finally:
            os.close(handle)
        if number in (9, self.stop_signal(container)) and container.is_paused:
            container.cgroup.thaw()  # a frozen process takes no signal
        self.tell(container, "kill", signal=str(number))

    def stop_signal(self, container: Container) -> int:
        """The number of the signal that asks it to end."""
        return signal_number(container.config.get("StopSignal") or "SIGTERM")

    def stop(self, container: Container, timeout: float | None = None, signal: int = 0) -> None:
        """Send `signal`, and SIGKILL after `timeout` seconds; returns when the container has ended.

        Left out, both are the container's own. A negative timeout never ends.
        """
        if not container.state.is_up:
            return
        _stay_down(container)
        try:
            self.kill(container, signal or self.stop_signal(container))
            if not self.ends_within(container, patience(container, timeout)):
                self.kill(container)
                self._require_end(container)
        except Conflict:
            self._require_end(container)  # it ended by itself
        self.tell(container, "stop")

    def remove(self, container: Container, *, force: bool = False, volumes: bool = False) -> None:
        """Remove a container that is not running, or with `force` any; with `volumes` its anonymous volumes too."""
        with self.changing(container):
            known = state.load(container.directory)
            container.state = known
            if known.is_up:
                if not force:
                    before = "Unpause and then stop" if container.is_paused else "Stop"
                    raise Conflict(
                        f"You cannot remove a {container.status} container {container.id}. "
                        f"{before} the container before attempting removal or force remove"
                    )
                _stay_down(container)
                make_mark(container, state.REMOVED_MARK)
                try:
                    self.kill(container)
                except Conflict:
                    pass
                self._require_end(container)
            discard(self.root, container.id, container.id)
            release_name(self.root, container.name, container.id)
            self.tell(container, "destroy")
            if volumes:
                names = {mount["Name"] for mount in container.record.mounts if mount["Type"] == "volume"}
                if names:
                    from specrun.engine.volumes import VolumeStore

                    VolumeStore(self.root).remove_unused(lambda one: one.anonymous and one.name in names)

    def tell(self, container: Container, action: str, **more: str) -> None:
        """Record an event of the container; `more` are attributes of this kind of event."""
        events.emit(self.root, "container", action, container.id, {**event_attributes(container.record), **more})

    def mend(self) -> None:
        """Clear what crashed commands left."""
        mend(self.root)

    def changing(self, container: Container) -> Changing:
        """Alone for the one command that changes the container."""
        return Changing(container)

    def ends_within(self, container: Container, timeout: float) -> bool:
        """Whether the monitor lets go of the container within `timeout` seconds; a negative one never ends."""
        began = time.monotonic()
        while True:
            if not os.path.exists(container.directory):
                return True
            owner = state.take_over(container.directory)
            if owner is not None:
                os.close(owner)
                return True
            waited = time.monotonic() - began
            if 0 <= timeout < waited:
                return False
            time.sleep(0.001 if waited < 0.1 else 0.005)

    def _require_end(self, container: Container) -> None:
        if not self.ends_within(container, 10.0):
            raise SpecrunError(
                f"the monitor of container {container.name} is not responding (pid {container.state.monitor_pid})",
                hint="look at that process; when it has ended, the next command clears what it has left",
            )
        try:
            recorded = not state.load(container.directory).is_up
        except (OSError, ValueError):
            recorded = False
        if not recorded:
            self.mend()

    def _identities(self) -> Iterator[str]:
        try:
            return iter([entry for entry in os.listdir(self.root.containers) if not entry.startswith(".")])
        except FileNotFoundError:
            return iter(())

    def _by_id(self, beginning: str) -> str:
        if not beginning or not set(beginning) <= set("0123456789abcdef"):
            raise ContainerNotFound(f"No such container: {beginning}")
        found = [identity for identity in self._identities() if identity.startswith(beginning)]
        if len(found) > 1:
            raise ContainerNotFound(f"Multiple IDs found with provided prefix: {beginning}")
        return found[0] if found else beginning

    def _load(self, identity: str) -> Container | None:
        directory = f"{self.root.containers}/{identity}"
        try:
            known = state.load(directory)
            record = Record.load(directory)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError as error:
            raise SpecrunError(str(error)) from error
        if known.status == state.CREATING:
            return None
        return Container(directory, record, known, groups.name_of(self.root, record))


def _stay_down(container: Container) -> None:
    """Before it is stopped: no restart policy is to start it again. For `start --restored` this outlives a reboot."""
    if policy_name(container) != "no":
        try:
            make_mark(container, state.STOPPED_MARK)
        except FileNotFoundError:
            pass  # it is gone altogether
