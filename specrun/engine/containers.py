"""Containers as Docker knows them: made, started, listed, stopped and removed, by commands that need no daemon."""

from __future__ import annotations

import _signal
import fcntl
import os
import time

from specrun import events
from specrun.engine import bundle, mounting, names, networking, orders
from specrun.engine.mend import discard, mend
from specrun.engine.process import Running
from specrun.engine.record import Record, claim_name, event_attributes, holder_of, release_name
from specrun.engine.settings import record_of, signal_number
from specrun.engine.volumes import VolumeStore
from specrun.errors import Conflict, NotFound, SpecrunError, UsageError
from specrun.files import locked, remove_tree, sync_directory
from specrun.store.images import ImageStore
from specrun_runtime import health, launch, state
from specrun_runtime.cgroups import Cgroup
from specrun_runtime.fds import open_process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from specrun.engine.networking import Network
    from specrun.engine.request import ContainerRequest
    from specrun.network.networks import NetworkStore
    from specrun.paths import Root
    from specrun.store.images import Image


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
        return Cgroup(self._group)

    @property
    def host_config(self) -> dict[str, Any]:
        """`HostConfig` of `docker inspect`."""
        return self.record.host_config


class Engine:
    """The containers of one root."""

    def __init__(self, root: Root) -> None:
        self.root = root
        self.images = ImageStore(root)

    @property
    def networks(self) -> NetworkStore:
        """The networks of the root."""
        from specrun.network.networks import NetworkStore

        return NetworkStore(self.root)

    def run(
        self,
        request: ContainerRequest,
        *,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
    ) -> Running:
        """Make a container and start it; None for a stream leaves it to the log alone.

        The result's `await_start` raises StartFailed when the command can't be executed. A descriptor given as
        `stdin` only says that there will be input: `Running.wait` pumps it.
        """
        request.check()
        feed, monitor = self._spawn(stdin is not None or request.interactive and not request.tty, stdout, stderr)
        try:
            container, owner = self._make(request)
        except BaseException:
            monitor.reap()
            raise
        running = Running(container.id, monitor, feed)
        if stdout is not None or stderr is not None:
            self.tell(container, "attach")
        try:
            self._start(container, running, monitor, stdin is not None, stdout is not None, stderr is not None)
        except BaseException:
            if not monitor.asked:  # nothing has begun, so nothing may be left
                discard(self.root, container.id, container.id)
                VolumeStore(self.root).remove_of(container.id)
            raise
        finally:
            os.close(owner)
        return running

    def create(self, request: ContainerRequest) -> Container:
        """Make a container without starting it."""
        request.check()
        container, owner = self._make(request)
        container.state.move(state.CREATED)
        state.save(container.directory, container.state)
        os.close(owner)
        return container

    def start(
        self, container: Container, *, stdin: int | None = None, stdout: int | None = None, stderr: int | None = None
    ) -> Running | None:
        """Start a container that is not running; None when it runs already. Raises StartFailed."""
        with self.changing(container):
            known = state.load(container.directory)
            if known.is_up:
                if container.is_paused:
                    raise Conflict("cannot start a paused container, try unpause instead")
                return None
            clear_mark(container, state.STOPPED_MARK)
            owner = state.own(container.directory)
            kept = container.config["OpenStdin"] and not container.config["Tty"]
            feed, monitor = self._spawn(stdin is not None or kept, stdout, stderr)
            running = Running(container.id, monitor, feed)
            try:
                self._start(container, running, monitor, stdin is not None, stdout is not None, stderr is not None)
            finally:
                os.close(owner)
            container.state = state.load(container.directory) if os.path.exists(container.directory) else known
            return running

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

    def stop(self, container: Container, timeout: float = 10.0) -> None:
        """The stop signal, and SIGKILL after `timeout` seconds; returns when the container has ended."""
        if not container.state.is_up:
            return
        _stay_down(container)
        try:
            self.kill(container, self.stop_signal(container))
            if not self._ended(container, timeout):
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
                    VolumeStore(self.root).remove_unused(lambda one: one.anonymous and one.name in names)

    def tell(self, container: Container, action: str, **more: str) -> None:
        """Record an event of the container; `more` are attributes of this kind of event."""
        events.emit(self.root, "container", action, container.id, {**event_attributes(container.record), **more})

    def mend(self) -> None:
        """Clear what crashed commands left."""
        mend(self.root)

    def _spawn(self, interactive: bool, stdout: int | None, stderr: int | None) -> tuple[int, launch.Monitor]:
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        reader, feed = os.pipe2(os.O_CLOEXEC) if interactive else (null, -1)
        try:
            out, err = (null if stream is None else stream for stream in (stdout, stderr))
            monitor = launch.spawn(reader, out, err, label=self.root.id, supervisor=True)
        except BaseException:
            if feed >= 0:
                os.close(feed)
            raise
        finally:
            os.close(null)
            if reader != null:
                os.close(reader)
        return feed, monitor

    def _make(self, request: ContainerRequest) -> tuple[Container, int]:
        """The records, complete and under their final name, and the lock that says that we are at it."""
        with self.images.using():  # whoever removes images sees the container, or comes before us
            return self._make_of(request, self.images.resolve(request.image))

    def _make_of(self, request: ContainerRequest, image: Image) -> tuple[Container, int]:
        identity = request.container_id or os.urandom(32).hex()
        self._settle_network(request)
        record = record_of(request, image, identity)
        hidden = f"{self.root.containers}/.{identity}"
        durable = not request.auto_remove
        with locked(self.root.lock("making"), shared=True):  # a mend in between would take it for a crash's
            os.mkdir(hidden, 0o700)
            owner = state.own(hidden)
        try:
            for folder in ("upper", "work", "rootfs"):
                os.mkdir(f"{hidden}/{folder}", 0o755)
            os.close(os.open(f"{hidden}/exit", os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            known = state.State()
            state.save(hidden, known, durable=durable)
            self._name(record)
            if wishes := networking.wishes_of(request.network):
                networking.save_wishes(hidden, wishes, durable=durable)
            directory = f"{self.root.containers}/{identity}"
            self._settle(request, record, image, hidden, directory)
            if durable:
                sync_directory(self.root.containers)
        except BaseException:
            release_name(self.root, record.name, identity)
            remove_tree(hidden)
            VolumeStore(self.root).remove_of(identity)
            os.close(owner)
            raise
        container = Container(directory, record, known, bundle.cgroup_name(self.root, identity))
        self.tell(container, "create")
        return container, owner

    def _settle(self, request: ContainerRequest, record: Record, image: Image, hidden: str, directory: str) -> None:
        """Choose the volumes, write the record that names them, and give the folder its final name."""
        wanted = mounting.image_volumes(image.config.get("config") or {})
        if not (request.mounts or request.volumes_from or wanted):
            record.save(hidden, durable=not record.auto_remove)
            os.rename(hidden, directory)
            return

        def layers() -> list[str]:
            return [bundle.init_layer(self.root), *self.images.lower_directories(image)]

        with VolumeStore(self.root).choosing():
            mounting.choose(self.root, request, record, wanted, layers, lambda name: self.get(name).record)
            record.save(hidden, durable=not record.auto_remove)
            os.rename(hidden, directory)

    def _settle_network(self, request: ContainerRequest) -> None:
        """Refuse a network or a container that does not exist, before anything is made."""
        network = request.network
        if network.mode.startswith("container:"):
            if request.hostname:
                raise UsageError("conflicting options: hostname and the network mode")
            other = self.get(network.mode.partition(":")[2])
            network.mode = f"container:{other.id}"
            request.hostname = other.config["Hostname"]
        elif names := [wish["network"] for wish in networking.wishes_of(network) if wish["network"] != "bridge"]:
            for name in names:
                self.networks.check_wish(name, network.ip if name == network.mode else "")

    def _name(self, record: Record) -> None:
        if record.name:
            claim_name(self.root, record.name, record.id)
            return
        for attempt in range(20):
            record.name = names.generate() + (str(attempt) if attempt > 5 else "")
            try:
                claim_name(self.root, record.name, record.id)
                return
            except Conflict:
                continue
        raise SpecrunError("no free name was found", hint="give one with --name")

    def _start(
        self, container: Container, running: Running, monitor: launch.Monitor, stdin: bool, stdout: bool, stderr: bool
    ) -> None:
        """Ask the monitor to start the container and wait for its word; on any failure the monitor is seen off."""
        network = None
        try:
            network = networking.prepare(self.root, container.directory, container.record, monitor.pid)
            self._begin(container, network, monitor, stdin, stdout, stderr)
            running.await_start()
        except BaseException:
            if not monitor.asked:  # else it is the monitor that lets go
                networking.let_go(container.directory)
            running.give_up()
            raise
        finally:
            if network:
                network.close()

    def _begin(
        self, container: Container, network: Network, monitor: launch.Monitor, stdin: bool, stdout: bool, stderr: bool
    ) -> None:
        """Write the bundle and send the monitor its request."""
        directory, record = container.directory, container.record
        image = self.images.resolve(record.image_id)
        lower = [bundle.init_layer(self.root), *self.images.lower_directories(image)]
        bundle.write(self.root, record, directory, network, self._pid_of)
        os.truncate(f"{directory}/exit", 0)
        orders.forget(directory)
        told = orders.of(record)
        monitor.begin(
            {
                "cache": self.root.filters,
                "directory": directory,
                "user": record.config["User"],
                "groups": record.host_config.get("GroupAdd") or [],
                "health": told["health"],
                "log": told["log"],
                "init": bool(record.host_config.get("Init")),
                "durable": not record.auto_remove,
                "overlay": {"lower": lower, "upper": f"{directory}/upper", "work": f"{directory}/work"},
                "cgroup": bundle.cgroup_name(self.root, record.id),
                "events": {"folder": self.root.events, "attributes": told["attributes"], "id": record.id},
                "network": network.namespace,
                "attach": {"stdin": stdin, "stdout": stdout, "stderr": stderr, "keep": "" if stdin else _keep(record)},
                "removal": self._removal(record) if record.auto_remove else None,
            }
        )

    def _pid_of(self, name: str) -> int:
        """The first process of a running container, by whose namespaces another one is to share them."""
        other = self.get(name)
        if not other.state.pid:
            raise Conflict(f"cannot join the namespaces of a container that is not running: {name}")
        return other.state.pid

    def _removal(self, record: Record) -> dict[str, Any]:
        """What the monitor needs to know to remove the container, and the volumes that nobody has named."""
        return {
            "trash": f"{self.root.trash}/{record.id}.{os.urandom(4).hex()}",
            "name": f"{self.root.names}/{record.name}",
            "volumes": {
                "names": mounting.anonymous_volumes(self.root, record),
                "folder": self.root.volumes,
                "lock": self.root.lock("volumes"),
                "containers": self.root.containers,
            },
        }

    def changing(self, container: Container) -> _Changing:
        """Alone for the one command that changes the container."""
        return _Changing(container)

    def _ended(self, container: Container, timeout: float) -> bool:
        """Whether the monitor lets go of the container within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            if not os.path.exists(container.directory):
                return True
            owner = state.take_over(container.directory)
            if owner is not None:
                os.close(owner)
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)

    def _require_end(self, container: Container) -> None:
        if not self._ended(container, 10.0):
            raise SpecrunError(
                f"the monitor of container {container.name} is not responding (pid {container.state.monitor_pid})",
                hint="look at that process; when it has ended, the next command clears what it has left",
            )
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
        group = bundle.cgroup_name(self.root, identity)
        return None if known.status == state.CREATING else Container(directory, record, known, group)


def policy_name(container: Container) -> str:
    """The restart policy: `no`, `always`, `unless-stopped` or `on-failure`."""
    policy = container.host_config.get("RestartPolicy") or {}
    return str(policy.get("Name") or "no")


def _stay_down(container: Container) -> None:
    """Before it is stopped: no restart policy is to start it again. For `start --restored` this outlives a reboot."""
    if policy_name(container) != "no":
        try:
            make_mark(container, state.STOPPED_MARK)
        except FileNotFoundError:
            pass  # it is gone altogether


def make_mark(container: Container, mark: str) -> None:
    """Leave an empty file in the container's folder, which its monitor looks for."""
    os.close(os.open(f"{container.directory}/{mark}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def clear_mark(container: Container, mark: str) -> None:
    """Take it away again."""
    try:
        os.unlink(f"{container.directory}/{mark}")
    except FileNotFoundError:
        pass


def _keep(record: Record) -> str:
    """Whether the input stays open without anybody attached (Docker's OpenStdin and StdinOnce)."""
    if not record.config["OpenStdin"] or record.config["Tty"]:
        return ""
    return "once" if record.config["StdinOnce"] else "open"


class _Changing:
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
