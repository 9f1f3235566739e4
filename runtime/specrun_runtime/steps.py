"""Container set-up as an ordered list of steps, each of which can describe itself.

`plan` turns a specification into steps; `init` performs them inside the new process. A failure is reported with
the description of the step that it happened in.
"""

from __future__ import annotations

import _socket
import errno
import fcntl
import os
import stat
import struct

from specrun_runtime import libc, mounts
from specrun_runtime.cgroups import Cgroup
from specrun_runtime.constants import AT_FDCWD, PROC_SUPER_MAGIC, Clone, MountAttr, Resolve
from specrun_runtime.errors import IsolationError, Refused, SpecError
from specrun_runtime.fds import Fd, write_all
from specrun_runtime.paths import make_directories, make_file, open_procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from specrun_runtime.spec import Mount, Spec

    class Step(Protocol):
        """One thing that is done to make the container."""

        def describe(self) -> str:
            """What it does, in the words of an error message."""

        def perform(self, stage: Stage) -> None:
            """Do it."""


DEVICES = (
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
)
LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
)
_FLAGS = {
    "network": Clone.NEWNET,
    "mount": Clone.NEWNS,
    "ipc": Clone.NEWIPC,
    "uts": Clone.NEWUTS,
}


class Overlay:
    """The layers that make a root file system: `lower` topmost first, and the writable `upper`."""

    __slots__ = ("lower", "upper", "work")

    def __init__(self, lower: list[str], upper: str, work: str) -> None:
        self.lower = lower
        self.upper = upper
        self.work = work


class Stage:
    """What the steps hand to each other: descriptors of the mounts made so far."""

    __slots__ = ("cgroup", "dev", "empty", "null", "proc", "root")

    def __init__(self, cgroup: Cgroup) -> None:
        self.cgroup = cgroup
        self.root = -1
        self.proc = -1
        self.dev = -1
        self.null = -1
        self.empty = -1


def plan(spec: Spec, overlay: Overlay | None) -> list[Step]:
    """The steps that give a new process the isolation that `spec` asks for, in the order that they need."""
    steps: list[Step] = [JoinCgroup(), NewNamespaces(spec)]
    if spec.makes("network"):
        steps.append(LoopbackUp())
    steps.append(MountRoot(spec.root, overlay))
    for mount in spec.mounts:
        if mount.type == "cgroup":
            steps.append(MountCgroups(mount))
        else:
            steps.append(MountAt(mount))
        if mount.destination == "/dev" and mount.type == "tmpfs":
            steps.append(MakeDevices())
    steps.extend(SetKernelParameter(key, value) for key, value in spec.sysctl.items())
    steps.extend(ReadOnlyPath(path) for path in spec.readonly_paths)
    steps.extend(MaskPath(path) for path in spec.masked_paths)
    if spec.hostname and spec.makes("uts"):
        steps.append(SetHostname(spec.hostname, spec.domainname))
    steps.append(EnterRoot(spec.readonly_root))
    return steps


class JoinCgroup:
    """The control group, first: all that follows is accounted to it."""

    def describe(self) -> str:
        """What it does."""
        return "join the control group"

    def perform(self, stage: Stage) -> None:
        """Do it."""
        stage.cgroup.join()


class NewNamespaces:
    """All but the pid namespace, which the monitor made so that this process is its first."""

    def __init__(self, spec: Spec) -> None:
        self.flags = Clone(0)
        for kind, flag in _FLAGS.items():
            if spec.makes(kind):
                self.flags |= flag
        self.cgroup = spec.makes("cgroup")

    def describe(self) -> str:
        """What it does."""
        return f"make the namespaces {self.flags.name or int(self.flags)}"

    def perform(self, stage: Stage) -> None:
        """Do it; the cgroup namespace takes the group just joined as its root."""
        libc.unshare(self.flags | Clone.NEWCGROUP if self.cgroup else self.flags)
        mounts.make_root_slave()


class LoopbackUp:
    """`lo`, which a new network namespace has, but down."""

    def describe(self) -> str:
        """What it does."""
        return "bring the loopback interface up"

    def perform(self, stage: Stage) -> None:
        """netdevice(7): SIOCGIFFLAGS and SIOCSIFFLAGS."""
        plug = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
        try:
            request = struct.pack("16sh22x", b"lo", 0)
            flags = struct.unpack_from("16sh", fcntl.ioctl(plug.fileno(), 0x8913, request))[1]
            fcntl.ioctl(plug.fileno(), 0x8914, struct.pack("16sh22x", b"lo", flags | 0x1))
        finally:
            plug.close()


class MountRoot:
    """The root file system: an overlay of layers, or a folder as it is."""

    def __init__(self, path: str, overlay: Overlay | None) -> None:
        self.path = path
        self.overlay = overlay

    def describe(self) -> str:
        """What it does."""
        kind = f"an overlay of {len(self.overlay.lower)} layers" if self.overlay else "the folder itself"
        return f"mount the root file system at {self.path}: {kind}"

    def perform(self, stage: Stage) -> None:
        """Do it; devices in the image are never of use."""
        if self.overlay:
            root = mounts.new_overlay(self.overlay.lower, self.overlay.upper, self.overlay.work)
        else:
            root = mounts.copy_of(AT_FDCWD, self.path, recursive=True)
        libc.mount_setattr(root.number, enable=MountAttr.NODEV)
        with Fd(os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as target:
            libc.move_mount(root.number, target.number)
        stage.root = root.release()


class MountAt:
    """One mount of the specification."""

    def __init__(self, mount: Mount) -> None:
        self.mount = mount
        self.options = mounts.Options.parse(mount.options, f"{mount.field}.options")

    def describe(self) -> str:
        """What it does."""
        return f"mount {self.mount.type} {self.mount.source} on {self.mount.destination}"

    def perform(self, stage: Stage) -> None:
        """Do it, on a target that was opened inside the root."""
        mount = self.mount
        if mount.type == "bind":
            made = mounts.bind(mount.source, self.options)
            folder = stat.S_ISDIR(os.fstat(made.number).st_mode)
        else:
            made = mounts.new_filesystem(mount.type, mount.source, self.options)
            folder = True
        with made, _target(stage, mount, folder) as target:
            libc.move_mount(made.number, target.number)
            if mount.type == "proc":
                stage.proc = made.release()
            elif mount.destination == "/dev":
                stage.dev = made.release()


class MountCgroups:
    """The container's own groups, read-only, one folder for each hierarchy of version 1."""

    def __init__(self, mount: Mount) -> None:
        self.mount = mount
        self.options = mounts.Options.parse(mount.options, f"{mount.field}.options")

    def describe(self) -> str:
        """What it does."""
        return f"mount the control groups on {self.mount.destination}"

    def perform(self, stage: Stage) -> None:
        """Do it; the tmpfs between is made read-only and small, or it would be memory without a limit."""
        old = [hierarchy for hierarchy in stage.cgroup.where if not hierarchy.unified]
        with _target(stage, self.mount, True) as target:
            if not old:
                with mounts.new_filesystem("cgroup2", "cgroup", self.options) as made:
                    libc.move_mount(made.number, target.number)
                return
            between = mounts.Options()
            between.enable = self.options.enable & ~MountAttr.RDONLY
            between.data = [("mode", "755"), ("size", "1m")]
            with mounts.new_filesystem("tmpfs", "tmpfs", between) as tmpfs:
                libc.move_mount(tmpfs.number, target.number)
                for hierarchy in old:
                    name = os.path.basename(hierarchy.path)
                    os.mkdir(name, 0o755, dir_fd=tmpfs.number)
                    with (
                        mounts.bind(stage.cgroup.folder(hierarchy), self.options) as made,
                        Fd(os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=tmpfs.number)) as inner,
                    ):
                        libc.move_mount(made.number, inner.number)
                    for controller in hierarchy.controllers if "," in name else ():
                        os.symlink(name, controller, dir_fd=tmpfs.number)
                if self.options.enable & MountAttr.RDONLY:
                    libc.mount_setattr(tmpfs.number, enable=MountAttr.RDONLY)


class MakeDevices:
    """The device nodes and links that every container has."""

    def describe(self) -> str:
        """What it does."""
        return "make the device nodes in /dev"

    def perform(self, stage: Stage) -> None:
        """mknod(2) on our own tmpfs, before anything of the image can see it."""
        for name, major, minor in DEVICES:
            os.mknod(name, 0o666 | stat.S_IFCHR, os.makedev(major, minor), dir_fd=stage.dev)
        for name, target in LINKS:
            os.symlink(target, name, dir_fd=stage.dev)
        stage.null = os.open("null", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=stage.dev)


class SetKernelParameter:
    """A parameter of sysctl(8), of the container's own namespaces."""

    def __init__(self, key: str, value: str) -> None:
        self.key = key
        self.value = value

    def describe(self) -> str:
        """What it does."""
        return f"set {self.key}={self.value}"

    def perform(self, stage: Stage) -> None:
        """Do it by our own procfs."""
        with Fd(open_procfs(_procfs(stage, self.key), f"sys/{self.key.replace('.', '/')}", os.O_WRONLY)) as file:
            write_all(file.number, self.value.encode())


class ReadOnlyPath:
    """A path that stays readable."""

    def __init__(self, path: str) -> None:
        self.path = path

    def describe(self) -> str:
        """What it does."""
        return f"make {self.path} read-only"

    def perform(self, stage: Stage) -> None:
        """Mount the path on itself, read-only; a path that is not there needs nothing."""
        with _existing(stage, self.path) as target:
            if target.number < 0:
                return
            with mounts.copy_of(target.number, "", recursive=True) as copy:
                libc.mount_setattr(copy.number, enable=MountAttr.RDONLY, recursive=True)
                libc.move_mount(copy.number, target.number)


class MaskPath:
    """A path that looks empty: /dev/null over a file, an empty folder over a folder."""

    def __init__(self, path: str) -> None:
        self.path = path

    def describe(self) -> str:
        """What it does."""
        return f"mask {self.path}"

    def perform(self, stage: Stage) -> None:
        """Do it; a path that is not there needs nothing."""
        with _existing(stage, self.path) as target:
            if target.number < 0:
                return
            if stat.S_ISDIR(os.fstat(target.number).st_mode):
                source = self._empty(stage)
            else:
                source = self._null(stage)
            with mounts.copy_of(source, "") as copy:
                libc.move_mount(copy.number, target.number)

    def _empty(self, stage: Stage) -> int:
        if stage.empty < 0:
            options = mounts.Options()
            options.enable = int(MountAttr.RDONLY)
            options.data = [("nr_inodes", "1"), ("size", "0")]
            stage.empty = mounts.new_filesystem("tmpfs", "tmpfs", options).release()
        return stage.empty

    def _null(self, stage: Stage) -> int:
        """Our own null device, proven to be one; never what an image calls /dev/null."""
        if stage.null < 0:
            stage.null = os.open("/dev/null", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        info = os.fstat(stage.null)
        if not stat.S_ISCHR(info.st_mode) or info.st_rdev != os.makedev(1, 3):
            raise Refused(errno.ENODEV, "is not the null device", "/dev/null")
        return stage.null


class SetHostname:
    """The name of the uts namespace."""

    def __init__(self, hostname: str, domainname: str) -> None:
        self.hostname = hostname
        self.domainname = domainname

    def describe(self) -> str:
        """What it does."""
        return f"set the host name to {self.hostname}"

    def perform(self, stage: Stage) -> None:
        """Do it."""
        libc.sethostname(self.hostname)
        if self.domainname:
            libc.setdomainname(self.domainname)


class EnterRoot:
    """pivot_root(2): after it, no path leads to the host."""

    def __init__(self, read_only: bool) -> None:
        self.read_only = read_only

    def describe(self) -> str:
        """What it does."""
        return "enter the root file system"

    def perform(self, stage: Stage) -> None:
        """Do it."""
        if self.read_only:
            libc.mount_setattr(stage.root, enable=MountAttr.RDONLY)
        mounts.enter_root(stage.root)


def _target(stage: Stage, mount: Mount, folder: bool) -> Fd:
    """The mount point, made where missing. Raises Refused for one that would lead astray."""
    destination = mount.destination
    if mount.type in ("proc", "sysfs"):
        # Where these two go is fixed: an image that has a link there wants our writes elsewhere.
        os.close(make_directories(stage.root, destination))
        try:
            return Fd(libc.openat2(stage.root, destination.lstrip("/"), os.O_PATH | os.O_DIRECTORY, 0, _EXACTLY))
        except IsolationError as error:
            if error.errno == errno.ELOOP:
                raise Refused(errno.ELOOP, "is a symbolic link in the image", destination) from error
            raise
    maker = make_directories if folder else make_file
    target = Fd(maker(stage.root, destination))
    if libc.filesystem_type(target.number) == PROC_SUPER_MAGIC:
        target.close()
        raise Refused(errno.EPERM, "is inside /proc, where nothing may be mounted", destination)
    return target


_EXACTLY = Resolve.BENEATH | Resolve.NO_SYMLINKS | Resolve.NO_MAGICLINKS


def _existing(stage: Stage, path: str) -> Fd:
    """The file or folder at `path` for masking; number -1 where there is none, Refused where it is a link."""
    try:
        if path.startswith("/proc/"):
            return Fd(open_procfs(_procfs(stage, path), path.removeprefix("/proc/"), os.O_PATH))
        return Fd(libc.openat2(stage.root, path.lstrip("/"), os.O_PATH, 0, _EXACTLY))
    except FileNotFoundError:
        return Fd(-1)
    except NotADirectoryError:
        return Fd(-1)
    except IsolationError as error:
        if error.errno == errno.ELOOP:
            raise Refused(errno.ELOOP, "is a symbolic link", path) from error
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return Fd(-1)
        raise


def _procfs(stage: Stage, what: str) -> int:
    if stage.proc < 0:
        raise SpecError("mounts", f"{what} needs a proc mount, and there is none")
    return stage.proc


__all__ = ["Overlay", "Stage", "plan"]
