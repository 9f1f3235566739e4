"""RUN: a container over the layers so far, with the profile of `specrun run`; its upper directory is the new layer."""

from __future__ import annotations

import os
import stat

from specrun.build.errors import BuildFailed
from specrun.engine import mountspec
from specrun.engine.containers import Engine
from specrun.engine.mountspec import MountRequest
from specrun.engine.request import ContainerRequest
from specrun.engine.security import SecurityRequest
from specrun.errors import SpecrunError, UsageError
from specrun.files import locked, remove_tree
from specrun.oci import digest as digests
from specrun.store.images import Image, ImageStore
from specrun_runtime import libc, mounts
from specrun_runtime.errors import StartFailed
from specrun_runtime.fds import Fd
from specrun_runtime.paths import open_in_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from specrun.build.evaluation import Step
    from specrun.build.mounts import Mount
    from specrun.build.parser import Node
    from specrun.build.request import BuildRequest, Secrets
    from specrun.build.tree import Tree
    from specrun.engine.container import Container
    from specrun.paths import Root

_CLONE_NEWNS = 0x00020000
LABEL = "io.specrun.build"
SECRETS = "/run/secrets"
AGENT = "/run/buildkit/ssh_agent"


class _Layers(ImageStore):
    """An image store that knows one more image: the layers of a step, which no index names."""

    def __init__(self, root: Root, lower: list[str], identity: str) -> None:
        super().__init__(root)
        self._lower = lower
        self._step = Image(identity, "", {"config": {}}, 0)

    def resolve(self, text: str) -> Image:
        return self._step if text == self._step.id else super().resolve(text)

    def lower_directories(self, image: Image) -> list[str]:
        return self._lower if image is self._step else super().lower_directories(image)


class Runner:
    """Runs the RUN steps of one stage."""

    def __init__(
        self, root: Root, work: str, secrets: Secrets, tree_of: Callable[[str, Node], Tree], request: BuildRequest
    ) -> None:
        self.root = root
        self.work = work
        self.secrets = secrets
        self.tree_of = tree_of
        self.request = request
        self._count = 0

    def run(
        self, step: Step, lower: list[str], identity: str, user: str, out: int, err: int, stack: ExitStack,
        announce: Callable[[str], None],
    ) -> tuple[Container, int]:  # fmt: skip
        """Run the step's command to its end; gives the container, which is still there, and the exit status.

        Raises BuildFailed when it cannot be started.
        """
        engine = Engine(self.root)
        engine.images = _Layers(self.root, lower, identity)
        environment = list(step.environment)
        requests = [self._mount(mount, step, environment, stack) for mount in step.mounts]
        requests += self._programs(step)
        request = ContainerRequest(
            identity,
            command=step.argv,
            entrypoint=[],
            env=[entry for entry in environment if "=" in entry[1:]],
            workdir=step.workdir,
            user=user,
            labels={LABEL: "step"},
            network=self.request.network_of(getattr(step.instruction, "network", "default")),
            resources=self.request.resources,
            security=SecurityRequest(cgroup_parent=self.request.cgroup_parent),
            mounts=[request for request in requests if request],
            container_id=os.urandom(32).hex(),
            log_driver="none",
            transient=True,
        )
        announce(request.container_id)  # before it is made: a build that is killed in between leaves what is known
        try:
            running = engine.run(request, stdout=out, stderr=err)
            return engine.get(running.container_id), running.wait()
        except BaseException as failure:
            remove_containers(self.root, [request.container_id])
            if isinstance(failure, StartFailed):
                raise BuildFailed(
                    f"The command '{' '.join(step.argv)}' could not be started: {failure.message}", node=step.node,
                    exit_status=failure.status,
                ) from failure  # fmt: skip
            raise

    def finish(self, container: Container, step: Step, lower: list[str], upper: str) -> None:
        """Take the container's writable layer as `upper` and remove the container."""
        os.rmdir(upper)
        os.rename(f"{container.directory}/upper", upper)
        os.mkdir(f"{container.directory}/upper", 0o755)
        self.discard(container)
        for mount in step.mounts:
            _remove_stubs(upper, lower, mount.target)

    def shell(self, container: Container, step: Step, lower: list[str], user: str) -> None:
        """A shell in the file system that the failed step has left, with its environment; gives when it has ended."""
        left = f"{self.work}/failed"
        os.rename(f"{container.directory}/upper", left)
        os.mkdir(f"{container.directory}/upper", 0o755)
        engine = Engine(self.root)
        identity = digests.of(left.encode())
        engine.images = _Layers(self.root, [left, *lower], identity)
        request = ContainerRequest(
            identity,
            command=["/bin/sh", "-i"],
            entrypoint=[],
            env=[entry for entry in step.environment if "=" in entry[1:]],
            workdir=step.workdir,
            user=user,
            interactive=True,
            auto_remove=True,
            network=self.request.network_of("default"),
        )
        try:
            running = engine.run(request, stdin=0, stdout=1, stderr=2)
        except StartFailed as failure:
            raise BuildFailed(f"no shell could be started: {failure.message}", node=step.node) from failure
        running.wait(0)

    def discard(self, container: Container) -> None:
        """Remove the container."""
        Engine(self.root).remove(container, force=True)

    def _mount(self, mount: Mount, step: Step, environment: list[str], stack: ExitStack) -> MountRequest | None:
        if mount.target and not mount.target.startswith("/"):
            mount.target = f"{step.workdir.rstrip('/')}/{mount.target}"
        if mount.target:
            mount.target = mountspec.clean(mount.target)
            try:
                mountspec.check_target(mount.target, "")
            except UsageError as error:
                raise BuildFailed(f"RUN failed: {error.message}", node=step.node, word=mount.target) from error
        if mount.type == "tmpfs":
            options = [f"size={mount.size}"] if mount.size else []
            return MountRequest("tmpfs", "", mount.target, tmpfs_options=options)
        if mount.type == "cache":
            return self._cache(mount, step, stack)
        if mount.type == "secret":
            return self._secret(mount, step, environment, stack)
        if mount.type == "ssh":
            return self._agent(mount, step, environment, stack)
        tree = self.tree_of(mount.source, step.node)
        with Fd(self._open(tree, mount.source_path, step)) as found:
            path = self._attach(found, stack)
        if not mount.readonly:
            path = self._writable(path, stack)
        return MountRequest("bind", path, mount.target, read_only=mount.readonly)

    def _open(self, tree: Tree, path: str, step: Step) -> int:
        """The source of a mount, resolved inside its tree: a link leads no further (CVE-2024-1753)."""
        try:
            return open_in_root(tree.root.number, "/" + path.lstrip("/"))
        except OSError as error:
            raise BuildFailed(
                f"RUN failed: the source {path or '/'} of a mount is not in {tree.what}: {error.strerror}",
                node=step.node,
            ) from error

    def _attach(self, found: Fd, stack: ExitStack) -> str:
        """Give an open file or folder a path, in the mount namespace that only this build and its containers have."""
        self._count += 1
        path = f"{self.work}/mount{self._count}"
        if stat.S_ISDIR(os.fstat(found.number).st_mode):
            os.mkdir(path, 0o755)
        else:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        with mounts.copy_of(found.number, "") as copy, Fd(os.open(path, os.O_PATH | os.O_CLOEXEC)) as target:
            libc.move_mount(copy.number, target.number)
        stack.callback(libc.umount, path, 2)
        return path

    def _writable(self, path: str, stack: ExitStack) -> str:
        """A view of `path` whose changes are forgotten."""
        self._count += 1
        base = f"{self.work}/view{self._count}"
        for name in ("", "/upper", "/work", "/merged"):
            os.mkdir(base + name, 0o755)
        if not os.path.isdir(path):
            import shutil

            shutil.copyfile(path, f"{base}/file")
            shutil.copystat(path, f"{base}/file")
            return f"{base}/file"
        with (
            mounts.new_overlay([path], f"{base}/upper", f"{base}/work") as view,
            Fd(os.open(f"{base}/merged", os.O_PATH | os.O_CLOEXEC)) as target,
        ):
            libc.move_mount(view.number, target.number)
        stack.callback(libc.umount, f"{base}/merged", 2)
        return f"{base}/merged"

    def _cache(self, mount: Mount, step: Step, stack: ExitStack) -> MountRequest:
        """A folder that stays from build to build; its name is a digest, so no id leads out of the store."""
        name = digests.of(f"{mount.id or mount.target}\0{mount.source}".encode())[7:]
        folder = f"{self.root.path}/build/caches/{name}"
        os.makedirs(os.path.dirname(folder), mode=0o700, exist_ok=True)
        shared, wait = mount.sharing in ("", "shared"), mount.sharing != "private"
        try:
            stack.enter_context(locked(cache_lock(self.root, name), shared=shared, wait=wait))
        except BlockingIOError:
            folder = self._new_cache(mount, step)
        with locked(self.root.lock("caches")):  # those who share it begin with one folder
            if not os.path.exists(folder):
                os.rename(self._new_cache(mount, step), folder)
        return MountRequest("bind", folder, mount.target, read_only=mount.readonly)

    def _new_cache(self, mount: Mount, step: Step) -> str:
        """The folder that a cache begins with, made where it goes if the build is killed."""
        self._count += 1
        folder = f"{self.work}/cache{self._count}"
        mode = 0o755 if mount.mode is None else mount.mode
        os.mkdir(folder, mode)
        os.chmod(folder, mode)
        os.chown(folder, mount.uid or 0, mount.gid or 0)
        if mount.source:
            from specrun_runtime.steps import copy_tree

            with (
                Fd(self._open(self.tree_of(mount.source, step.node), mount.source_path, step)) as seed,
                Fd(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as target,
            ):
                copy_tree(seed.number, target.number)
        return folder

    def _secret(self, mount: Mount, step: Step, environment: list[str], stack: ExitStack) -> MountRequest | None:
        name = mount.id or os.path.basename(mount.source_path or mount.target)
        value = self.secrets.secrets.get(name)
        if value is None:
            if mount.required:
                raise BuildFailed(
                    f"RUN failed: secret {name} is required and was not given", node=step.node,
                    hint=f"add --secret id={name},src=FILE",
                )  # fmt: skip
            return None
        if mount.env is not None:
            environment.append(f"{mount.env or name}={value.decode('utf-8', 'surrogateescape')}")
            if not mount.target:
                return None
        mount.target = mount.target or f"{SECRETS}/{name}"
        path = f"{self._memory(stack)}/secret"
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with Fd(descriptor):
            os.write(descriptor, value)
            os.fchown(descriptor, mount.uid or 0, mount.gid or 0)
            os.fchmod(descriptor, 0o400 if mount.mode is None else mount.mode)
        return MountRequest("bind", path, mount.target, read_only=True)

    def _memory(self, stack: ExitStack) -> str:
        """A folder that is on no disk, and goes with the build's mount namespace however the build ends."""
        self._count += 1
        path = f"{self.work}/memory{self._count}"
        os.mkdir(path, 0o700)
        options = mounts.Options.parse(["mode=0700", "nosuid", "nodev", "noexec"], "secret")
        with (
            mounts.new_filesystem("tmpfs", "tmpfs", options) as memory,
            Fd(os.open(path, os.O_PATH | os.O_CLOEXEC)) as target,
        ):
            libc.move_mount(memory.number, target.number)
        stack.callback(libc.umount, path, 2)
        return path

    def _agent(self, mount: Mount, step: Step, environment: list[str], stack: ExitStack) -> MountRequest | None:
        name = mount.id or "default"
        socket = self.secrets.agents.get(name)
        if not socket:
            if mount.required:
                raise BuildFailed(
                    f"RUN failed: ssh agent {name} is required and was not given",
                    node=step.node,
                    hint="add --ssh default",
                )
            return None
        index = sum(entry.startswith("SSH_AUTH_SOCK=") for entry in environment)
        mount.target = mount.target or f"{AGENT}.{index}"
        environment.append(f"SSH_AUTH_SOCK={mount.target}")
        from specrun.build.agent import forwarding

        mode = 0o600 if mount.mode is None else mount.mode
        path = stack.enter_context(forwarding(socket, self.work, mode=mode, owner=(mount.uid or 0, mount.gid or 0)))
        return MountRequest("bind", path, mount.target)

    def _programs(self, step: Step) -> list[MountRequest]:
        """Here-documents that are programs: files below /dev/pipes, which no layer gets."""
        from specrun.build.evaluation import PIPES

        found = []
        for name, text in step.files:
            self._count += 1
            path = f"{self.work}/program{self._count}"
            with open(path, "x", encoding="utf-8", errors="surrogateescape") as file:
                file.write(text)
            os.chmod(path, 0o755)
            found.append(MountRequest("bind", path, f"{PIPES}/{name}", read_only=True))
        return found


def enter_own_namespace() -> None:
    """A mount namespace for this build and its containers: what is mounted in it goes with it, however it ends."""
    libc.unshare(_CLONE_NEWNS)
    mounts.make_root_slave()


def _remove_stubs(upper: str, lower: list[str], target: str) -> None:
    """Remove what a mount needed to be mounted on, if the image lacks it; no link is followed (CVE-2024-23652)."""
    parts = [part for part in target.split("/") if part]
    missing = next(
        (
            count
            for count in range(1, len(parts) + 1)
            if not any(os.path.lexists(f"{folder}/{'/'.join(parts[:count])}") for folder in lower)
        ),
        0,
    )
    if not missing:
        return
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    opened = [Fd(os.open(upper, flags))]
    try:
        for part in parts[:-1]:
            opened.append(Fd(os.open(part, flags, dir_fd=opened[-1].number)))
        for count in range(len(parts), missing - 1, -1):
            parent, name = opened[count - 1].number, parts[count - 1]
            info = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if stat.S_ISDIR(info.st_mode):
                os.rmdir(name, dir_fd=parent)
            elif stat.S_ISREG(info.st_mode) and info.st_size == 0:
                os.unlink(name, dir_fd=parent)
    except OSError:
        pass  # the step has put something there, which stays
    finally:
        for folder in opened:
            folder.close()


def cache_lock(root: Root, name: str) -> str:
    """The lock that a build holds while it uses this folder of build/caches."""
    return root.lock(f"cache-{name[:32]}")


def mend(root: Root) -> None:
    """Remove what builds that were killed have left: their folders and containers. Builds at work hold their lock."""
    base = f"{root.path}/build/work"
    for name in os.listdir(base) if os.path.isdir(base) else []:
        try:
            with locked(root.lock("builds")), locked(f"{base}/{name}/lock", wait=False):
                remove_containers(root, written_down(f"{base}/{name}"))
                remove_tree(f"{base}/{name}")
        except (BlockingIOError, FileNotFoundError, NotADirectoryError):
            continue


def written_down(work: str) -> list[str]:
    """The containers that a build has announced in its folder."""
    try:
        with open(f"{work}/container", encoding="ascii") as file:
            return file.read().split()
    except FileNotFoundError:
        return []


def remove_containers(root: Root, identities: list[str]) -> None:
    """Remove the containers of steps, as far as they are still there."""
    engine = Engine(root)
    for identity in identities:
        try:
            engine.remove(engine.get(identity), force=True)
        except SpecrunError:
            continue  # it was removed already
