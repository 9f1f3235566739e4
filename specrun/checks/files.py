"""Files inside a container or an image, seen from outside, with every path resolved by the kernel inside the root."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

from specrun_runtime import mounts
from specrun_runtime.errors import IsolationError
from specrun_runtime.fds import Fd, read_all
from specrun_runtime.paths import open_in_root

if TYPE_CHECKING:
    from specrun.engine.container import Container
    from specrun.store.images import Image, ImageStore

_LARGEST = 16 << 20
_TYPES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "link",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


def root_of_container(container: Container) -> Fd:
    """The root folder of a running container. Raises OSError when it has ended."""
    return Fd(os.open(f"/proc/{container.state.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))


def root_of_image(images: ImageStore, image: Image) -> Fd:
    """The root folder of an image: its layers, mounted read-only and nowhere."""
    return mounts.new_view(images.lower_directories(image))


def look(root: int, path: str, wanted: set[str]) -> dict[str, Any]:
    """What is known of `path` inside `root`: exists, type, mode, uid, gid, size, and on demand content and target.

    A link at the end of the path is followed, unless `target` is wanted.
    """
    follow = "target" not in wanted
    try:
        descriptor = open_in_root(root, path, os.O_PATH | (0 if follow else os.O_NOFOLLOW))
    except (FileNotFoundError, NotADirectoryError):
        return {"exists": False}
    with Fd(descriptor):
        info = os.fstat(descriptor)
        found: dict[str, Any] = {
            "exists": True,
            "type": _TYPES.get(stat.S_IFMT(info.st_mode), "unknown"),
            "mode": f"{stat.S_IMODE(info.st_mode):04o}",
            "uid": info.st_uid,
            "gid": info.st_gid,
            "size": info.st_size,
        }
        if not follow:
            found["target"] = os.readlink("", dir_fd=descriptor) if stat.S_ISLNK(info.st_mode) else ""
        if "content" in wanted:
            found["content"] = _content(root, path, info)
    return found


def _content(root: int, path: str, info: os.stat_result) -> str:
    if not stat.S_ISREG(info.st_mode):
        return ""
    try:
        with Fd(open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)) as file:
            return read_all(file.number, _LARGEST).decode("utf-8", "replace")
    except (IsolationError, ValueError) as error:
        raise OSError(27, f"{path}: {error}") from error
