"""Container set-up as an ordered list of steps, each of which can describe itself.

`plan` turns a specification into steps. `prepare` of each is done by the launcher, with the host's rights and paths;
`perform` by the new process, which may be root of its own user namespace only. A failure is reported with the
description of the step that it happened in.
"""

from __future__ import annotations

import _socket
import errno
import fcntl
import os
import stat
import struct

from specrun_runtime import libc, mounts, namespaces
from specrun_runtime.cgroups import Cgroup
from specrun_runtime.constants import AT_FDCWD, PROC_SUPER_MAGIC, Clone, MountAttr, Resolve, names
from specrun_runtime.errors import IsolationError, Refused, Unsupported
from specrun_runtime.fds import Fd, write_all
from specrun_runtime.paths import make_directories, make_file, open_procfs
from specrun_runtime.spec import host_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun_runtime.spec import Mount, Spec

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
ALLOWED_IN_PROC = frozenset(
    "/proc/cpuinfo /proc/diskstats /proc/meminfo /proc/stat /proc/swaps /proc/uptime /proc/loadavg /proc/slabinfo "
    "/proc/sys/kernel/ns_last_pid /proc/sys/crypto/fips_enabled".split()
)
"""What may be mounted over in /proc: files that tell how much of the machine the container has."""


RELAXED = "org.specrun.relaxed"
"""An annotation: which of `nodev` (on the root) and `cgroup-tmpfs` (read-only) are left out, joined by commas."""


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


class Step:
    """One thing that is done to make the container."""

    def describe(self) -> str:
        """What it does, in the words of an error message."""
        raise NotImplementedError

    def prepare(self, user_namespace: int) -> None:
        """What the launcher does for it; `user_namespace` is the descriptor of the container's, or -1."""

    def perform(self, stage: Stage) -> None:
        """Do it."""
        raise NotImplementedError

    def release(self) -> None:
        """Close what `prepare` has opened."""


class Plan:
    """The steps, in the order that they need: `before` the hooks that see the host's files, and `after` them."""

    __slots__ = ("after", "before")

    def __init__(self, before: list[Step], after: list[Step]) -> None:
        self.before = before
        self.after = after

    def release(self) -> None:
        """Close what the preparation has opened."""
        for step in (*self.before, *self.after):
            step.release()


def plan(spec: Spec, overlay: Overlay | None, paths: dict[str, int]) -> Plan:
    """The steps that give a new process the isolation that `spec` asks for; `paths` are namespaces to join."""
    before: list[Step] = [EnterNamespaces(spec, paths)]
    if spec.makes("network"):
        before.append(LoopbackUp())
    if spec.hostname or spec.domainname:
        if not spec.own("uts"):
            raise Unsupported("hostname", "the container has no uts namespace of its own, it would rename the host")
        before.append(SetHostname(spec.hostname, spec.domainname))
    if not spec.own("mount"):
        if spec.mounts or spec.masked_paths or spec.readonly_paths or spec.devices or spec.readonly_root or overlay:
            reason = "without a mount namespace of the container's own this would be done to the host"
            raise Unsupported("linux.namespaces", f"mounts, devices, masked and read-only paths: {reason}")
        return Plan(before, [ChangeRoot(spec.root)])
    separate = any(mount.destination.rstrip("/") == "/dev" for mount in spec.mounts)
    relaxed = spec.annotations.get(RELAXED, "").split(",")
    root = (host_id(spec.uid_mappings, 0), host_id(spec.gid_mappings, 0)) if overlay else (0, 0)
    before.append(MountRoot(spec.root, overlay, root, no_devices=separate and "nodev" not in relaxed))
    made = False
    for mount in spec.mounts:
        if mount.type == "cgroup":
            before.append(MountCgroups(mount, sealed="cgroup-tmpfs" not in relaxed))
        else:
            before.append(MountAt(mount, spec))
        if mount.destination.rstrip("/") == "/dev":
            made = True
            if mount.type != "bind":
                before.append(MakeDevices(spec))
    if not made:
        before.append(MakeDevices(spec))
    elif spec.devices and not any(isinstance(step, MakeDevices) for step in before):
        before.append(MakeDevices(spec, defaults=False))
    joined = joined_parameters(spec)
    before += [SetKernelParameter(key, value) for key, value in spec.sysctl.items() if key not in joined]
    before += [ReadOnlyPath(path) for path in spec.readonly_paths]
    before += [MaskPath(path) for path in spec.masked_paths]
    after: list[Step] = [EnterRoot(spec.readonly_root)]
    if spec.propagation:
        after.append(SetPropagation(spec.propagation))
    return Plan(before, after)


class EnterNamespaces(Step):
    """All but the user, pid and time namespaces, which whoever forked this process has seen to."""

    def __init__(self, spec: Spec, paths: dict[str, int]) -> None:
        self.flags = 0
        joined = ("user", "pid", "time", *(namespaces.JOINED_FIRST if "user" in paths else ()))
        self.paths = {kind: paths[kind] for kind in paths if kind not in joined}
        for kind in ("network", "mount", "ipc", "uts", "cgroup"):
            if spec.makes(kind):
                self.flags |= namespaces.FLAGS[kind]
        self.mount = spec.own("mount")

    def describe(self) -> str:
        """What it does."""
        joined = f", join {', '.join(self.paths)}" if self.paths else ""
        return f"make the namespaces {names(Clone, self.flags)}{joined}"

    def perform(self, stage: Stage) -> None:
        """Do it; the cgroup namespace takes the group joined before as its root."""
        for kind, descriptor in self.paths.items():
            libc.setns(descriptor, namespaces.FLAGS[kind])
        if self.flags:
            libc.unshare(self.flags)
        if self.mount:
            mounts.make_root_slave()


class LoopbackUp(Step):
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


class MountRoot(Step):
    """The root file system: an overlay of layers, or a folder as it is."""

    def __init__(self, path: str, overlay: Overlay | None, root: tuple[int, int], *, no_devices: bool) -> None:
        self.path = path
        self.root = root
        """The container's root, as the host numbers it."""
        self.overlay = overlay
        self.no_devices = no_devices
        self.made = Fd(-1)

    def describe(self) -> str:
        """What it does."""
        kind = f"an overlay of {len(self.overlay.lower)} layers" if self.overlay else "the folder itself"
        return f"mount the root file system at {self.path}: {kind}"

    def prepare(self, user_namespace: int) -> None:
        """Make the mount, detached; where /dev is a mount of its own, devices in the image are never of use."""
        if self.overlay:
            self.made = mounts.new_overlay(
                self.overlay.lower, self.overlay.upper, self.overlay.work, user_namespace, self.root
            )
        else:
            self.made = mounts.copy_of(AT_FDCWD, self.path, recursive=True)
        libc.mount_setattr(self.made.number, propagation=mounts.PROPAGATION["slave"][0], recursive=True)
        if self.no_devices:
            libc.mount_setattr(self.made.number, enable=MountAttr.NODEV)

    def perform(self, stage: Stage) -> None:
        """Attach it."""
        with Fd(os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as target:
            libc.move_mount(self.made.number, target.number)
        stage.root = self.made.number

    def release(self) -> None:
        """Close the mount."""
        self.made.close()


class MountAt(Step):
    """One mount of the specification."""

    def __init__(self, mount: Mount, spec: Spec) -> None:
        self.mount = mount
        self.options = mounts.Options.parse(mount.options, f"{mount.field}.options")
        self.made = Fd(-1)
        self.uid_mappings = mount.uid_mappings or spec.uid_mappings
        self.gid_mappings = mount.gid_mappings or spec.gid_mappings
        self.mapped = bool(mount.uid_mappings) or bool(self.options.idmap)
        # Newer kernels list mounts by age, so where nothing forbids it they are made in the order of the list. What is
        # shared with the host must be a copy of the host's own mount, not of the slave that the new namespace has; by
        # the convention of runc and of the engines that call it, `rootfsPropagation` says that this is wanted.
        shared = spec.propagation in ("shared", "rshared")
        self.of_another = _neighbour(mount)
        self.in_order = spec.makes("mount") and not (spec.own("user") or self.mapped or shared or self.of_another)
        self.network = spec.namespaces.get("network") or "" if mount.type == "sysfs" and spec.own("user") else ""
        field = f"{mount.field}.options"
        if mount.type == "bind":
            unknown = [key for key, _ in self.options.data if key not in _USELESS]
            if unknown or self.options.copy_up:
                word = unknown[0] if unknown else "tmpcopyup"
                raise Unsupported(field, f"{word!r} is not an option of a bind mount")
        if self.mapped and mount.type != "bind":
            raise Unsupported(field, "only bind mounts can be idmapped")
        if self.mapped and not self.uid_mappings:
            raise Unsupported(field, "an idmapped mount needs uidMappings and gidMappings, of its own or of linux")
        if self.options.copy_up and mount.type != "tmpfs":
            raise Unsupported(field, "'tmpcopyup' is an option of tmpfs")

    def describe(self) -> str:
        """What it does."""
        return f"mount {self.mount.type} {self.mount.source} on {self.mount.destination}"

    def prepare(self, user_namespace: int) -> None:
        """A bind mount that needs the host's rights, or the host's own mount, is made by the launcher."""
        if self.network:  # sysfs is refused to a user namespace that does not own the network namespace
            self.made = namespaces.made_inside(self.network, "network", self._new)
        if self.mount.type != "bind" or self.in_order:
            return
        if self.of_another:
            pid, path = self.of_another
            self.made = namespaces.made_inside(f"/proc/{pid}/ns/mnt", "mount", lambda: _copy_of_own(path, self.options))
        elif not self.mapped:
            self.made = mounts.bind(self.mount.source, self.options)
        elif self.mount.uid_mappings or user_namespace < 0:
            with namespaces.new_user_namespace(self.uid_mappings, self.gid_mappings) as mapping:
                self.made = mounts.bind(self.mount.source, self.options, mapping.number)
        else:
            self.made = mounts.bind(self.mount.source, self.options, user_namespace)

    def perform(self, stage: Stage) -> None:
        """Do it, on a target that was opened inside the root."""
        mount = self.mount
        if mount.type == "bind":
            if self.in_order:
                self.made = mounts.bind(mount.source, self.options)
            folder = stat.S_ISDIR(os.fstat(self.made.number).st_mode)
        else:
            self.made = self.made if self.network else self._new()
            folder = True
        with _target(stage, mount, folder) as target:
            if self.options.copy_up:
                copy_tree(target.number, self.made.number)
            libc.move_mount(self.made.number, target.number)
            if mount.type == "proc":
                stage.proc = self.made.release()
            elif mount.destination.rstrip("/") == "/dev":
                stage.dev = self.made.release()
        self.made.close()

    def _new(self) -> Fd:
        return mounts.new_filesystem(self.mount.type, self.mount.source, self.options)

    def release(self) -> None:
        """Close the mount."""
        self.made.close()


def _neighbour(mount: Mount) -> tuple[int, str] | None:
    """The pid and the path of a bind mount of what another container has at `/proc/<pid>/root/<path>`."""
    parts = mount.source.split("/", 4)
    if mount.type != "bind" or len(parts) < 5 or parts[:2] != ["", "proc"] or parts[3] != "root":
        return None
    return (int(parts[2]), parts[4]) if parts[2].isascii() and parts[2].isdigit() else None


def _copy_of_own(path: str, options: mounts.Options) -> Fd:
    """In the mount namespace of another container: a copy of what is mounted at `path`, which is nobody's symlink."""
    flags = Resolve.IN_ROOT | Resolve.NO_SYMLINKS | Resolve.NO_MAGICLINKS
    with (
        Fd(os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as root,
        Fd(libc.openat2(root.number, path, os.O_PATH | os.O_CLOEXEC, 0, flags)) as found,
    ):
        made = mounts.copy_of(found.number, "", recursive=options.recursive)
    try:
        mounts.apply_options(made, options)
    except BaseException:
        made.close()
        raise
    return made


_USELESS = frozenset(("gid", "mode", "nr_blocks", "nr_inodes", "size", "uid"))
"""Parameters of a new tmpfs, which some engines give to every mount; for a bind mount mount(2) has no use for them."""


class MountCgroups(Step):
    """The container's own groups, read-only, one folder for each hierarchy of version 1."""

    def __init__(self, mount: Mount, *, sealed: bool = True) -> None:
        self.mount = mount
        self.sealed = sealed
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
                if self.sealed and self.options.enable & MountAttr.RDONLY:
                    libc.mount_setattr(tmpfs.number, enable=MountAttr.RDONLY)


class MakeDevices(Step):
    """The device nodes and links that every container has, and those of `linux.devices`.

    In a user namespace nobody may make a device: there the host's own are bound in their place.
    """

    def __init__(self, spec: Spec, *, defaults: bool = True) -> None:
        self.defaults = defaults
        # Of the container's own devpts, by the link; a privileged container is given the host's in its list.
        self.devices = [device for device in spec.devices if os.path.normpath(device.path) != "/dev/ptmx"]
        self.bound: dict[str, Fd] = {}

    def describe(self) -> str:
        """What it does."""
        return "make the device nodes in /dev"

    def prepare(self, user_namespace: int) -> None:
        """Open the host's devices where they are to be bound."""
        if user_namespace < 0:
            return
        wanted = [(f"/dev/{name}", stat.S_IFCHR, os.makedev(*number)) for name, *number in DEVICES if self.defaults]
        wanted += [
            (device.path, _KINDS[device.type], os.makedev(device.major, device.minor)) for device in self.devices
        ]
        for path, kind, number in wanted:
            info = os.lstat(path) if os.path.lexists(path) else None
            if info is None or stat.S_IFMT(info.st_mode) != kind or (info.st_rdev != number and kind != stat.S_IFIFO):
                raise Refused(errno.ENODEV, "is not such a device on the host, as a user namespace needs", path)
            self.bound[path] = mounts.bind(path, mounts.Options())

    def perform(self, stage: Stage) -> None:
        """mknod(2), before anything of the image can see it."""
        if self.defaults:
            with Fd(make_directories(stage.root, "/dev")) as folder:
                for name, major, minor in DEVICES:
                    if f"/dev/{name}" in self.bound:
                        self._bind(folder.number, name, self.bound[f"/dev/{name}"])
                    else:
                        _make_node(folder.number, name, stat.S_IFCHR, os.makedev(major, minor), 0o666)
                for name, target in LINKS:
                    _make_link(folder.number, name, target)
                stage.null = os.open("null", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder.number)
        for device in self.devices:
            parent, name = os.path.split(device.path)
            with Fd(make_directories(stage.root, parent)) as folder:
                if device.path in self.bound:
                    self._bind(folder.number, name, self.bound[device.path])
                    continue
                number = os.makedev(device.major, device.minor)
                _make_node(folder.number, name, _KINDS[device.type], number, device.mode)
                os.chown(name, device.uid, device.gid, dir_fd=folder.number, follow_symlinks=False)

    def _bind(self, folder: int, name: str, mount: Fd) -> None:
        try:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666, dir_fd=folder))
        except FileExistsError:
            pass
        with Fd(os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)) as target:
            libc.move_mount(mount.number, target.number)

    def release(self) -> None:
        """Close the host's devices."""
        for mount in self.bound.values():
            mount.close()


_KINDS = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}


def _make_node(folder: int, name: str, kind: int, number: int, mode: int) -> None:
    """mknod(2); what is there already must be the same, or Refused is raised."""
    try:
        os.mknod(name, mode | kind, 0 if kind == stat.S_IFIFO else number, dir_fd=folder)
    except FileExistsError as error:
        info = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_IFMT(info.st_mode) != kind or (kind != stat.S_IFIFO and info.st_rdev != number):
            raise Refused(errno.EEXIST, "is there already, and is another file", name) from error


def _make_link(folder: int, name: str, target: str) -> None:
    try:
        os.symlink(target, name, dir_fd=folder)
    except FileExistsError:
        pass  # the image's own; it is only ever followed inside


class SetKernelParameter(Step):
    """A parameter of sysctl(8), of the container's own namespaces."""

    def __init__(self, key: str, value: str) -> None:
        self.key = key
        self.value = value

    def describe(self) -> str:
        """What it does."""
        return f"set {self.key}={self.value}"

    def perform(self, stage: Stage) -> None:
        """Do it by a procfs of our own, which nothing of the image can stand in for."""
        with _procfs(stage) as procfs:
            self.write(procfs.number)

    def write(self, procfs: int) -> None:
        """Do it by the procfs of this descriptor."""
        # With a slash in it, the name is in the notation in which a dot is part of a name (sysctl.d(5)).
        path = self.key if "/" in self.key else self.key.replace(".", "/")
        with Fd(open_procfs(procfs, f"sys/{path}", os.O_WRONLY)) as file:
            write_all(file.number, self.value.encode())


def joined_parameters(spec: Spec) -> dict[str, str]:
    """Parameters of a network namespace of the host's, which the root of another user namespace cannot set."""
    if not (spec.own("user") and spec.namespaces.get("network")):
        return {}
    return {key: value for key, value in spec.sysctl.items() if key.startswith(("net.", "net/"))}


class ReadOnlyPath(Step):
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


class MaskPath(Step):
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
            if not stat.S_ISDIR(os.fstat(target.number).st_mode):
                source = self._null(stage)
            elif stage.empty < 0:
                # The first folder gets the file system itself: before Linux 6.15 only an attached mount is copied.
                stage.empty = self._new_empty()
                libc.move_mount(stage.empty, target.number)
                return
            else:
                source = stage.empty
            with mounts.copy_of(source, "") as copy:
                libc.move_mount(copy.number, target.number)

    def _new_empty(self) -> int:
        options = mounts.Options()
        options.enable = int(MountAttr.RDONLY)
        options.data = [("nr_inodes", "1"), ("size", "0")]
        return mounts.new_filesystem("tmpfs", "tmpfs", options).release()

    def _null(self, stage: Stage) -> int:
        """Our own null device, proven to be one; never what an image calls /dev/null."""
        if stage.null < 0:
            stage.null = os.open("/dev/null", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        info = os.fstat(stage.null)
        if not stat.S_ISCHR(info.st_mode) or info.st_rdev != os.makedev(1, 3):
            raise Refused(errno.ENODEV, "is not the null device", "/dev/null")
        return stage.null


class SetHostname(Step):
    """The name of the uts namespace."""

    def __init__(self, hostname: str, domainname: str) -> None:
        self.hostname = hostname
        self.domainname = domainname

    def describe(self) -> str:
        """What it does."""
        return f"set the host name to {self.hostname}"

    def perform(self, stage: Stage) -> None:
        """Do it."""
        if self.hostname:
            libc.sethostname(self.hostname)
        if self.domainname:
            libc.setdomainname(self.domainname)


class EnterRoot(Step):
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


class ChangeRoot(Step):
    """chroot(2), for a container that shares the host's mount namespace."""

    def __init__(self, path: str) -> None:
        self.path = path

    def describe(self) -> str:
        """What it does."""
        return f"change the root to {self.path}"

    def perform(self, stage: Stage) -> None:
        """Do it."""
        os.chroot(self.path)
        os.chdir("/")


class SetPropagation(Step):
    """`linux.rootfsPropagation`."""

    def __init__(self, word: str) -> None:
        self.word = word

    def describe(self) -> str:
        """What it does."""
        return f"make the root mount {self.word}"

    def perform(self, stage: Stage) -> None:
        """Do it."""
        mounts.set_root_propagation(self.word)


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
    if libc.filesystem_type(target.number) == PROC_SUPER_MAGIC and destination not in ALLOWED_IN_PROC:
        target.close()
        raise Refused(errno.EPERM, "is inside /proc, where nothing may be mounted", destination)
    return target


_EXACTLY = Resolve.BENEATH | Resolve.NO_SYMLINKS | Resolve.NO_MAGICLINKS


def _existing(stage: Stage, path: str) -> Fd:
    """The file or folder at `path` for masking; number -1 where there is none, Refused where it is a link."""
    try:
        if path.startswith("/proc/") and stage.proc >= 0:
            return Fd(open_procfs(stage.proc, path.removeprefix("/proc/"), os.O_PATH))
        return Fd(libc.openat2(stage.root, path.lstrip("/"), os.O_PATH, 0, _EXACTLY))
    except (FileNotFoundError, NotADirectoryError):
        return Fd(-1)
    except IsolationError as error:
        if error.errno == errno.ELOOP:
            raise Refused(errno.ELOOP, "is a symbolic link", path) from error
        raise


def _procfs(stage: Stage) -> Fd:
    """The procfs that we mounted ourselves, or one more where the container is to have none."""
    if stage.proc >= 0:
        return Fd(os.dup(stage.proc))
    return mounts.new_filesystem("proc", "proc", mounts.Options())


def copy_tree(source: int, target: int) -> None:
    """Copy the content of one folder into another, with owners, modes and times; devices are left out."""
    with Fd(os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=source)) as folder:
        names = os.listdir(folder.number)
        info = os.fstat(folder.number)
    with Fd(os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=target)) as made:
        os.fchown(made.number, info.st_uid, info.st_gid)
        os.fchmod(made.number, stat.S_IMODE(info.st_mode))
    for name in names:
        info = os.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISLNK(info.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
            os.chown(name, info.st_uid, info.st_gid, dir_fd=target, follow_symlinks=False)
        elif stat.S_ISDIR(info.st_mode):
            os.mkdir(name, 0o700, dir_fd=target)
            flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            with Fd(os.open(name, flags, dir_fd=source)) as inner, Fd(os.open(name, flags, dir_fd=target)) as copy:
                copy_tree(inner.number, copy.number)
        elif stat.S_ISREG(info.st_mode):
            _copy_file(source, target, name)


def _copy_file(source: int, target: int, name: str) -> None:
    flags = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    with Fd(os.open(name, os.O_RDONLY | flags, dir_fd=source)) as reader:
        info = os.fstat(reader.number)
        with Fd(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | flags, 0o600, dir_fd=target)) as writer:
            while data := os.read(reader.number, 1 << 16):
                write_all(writer.number, data)
            os.fchown(writer.number, info.st_uid, info.st_gid)
            os.fchmod(writer.number, stat.S_IMODE(info.st_mode))
            os.utime(writer.number, ns=(info.st_atime_ns, info.st_mtime_ns))
