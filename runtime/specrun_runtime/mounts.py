"""Mounts by descriptor: made detached, given their attributes, and attached only when they are finished."""

from __future__ import annotations

import os

from specrun_runtime import libc
from specrun_runtime.constants import AT_FDCWD, AT_RECURSIVE, FsConfig, Mount, MountAttr, OpenTree, Prctl
from specrun_runtime.errors import IsolationError, SpecError
from specrun_runtime.fds import Fd

ATTRIBUTES = {
    "ro": (MountAttr.RDONLY, 0),
    "rw": (0, MountAttr.RDONLY),
    "nosuid": (MountAttr.NOSUID, 0),
    "suid": (0, MountAttr.NOSUID),
    "nodev": (MountAttr.NODEV, 0),
    "dev": (0, MountAttr.NODEV),
    "noexec": (MountAttr.NOEXEC, 0),
    "exec": (0, MountAttr.NOEXEC),
    "noatime": (MountAttr.NOATIME, MountAttr.ATIME_MASK),
    "atime": (0, MountAttr.NOATIME),
    "strictatime": (MountAttr.STRICTATIME, MountAttr.ATIME_MASK),
    "relatime": (0, MountAttr.ATIME_MASK),
    "nodiratime": (MountAttr.NODIRATIME, 0),
    "diratime": (0, MountAttr.NODIRATIME),
    "nosymfollow": (MountAttr.NOSYMFOLLOW, 0),
    "symfollow": (0, MountAttr.NOSYMFOLLOW),
}
"""Option of mount(8) -> the attributes that it sets and clears."""

RECURSIVE = {f"r{name}": attributes for name, attributes in ATTRIBUTES.items()}
"""The same for a whole tree of mounts (config.md, "Linux mount options"); `rro` is a recursively read-only bind."""

PROPAGATION = {
    "private": (Mount.PRIVATE, False),
    "rprivate": (Mount.PRIVATE, True),
    "slave": (Mount.SLAVE, False),
    "rslave": (Mount.SLAVE, True),
    "shared": (Mount.SHARED, False),
    "rshared": (Mount.SHARED, True),
    "unbindable": (Mount.UNBINDABLE, False),
    "runbindable": (Mount.UNBINDABLE, True),
}


IGNORED = frozenset(("defaults", "newinstance", "async", "nolazytime", "nomand", "loud", "noiversion", "diratime"))
"""What the kernel does anyway."""

KNOWN = (
    *ATTRIBUTES,
    *RECURSIVE,
    *PROPAGATION,
    "bind",
    "rbind",
    "idmap",
    "ridmap",
    "tmpcopyup",
    "defaults",
    "newinstance",
)
"""Every option that is not handed to the file system."""


class Options:
    """The options of one mount, sorted by what the kernel does with them."""

    __slots__ = (
        "bind",
        "copy_up",
        "data",
        "disable",
        "disable_below",
        "enable",
        "enable_below",
        "idmap",
        "propagation",
        "recursive",
    )

    def __init__(self) -> None:
        self.bind = False
        self.recursive = False
        self.enable = 0
        self.disable = 0
        self.enable_below = 0
        self.disable_below = 0
        """The attributes for a whole tree of mounts."""
        self.idmap = ""
        """`idmap`, `ridmap` for a whole tree of mounts, or "" for neither."""
        self.copy_up = False
        """Whether a new tmpfs begins with what it covers."""
        self.propagation: list[tuple[int, bool]] = []
        self.data: list[tuple[str, str | None]] = []

    @classmethod
    def parse(cls, words: list[str], field: str) -> Options:
        """Sort `words`; what is no generic option goes to the file system as `key` or `key=value`."""
        options = cls()
        for word in words:
            if word in ("bind", "rbind"):
                options.bind = True
                options.recursive = word == "rbind"
            elif word in ATTRIBUTES:
                enable, disable = ATTRIBUTES[word]
                options.enable = (options.enable & ~disable) | enable
                options.disable = (options.disable & ~enable) | disable
            elif word in RECURSIVE:
                enable, disable = RECURSIVE[word]
                options.enable_below = (options.enable_below & ~disable) | enable
                options.disable_below = (options.disable_below & ~enable) | disable
            elif word in ("idmap", "ridmap"):
                options.idmap = word
            elif word == "tmpcopyup":
                options.copy_up = True
            elif word in PROPAGATION:
                flag, recursive = PROPAGATION[word]
                options.propagation.append((int(flag), recursive))
            elif word in IGNORED:
                continue
            elif not word or "," in word or "\n" in word:
                raise SpecError(field, f"{word!r} is not a mount option")
            else:
                key, equals, value = word.partition("=")
                options.data.append((key, value if equals else None))
        return options


def new_filesystem(filesystem: str, source: str, options: Options) -> Fd:
    """A detached mount of a new instance of `filesystem`."""
    with Fd(libc.fsopen(filesystem)) as context:
        libc.fsconfig(context.number, FsConfig.SET_STRING, "source", source)
        for key, value in options.data:
            command = FsConfig.SET_FLAG if value is None else FsConfig.SET_STRING
            libc.fsconfig(context.number, command, key, value)
        libc.fsconfig(context.number, FsConfig.CMD_CREATE)
        return Fd(libc.fsmount(context.number, options.enable))


def copy_of(directory: int, path: str, *, recursive: bool = False) -> Fd:
    """A detached copy of the mount at `path` (relative to `directory`), rooted there: what a bind mount attaches."""
    flags = OpenTree.CLONE | (AT_RECURSIVE if recursive else 0)
    if not path:
        flags |= 0x1000  # AT_EMPTY_PATH
    return Fd(libc.open_tree(directory, path, flags))


def bind(source: str, options: Options, user_namespace: int = -1) -> Fd:
    """A detached copy of the host's `source` with the options applied; private where they do not say otherwise.

    `user_namespace` is the descriptor whose mappings an idmapped mount shows the owners by (mount_setattr(2)).
    """
    mount = copy_of(AT_FDCWD, source, recursive=options.recursive)
    try:
        if user_namespace >= 0:
            whole = options.idmap == "ridmap"
            libc.mount_setattr(mount.number, enable=MountAttr.IDMAP, recursive=whole, user_namespace=user_namespace)
        apply_options(mount, options)
    except BaseException:
        mount.close()
        raise
    return mount


def apply_options(mount: Fd, options: Options) -> None:
    """Give a detached mount the attributes and the propagation of `options`."""
    if options.enable or options.disable:
        libc.mount_setattr(mount.number, enable=options.enable, disable=options.disable)
    if options.enable_below or options.disable_below:
        libc.mount_setattr(mount.number, enable=options.enable_below, disable=options.disable_below, recursive=True)
    for propagation, recursive in options.propagation or [(int(Mount.PRIVATE), True)]:
        libc.mount_setattr(mount.number, propagation=propagation, recursive=recursive)


def new_overlay(
    lower: list[str], upper: str, work: str, user_namespace: int = -1, root: tuple[int, int] = (0, 0)
) -> Fd:
    """A detached overlay mount of `lower` (topmost first) with the writable `upper`.

    With a `user_namespace` every layer is seen through an idmapped mount, so that files of a shared layer have the
    owners that they have for the container's `root`, which is these user and group ids on the host; that needs Linux
    6.13 (layers by descriptor). Raises IsolationError with EINVAL on an older one: a caller then gives layers that are
    owned as the mapping wants.
    """
    if user_namespace < 0:
        return _overlay(lower, {"upperdir": upper, "workdir": work}, 0)
    with Fd(libc.fsopen("overlay")) as context:
        libc.fsconfig(context.number, FsConfig.SET_STRING, "source", "overlay")
        opened: list[Fd] = []  # a detached mount is gone with its last descriptor
        try:
            for layer in lower:
                opened.append(_idmapped(layer, user_namespace))
                libc.fsconfig_fd(context.number, "lowerdir+", opened[-1].number)
            # overlayfs wants the upper and the work folder on one mount: both are opened below a copy of their parent.
            parent = _idmapped(os.path.dirname(upper), user_namespace)
            opened.append(parent)
            for key, path in (("upperdir", upper), ("workdir", work)):
                name = os.path.basename(path)
                with Fd(os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent.number)) as folder:
                    libc.fsconfig_fd(context.number, key, folder.number)
            _create_as(context.number, *root)
        finally:
            for descriptor in opened:
                descriptor.close()
        return Fd(libc.fsmount(context.number, 0))


def _create_as(context: int, uid: int, gid: int) -> None:
    """Make the file system as this user, with all capabilities: overlayfs acts as who made it."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            libc.prctl(Prctl.SET_KEEPCAPS, 1)
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            with open("/proc/self/status", encoding="ascii") as file:
                permitted = next(int(line.split()[1], 16) for line in file if line.startswith("CapPrm:"))
            libc.capset(permitted, permitted, 0)
            libc.fsconfig(context, FsConfig.CMD_CREATE)
            os.write(writer, b"0")
        except OSError as error:
            os.write(writer, str(error.errno or 5).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with Fd(reader):
        answer = os.read(reader, 16)
    os.waitpid(pid, 0)
    if answer != b"0":
        raise IsolationError.of(int(answer or b"5"), "fsconfig", "overlay of idmapped layers")


def new_view(lower: list[str]) -> Fd:
    """A detached, read-only mount of `lower` (topmost first), to look at files without attaching it anywhere."""
    attributes = MountAttr.RDONLY | MountAttr.NODEV | MountAttr.NOSUID
    if len(lower) > 1:
        return _overlay(lower, {}, attributes)
    view = copy_of(AT_FDCWD, lower[0])  # overlayfs wants two layers when there is no writable one
    libc.mount_setattr(view.number, enable=attributes)
    return view


def _overlay(lower: list[str], others: dict[str, str], attributes: int) -> Fd:
    try:
        return _made(lower, others, attributes)
    except IsolationError as error:
        if error.errno != 22:
            raise
    # Before Linux 6.5 there is one option for all layers, and all options are one text of a page with separators of
    # its own, whose mistakes are told at the end only. Paths of descriptors are short and need no escapes.
    opened: list[int] = []
    try:
        for path in (*lower, *others.values()):
            opened.append(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        short = [f"/proc/self/fd/{number}" for number in opened]
        others = dict(zip(others, short[len(lower) :], strict=True))
        return _made([], {"lowerdir": ":".join(short[: len(lower)]), **others}, attributes)
    finally:
        for number in opened:
            os.close(number)


def _made(lower: list[str], others: dict[str, str], attributes: int) -> Fd:
    with Fd(libc.fsopen("overlay")) as context:
        for key, value in (("source", "overlay"), *(("lowerdir+", layer) for layer in lower), *others.items()):
            libc.fsconfig(context.number, FsConfig.SET_STRING, key, value)
        libc.fsconfig(context.number, FsConfig.CMD_CREATE)
        return Fd(libc.fsmount(context.number, attributes))


def _idmapped(path: str, user_namespace: int) -> Fd:
    copy = copy_of(AT_FDCWD, path)
    try:
        libc.mount_setattr(copy.number, enable=MountAttr.IDMAP, user_namespace=user_namespace)
        libc.mount_setattr(copy.number, propagation=Mount.PRIVATE)
    except BaseException:
        copy.close()
        raise
    return copy


def make_root_slave() -> None:
    """Let no mount of this mount namespace reach the host's."""
    libc.mount("", "/", "", Mount.REC | Mount.SLAVE)


def set_root_propagation(word: str) -> None:
    """Give the container's root mount the propagation of `linux.rootfsPropagation`."""
    flag, recursive = PROPAGATION[word]
    libc.mount("", "/", "", flag | (Mount.REC if recursive else 0))


def enter_root(root: int) -> None:
    """Make the mount of descriptor `root` the root of this mount namespace, and let go of all of the old one."""
    os.fchdir(root)
    libc.pivot_root(".", ".")
    # The old root now lies over the new one; take it away from where we stand.
    libc.umount(".", 2)
    os.chdir("/")
