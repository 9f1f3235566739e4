"""Mounts by descriptor: made detached, given their attributes, and attached only when they are finished."""

from __future__ import annotations

import os

from specrun_runtime import libc
from specrun_runtime.constants import AT_FDCWD, AT_RECURSIVE, FsConfig, Mount, MountAttr, OpenTree
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


class Options:
    """The options of one mount, sorted by what the kernel does with them."""

    __slots__ = ("bind", "data", "disable", "enable", "propagation", "recursive")

    def __init__(self) -> None:
        self.bind = False
        self.recursive = False
        self.enable = 0
        self.disable = 0
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
            elif word in PROPAGATION:
                flag, recursive = PROPAGATION[word]
                options.propagation.append((int(flag), recursive))
            elif word in ("defaults", "newinstance"):
                continue  # what the kernel does anyway
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
        return Fd(libc.fsmount(context.number, MountAttr(options.enable)))


def copy_of(directory: int, path: str, *, recursive: bool = False) -> Fd:
    """A detached copy of the mount at `path` (relative to `directory`), rooted there: what a bind mount attaches."""
    flags = OpenTree.CLONE | (AT_RECURSIVE if recursive else 0)
    if not path:
        flags |= 0x1000  # AT_EMPTY_PATH
    return Fd(libc.open_tree(directory, path, flags))


def bind(source: str, options: Options) -> Fd:
    """A detached copy of the host's `source` with the options applied."""
    mount = copy_of(AT_FDCWD, source, recursive=options.recursive)
    try:
        apply_options(mount, options)
    except BaseException:
        mount.close()
        raise
    return mount


def apply_options(mount: Fd, options: Options) -> None:
    """Give a detached mount the attributes and the propagation of `options`."""
    if options.enable or options.disable:
        libc.mount_setattr(mount.number, enable=options.enable, disable=options.disable)
    for propagation, recursive in options.propagation:
        libc.mount_setattr(mount.number, propagation=propagation, recursive=recursive)


def new_overlay(lower: list[str], upper: str, work: str) -> Fd:
    """A detached overlay mount of `lower` (topmost first) with the writable `upper`."""
    with Fd(libc.fsopen("overlay")) as context:
        libc.fsconfig(context.number, FsConfig.SET_STRING, "source", "overlay")
        _set_lower(context.number, lower)
        libc.fsconfig(context.number, FsConfig.SET_STRING, "upperdir", upper)
        libc.fsconfig(context.number, FsConfig.SET_STRING, "workdir", work)
        libc.fsconfig(context.number, FsConfig.CMD_CREATE)
        return Fd(libc.fsmount(context.number, MountAttr(0)))


def _set_lower(context: int, lower: list[str]) -> None:
    try:
        for layer in lower:
            libc.fsconfig(context, FsConfig.SET_STRING, "lowerdir+", layer)
        return
    except IsolationError as error:
        if error.errno != 22:
            raise
    # Before Linux 6.5 there is one option for all layers, with its own separators to escape.
    joined = ":".join(layer.replace("\\", "\\\\").replace(":", "\\:") for layer in lower)
    libc.fsconfig(context, FsConfig.SET_STRING, "lowerdir", joined)


def make_root_slave() -> None:
    """Let no mount of this mount namespace reach the host's."""
    libc.mount("", "/", "", Mount.REC | Mount.SLAVE)


def enter_root(root: int) -> None:
    """Make the mount of descriptor `root` the root of this mount namespace, and let go of all of the old one."""
    os.fchdir(root)
    libc.pivot_root(".", ".")
    # The old root now lies over the new one; take it away from where we stand.
    libc.umount(".", 2)
    os.chdir("/")
