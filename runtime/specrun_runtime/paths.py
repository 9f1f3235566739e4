"""Resolution of paths inside a root that somebody else filled: by the kernel, never by string."""

from __future__ import annotations

import os
import stat

from specrun_runtime import libc
from specrun_runtime.constants import PROC_SUPER_MAGIC, Resolve
from specrun_runtime.errors import IsolationError, Refused
from specrun_runtime.fds import Fd, read_all

IN_ROOT = Resolve.IN_ROOT | Resolve.NO_MAGICLINKS


def open_in_root(root: int, path: str, flags: int = os.O_PATH, mode: int = 0) -> int:
    """Open `path` as a process whose root folder is `root` would, links included; magic links are refused."""
    return libc.openat2(root, path, flags, mode, IN_ROOT)


def make_directories(root: int, path: str, mode: int = 0o755) -> int:
    """The folder `path` inside `root`, made with its parents where missing; gives an O_PATH descriptor.

    A symbolic link on the way is followed inside the root. Raises IsolationError when something that is no
    folder is in the way, or a link points to nothing.
    """
    try:
        return open_in_root(root, path, os.O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        pass
    parent_path, name = os.path.split(path.rstrip("/"))
    if not name:
        raise IsolationError.of(2, "openat2", path)
    with Fd(make_directories(root, parent_path or "/", mode)) as parent:
        try:
            os.mkdir(name, mode, dir_fd=parent.number)
        except FileExistsError:
            # Made meanwhile, or a link to nothing: only a real folder will do now.
            pass
        return libc.openat2(parent.number, name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)


def make_file(root: int, path: str) -> int:
    """The file `path` inside `root`, made empty with its parents where missing; gives an O_PATH descriptor."""
    try:
        return open_in_root(root, path)
    except FileNotFoundError:
        pass
    parent_path, name = os.path.split(path.rstrip("/"))
    with Fd(make_directories(root, parent_path or "/")) as parent:
        try:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=parent.number))
        except FileExistsError:
            pass
        return libc.openat2(parent.number, name, os.O_PATH | os.O_NOFOLLOW)


def read_regular(root: int, path: str, limit: int = 1 << 20) -> bytes:
    """The content of a regular file inside `root`, at most `limit` bytes; b"" where there is none.

    A FIFO, a device or an oversized file is refused (Refused), and never waited for.
    """
    try:
        descriptor = open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError:
        return b""
    except NotADirectoryError:
        return b""
    with Fd(descriptor):
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            raise Refused(22, "is not a regular file", path)
        if info.st_size > limit:
            raise Refused(27, f"is larger than {limit} bytes", path)
        return read_all(descriptor, limit)


def open_procfs(procfs: int, path: str, flags: int) -> int:
    """Open `path` below our own procfs mount `procfs`; raises Refused unless it truly is on a procfs."""
    relative = path.lstrip("/")
    descriptor = libc.openat2(procfs, relative, flags, 0, Resolve.BENEATH | Resolve.NO_XDEV | Resolve.NO_SYMLINKS)
    try:
        if libc.filesystem_type(descriptor) != PROC_SUPER_MAGIC:
            raise Refused(18, "is not on procfs", path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
