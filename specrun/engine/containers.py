"""Containers as Docker knows them, made and started by commands that need no daemon."""

from __future__ import annotations

import os

from specrun.engine import bundle, groups, mounting, names, networking, orders
from specrun.engine.ahead import Ahead
from specrun.engine.container import Container, clear_mark
from specrun.engine.existing import Existing
from specrun.engine.mend import discard
from specrun.engine.process import Running
from specrun.engine.record import Record, claim_name, release_name
from specrun.engine.settings import record_of
from specrun.engine.volumes import VolumeStore
from specrun.errors import Conflict, SpecrunError, UsageError
from specrun.files import locked, remove_tree, sync_directory, sync_files
from specrun_runtime import state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from specrun.engine.networking import Network
    from specrun.engine.request import ContainerRequest
    from specrun.store.images import Image
    from specrun_runtime import launch


class Engine(Existing):
    """The containers of one root."""

    def run(
        self,
        request: ContainerRequest,
        *,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        ahead: Ahead | None = None,
    ) -> Running:
        """Make a container and start it; None for a stream leaves it to the log alone.

        The result's `await_start` raises StartFailed when the command can't be executed. A descriptor given as
        `stdin` only says that there will be input: `Running.wait` pumps it. A monitor that was spawned `ahead` must
        have been given these streams; it is used or dropped.
        """
        ahead = ahead or Ahead(self.root, stdin is not None or request.interactive and not request.tty, stdout, stderr)
        try:
            request.check()
            container, owner = self._make(request)
        except BaseException:
            ahead.drop()
            raise
        monitor = ahead.monitor
        running = Running(container.id, monitor, ahead.feed)
        if stdout is not None or stderr is not None:
            self.tell(container, "attach")
        try:
            streams = (stdin is not None, stdout is not None, stderr is not None)
            self._start(container, running, monitor, streams)
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
            clear_mark(container, state.REMOVED_MARK)
            owner = state.own(container.directory)
            kept = container.config["OpenStdin"] and not container.config["Tty"]
            ahead = Ahead(self.root, stdin is not None or kept, stdout, stderr)
            running = Running(container.id, ahead.monitor, ahead.feed)
            try:
                streams = (stdin is not None, stdout is not None, stderr is not None)
                self._start(container, running, ahead.monitor, streams)
            finally:
                os.close(owner)
            container.state = state.load(container.directory) if os.path.exists(container.directory) else known
            return running

    def _make(self, request: ContainerRequest) -> tuple[Container, int]:
        """The records, complete and under their final name, and the lock that says that we are at it."""
        with self.images.using():  # whoever removes images sees the container, or comes before us
            return self._make_of(request, self.images.resolve(request.image))

    def _make_of(self, request: ContainerRequest, image: Image) -> tuple[Container, int]:
        identity = request.container_id or os.urandom(32).hex()
        self._settle_network(request)
        self._settle_sharing(request)
        record = record_of(request, image, identity)
        hidden = f"{self.root.containers}/.{identity}"
        durable = record.durable
        with locked(self.root.lock("making"), shared=True):  # a mend in between would take it for a crash's
            os.mkdir(hidden, 0o700)
            owner = state.own(hidden)
        try:
            for folder in ("upper", "work", "rootfs"):
                os.mkdir(f"{hidden}/{folder}", 0o755)
            os.close(os.open(f"{hidden}/exit", os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            known = state.State()
            state.save(hidden, known, durable=False)
            self._name(record)
            if wishes := networking.wishes_of(request.network):
                networking.save_wishes(hidden, wishes, durable=False)
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
        container = Container(directory, record, known, groups.name_of(self.root, record))
        self.tell(container, "create")
        return container, owner

    def _settle(self, request: ContainerRequest, record: Record, image: Image, hidden: str, directory: str) -> None:
        """Choose the volumes, write the record that names them, and give the folder its final name."""
        wanted = mounting.image_volumes(image.config.get("config") or {})
        if not (request.mounts or request.volumes_from or wanted):
            _place(record, hidden, directory)
            return

        def layers() -> list[str]:
            return [bundle.init_layer(self.root), *self.images.lower_directories(image)]

        with VolumeStore(self.root).choosing():
            mounting.choose(self.root, request, record, wanted, layers, lambda name: self.get(name).record)
            _place(record, hidden, directory)

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

    def _settle_sharing(self, request: ContainerRequest) -> None:
        """Refuse to join what does not exist or is not to be shared, before anything is made."""
        security = request.security
        if security.pid.startswith("container:"):
            security.pid = f"container:{self.get(security.pid.partition(':')[2]).id}"
        if security.ipc.startswith("container:"):
            other = self.get(security.ipc.partition(":")[2])
            security.ipc = f"container:{other.id}"
            if other.host_config.get("IpcMode") != "shareable":
                raise Conflict(
                    f"can't join IPC of container {other.id}: non-shareable IPC",
                    hint="make that container with --ipc shareable",
                )

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
        self,
        container: Container,
        running: Running,
        monitor: launch.Monitor,
        streams: tuple[bool, bool, bool],
    ) -> None:
        """Ask the monitor to start the container and wait for its word; on any failure the monitor is seen off."""
        network = None
        try:
            network = networking.prepare(self.root, container.directory, container.record, monitor.pid)
            self._begin(container, network, monitor, *streams)
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
                "durable": record.durable,
                "overlay": {"lower": lower, "upper": f"{directory}/upper", "work": f"{directory}/work"},
                "cgroup": groups.name_of(self.root, record),
                "parents": groups.claim_parents(self.root, record),
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


def _place(record: Record, hidden: str, directory: str) -> None:
    """Complete the folder of a new container and give it its final name; what it holds is on the disk by then."""
    record.save(hidden, durable=False)
    if record.durable:
        sync_files(hidden)
    os.rename(hidden, directory)


def _keep(record: Record) -> str:
    """Whether the input stays open without anybody attached (Docker's OpenStdin and StdinOnce)."""
    if not record.config["OpenStdin"] or record.config["Tty"]:
        return ""
    return "once" if record.config["StdinOnce"] else "open"
