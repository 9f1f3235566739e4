"""A folder of ours as a layer: the same bytes for the same tree, read by descriptor, written as a stream.

The folder may be the upper directory of an overlay: what overlayfs keeps as devices 0:0 and as attributes becomes
the `.wh.` files of the image specification (layer.md, Representing Changes).
"""

from __future__ import annotations

import os
import stat
import struct

from specrun.errors import Damaged
from specrun.store import tar
from specrun.store.tar import Entry
from specrun_runtime import libc
from specrun_runtime.constants import Resolve
from specrun_runtime.fds import Fd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
_OVERLAY = ("trusted.overlay.", "user.overlay.")
_CHUNK = 1 << 20
_BATCH = 256 << 10
_SECOND = 1_000_000_000
_BENEATH = Resolve.BENEATH | Resolve.NO_SYMLINKS


class Packer:
    """One walk over `folder`; iterate over it once for the archive, then read `members` and `content_size`.

    `epoch` (seconds) is SOURCE_DATE_EPOCH: no time in the archive is later. `time` gives every member that one
    time, and `owned_by_root` that owner. With `lower` (the layers below an overlay's upper directory, topmost
    first) a folder is marked as opaque only where that hides something: overlayfs marks every new folder. With
    `settle` the folder is brought to exactly what its archive unpacks to: whole seconds, nothing of overlayfs'
    own; then it can be kept as the unpacked layer. `leave_out` are paths (`etc/hosts`) that are not the layer's.
    """

    def __init__(
        self,
        folder: str,
        *,
        epoch: int | None = None,
        time: int | None = None,
        owned_by_root: bool = False,
        lower: Sequence[str] | None = None,
        settle: bool = False,
        leave_out: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.members = 0
        self.content_size = 0
        """The bytes of all regular files, which is what Docker calls a layer's size."""
        self._epoch = epoch
        self._time = time
        self._owned_by_root = owned_by_root
        self._lower = lower
        self._settle = settle
        self._leave_out = frozenset(leave_out)
        self._links: dict[tuple[int, int], str] = {}
        self._below: list[Fd] = []

    def __iter__(self) -> Iterator[bytes]:
        """The archive, in pieces of some hundred kilobytes. Raises OSError, and Damaged for what has no archive."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        batch: list[bytes] = []
        held = 0
        try:
            self._below = [Fd(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) for path in self._lower or ()]
            with Fd(os.open(self.folder, flags)) as top:
                for part in self._walk(top.number, ""):
                    batch.append(part)
                    held += len(part)
                    if held >= _BATCH:
                        yield b"".join(batch)
                        batch, held = [], 0
        finally:
            for folder in self._below:
                folder.close()
        yield b"".join([*batch, bytes(2 * tar.BLOCK)])

    def _walk(self, folder: int, prefix: str) -> Iterator[bytes]:
        for name in sorted(os.listdir(folder), key=os.fsencode):
            if prefix + name in self._leave_out:
                continue
            if name.startswith(WHITEOUT):
                raise Damaged(
                    f"{prefix}{name}: a name that begins with {WHITEOUT} can't be in a layer: it would remove files",
                    hint="call it something else",
                )
            try:
                info = os.stat(name, dir_fd=folder, follow_symlinks=False)
            except FileNotFoundError:
                continue  # a live container has removed it
            kind = stat.S_IFMT(info.st_mode)
            if kind == stat.S_IFDIR:
                yield from self._folder(folder, name, prefix)
            elif kind == stat.S_IFREG:
                yield from self._regular(folder, name, prefix, info)
            elif kind == stat.S_IFCHR and info.st_rdev == 0:
                yield self._header(Entry(f"{prefix}{WHITEOUT}{name}", tar.REGULAR))
            elif kind != stat.S_IFSOCK:  # a socket is nothing without its process
                yield self._special(folder, name, prefix, info)

    def _folder(self, parent: int, name: str, prefix: str) -> Iterator[bytes]:
        path = f"{prefix}{name}/"
        with Fd(os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)) as opened:
            folder = opened.number
            info = os.fstat(folder)
            entry = self._entry(path, tar.FOLDER, info)
            names = os.listxattr(folder)
            entry.xattrs = _attributes(folder, names)
            yield self._header(entry)
            if self._is_opaque(folder, names, path):
                yield self._header(Entry(f"{path}{OPAQUE}", tar.REGULAR))
            yield from self._walk(folder, path)
            if self._settle:
                self._settle_attributes(folder, names, path)
                os.utime(folder, ns=(entry.mtime, entry.mtime))

    def _regular(self, parent: int, name: str, prefix: str, info: os.stat_result) -> Iterator[bytes]:
        path = prefix + name
        if link := self._linked(path, info):
            yield self._header(link)
            return
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            file = Fd(os.open(name, flags, dir_fd=parent))
        except FileNotFoundError:
            return
        with file:
            info = os.fstat(file.number)
            if not stat.S_ISREG(info.st_mode):
                return  # replaced between two looks
            entry = self._entry(path, tar.REGULAR, info)
            entry.size = info.st_size
            names = os.listxattr(file.number)
            if names:
                entry.xattrs = _attributes(file.number, names)
            self.content_size += info.st_size
            yield self._header(entry)
            yield from _content(file.number, info.st_size)
            if self._settle:
                self._settle_attributes(file.number, names, path)
                os.utime(file.number, ns=(entry.mtime, entry.mtime))

    def _special(self, parent: int, name: str, prefix: str, info: os.stat_result) -> bytes:
        """A symbolic link, a device or a FIFO, which is never opened."""
        path = prefix + name
        if link := self._linked(path, info):
            return self._header(link)
        kind = stat.S_IFMT(info.st_mode)
        entry = self._entry(path, _KINDS[kind], info)
        own = f"/proc/self/fd/{parent}/{name}"
        if kind == stat.S_IFLNK:
            entry.link, entry.mode = os.readlink(name, dir_fd=parent), 0o777
        elif kind in (stat.S_IFCHR, stat.S_IFBLK):
            entry.major, entry.minor = os.major(info.st_rdev), os.minor(info.st_rdev)
        names = os.listxattr(own, follow_symlinks=False)
        if self._settle:
            for key in names:
                if key.startswith(_OVERLAY):
                    os.removexattr(own, key, follow_symlinks=False)
            os.utime(name, ns=(entry.mtime, entry.mtime), dir_fd=parent, follow_symlinks=False)
        return self._header(entry)

    def _entry(self, path: str, kind: str, info: os.stat_result) -> Entry:
        entry = Entry(path, kind)
        entry.mode = stat.S_IMODE(info.st_mode)
        if not self._owned_by_root:
            entry.uid, entry.gid = info.st_uid, info.st_gid
        seconds = info.st_mtime_ns // _SECOND if self._time is None else self._time
        if self._epoch is not None and seconds > self._epoch:
            seconds = self._epoch
        entry.mtime = seconds * _SECOND
        return entry

    def _header(self, entry: Entry) -> bytes:
        self.members += 1
        return tar.header(entry)

    def _linked(self, path: str, info: os.stat_result) -> Entry | None:
        """The hard link that stands for a file which the archive has already."""
        if info.st_nlink < 2:
            return None
        first = self._links.setdefault((info.st_dev, info.st_ino), path)
        if first == path:
            return None
        entry = self._entry(path, tar.LINK, info)
        entry.link = first
        return entry

    def _is_opaque(self, folder: int, names: list[str], path: str) -> bool:
        if "trusted.overlay.opaque" not in names or os.getxattr(folder, "trusted.overlay.opaque") != b"y":
            return False
        return self._lower is None or any(_has_folder(below.number, path) for below in self._below)

    def _settle_attributes(self, file: int, names: list[str], path: str) -> None:
        for key in names:
            kept = key == "trusted.overlay.opaque" and self._is_opaque(file, names, path)
            if key.startswith(_OVERLAY) and not kept:
                os.removexattr(file, key)


_KINDS = {
    stat.S_IFLNK: tar.SYMLINK,
    stat.S_IFCHR: tar.CHARACTER,
    stat.S_IFBLK: tar.BLOCK_DEVICE,
    stat.S_IFIFO: tar.FIFO,
}


def _content(file: int, size: int) -> Iterator[bytes]:
    """Exactly `size` bytes and what fills the last block, even of a file that changes meanwhile."""
    left = size
    while left and (data := os.read(file, min(left, _CHUNK))):
        yield data
        left -= len(data)
    while left:
        part = min(left, _CHUNK)
        yield bytes(part)
        left -= part
    if size % tar.BLOCK:
        yield bytes(-size % tar.BLOCK)


def _attributes(file: int, names: list[str]) -> dict[str, bytes]:
    """What a layer keeps: capabilities of files and the user's own attributes."""
    kept = {}
    for key in names:
        if key.startswith("user.") and not key.startswith(_OVERLAY):
            kept[key] = os.getxattr(file, key)
        elif key == "security.capability":
            kept[key] = _portable(os.getxattr(file, key))
        elif key in ("trusted.overlay.redirect", "trusted.overlay.metacopy"):
            raise Damaged(
                f"the kernel has kept a renamed folder or a changed mode as {key}, which no layer can hold",
                hint="turn it off: echo N > /sys/module/overlay/parameters/redirect_dir, and metacopy likewise",
            )
    return kept


def _portable(capability: bytes) -> bytes:
    """Revision 3 names the user namespace that set it; a layer has revision 2 (capabilities(7))."""
    if len(capability) < 24 or capability[3] != 3:
        return capability
    flags = struct.unpack_from("<I", capability)[0] & 0x00FFFFFF
    return struct.pack("<I", flags | 0x02000000) + capability[4:20]


def _has_folder(below: int, path: str) -> bool:
    try:
        os.close(libc.openat2(below, path.rstrip("/"), os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, 0, _BENEATH))
    except OSError:
        return False
    return True
