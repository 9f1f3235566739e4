"""COPY and ADD into a file system that somebody else filled: every path is resolved inside it by the kernel."""

from __future__ import annotations

import errno
import os
import posixpath
import stat

from specrun.build import modes
from specrun.build.errors import BuildFailed
from specrun.build.tree import attributes
from specrun_runtime.errors import IsolationError
from specrun_runtime.fds import Fd, write_all
from specrun_runtime.files import remove_entry
from specrun_runtime.paths import open_in_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from specrun.build.modes import Clause
    from specrun.build.parser import Node
    from specrun.build.tree import Item, Source

_CHUNK = 1 << 20
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LINKS = 40
"""How many symbolic links a destination may lead through, as the kernel has it."""


class Target:
    """The file system that is written to. `owner` is None where owners are kept; `mode` is the change of --chmod."""

    def __init__(
        self, root: int, node: Node, owner: tuple[int, int] | None, mode: int | list[Clause] | None = None
    ) -> None:
        self.root = root
        self.node = node
        self.owner = owner
        self.mode = mode
        self.device = os.fstat(root).st_dev

    def folder(self, path: str) -> Fd:
        """The folder `path`, made with its parents where missing."""
        clean = "/" + path.strip("/")
        try:
            return Fd(open_in_root(self.root, clean, os.O_RDONLY | os.O_DIRECTORY))
        except FileNotFoundError:
            pass
        except (NotADirectoryError, IsolationError) as error:
            raise self._failed(f"cannot copy to {path}: {error.strerror}") from error
        above, name = posixpath.split(clean)
        with self.folder(above) as parent:
            resolved = self._link_of(parent.number, name)
            if resolved is not None:
                return self.folder(posixpath.join(above, resolved))
            try:
                os.mkdir(name, 0o755, dir_fd=parent.number)
            except FileExistsError as error:
                raise self._failed(f"cannot copy to {path}: there is something that is no folder") from error
            uid, gid = self.owner or (0, 0)
            os.chown(name, uid, gid, dir_fd=parent.number, follow_symlinks=False)
            return Fd(os.open(name, _DIR, dir_fd=parent.number))

    def is_folder(self, path: str) -> bool:
        """Whether `path` is a folder, links followed."""
        try:
            os.close(open_in_root(self.root, "/" + path.strip("/"), os.O_PATH | os.O_DIRECTORY))
        except OSError:
            return False
        return True

    def place(self, path: str) -> tuple[Fd, str]:
        """The folder and the name under which the file `path` is to be made: a link at its end is followed."""
        for _ in range(_LINKS):
            above, name = posixpath.split("/" + path.strip("/"))
            parent = self.folder(above)
            link = self._link_of(parent.number, name)
            if link is None:
                return parent, name
            parent.close()
            path = posixpath.join(above, link)
        raise self._failed(f"cannot copy to {path}: too many levels of symbolic links")

    def write(self, path: str, content: bytes, mode: int) -> None:
        """Make a file of `content`."""
        parent, name = self.place(path)
        with parent:
            remove_entry(parent.number, name, self.device)
            with Fd(os.open(name, _NEW, 0o600, dir_fd=parent.number)) as file:
                write_all(file.number, content)
                self._settle(file.number, mode, self.owner or (0, 0))

    def copy(self, source: Source, destination: str) -> None:
        """Copy a source: a folder's content into the folder `destination`, or a file to it.

        Raises BuildFailed for a file that changed since it was looked at.
        """
        if source.is_folder:
            with source.reopen() as opened, self.folder(destination) as target:
                self._copy_items(source.items[1:], opened.number, target.number)
            return
        parent, name = self.place(destination)
        with parent:
            item = source.items[0]
            if stat.S_ISREG(item.info.st_mode):
                with source.reopen() as opened:
                    remove_entry(parent.number, name, self.device)
                    self._regular(opened.number, item, parent.number, name)
            else:
                remove_entry(parent.number, name, self.device)
                self._special(item, parent.number, name)

    def _copy_items(self, items: list[Item], source: int, target: int) -> None:
        """Copy the items in their order; a folder comes before what is in it."""
        from_folders: dict[str, int] = {"": source}
        to_folders: dict[str, int] = {"": target}
        fresh: dict[str, bool] = {"": not os.listdir(target)}
        stack: list[str] = []
        try:
            for item in items:
                above, _, name = item.path.rpartition("/")
                while stack and stack[-1] != above and not above.startswith(stack[-1] + "/"):
                    folder = stack.pop()
                    os.close(from_folders.pop(folder))
                    os.close(to_folders.pop(folder))
                reader, writer = from_folders[above], to_folders[above]
                kind = stat.S_IFMT(item.info.st_mode)
                if kind == stat.S_IFDIR:
                    from_folders[item.path] = os.open(name, _DIR, dir_fd=reader)
                    stack.append(item.path)
                    made, new = self._folder_in(writer, name, item)
                    to_folders[item.path], fresh[item.path] = made, new
                    continue
                if not fresh[above]:
                    remove_entry(writer, name, self.device)
                if kind == stat.S_IFREG:
                    opened = os.open(name, _READ, dir_fd=reader)
                    try:
                        self._regular(opened, item, writer, name)
                    finally:
                        os.close(opened)
                else:
                    self._special(item, writer, name)
        except FileNotFoundError as error:
            raise self._failed(f"{error.filename} vanished while it was being copied") from error
        finally:
            for folder in stack:
                for table in (from_folders, to_folders):
                    if folder in table:
                        os.close(table[folder])

    def _folder_in(self, parent: int, name: str, item: Item) -> tuple[int, bool]:
        new = True
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                new = False
            else:
                remove_entry(parent, name, self.device)
                os.mkdir(name, 0o700, dir_fd=parent)
        made = os.open(name, _DIR, dir_fd=parent)
        self._settle(made, item.info.st_mode, self.owner or (item.info.st_uid, item.info.st_gid))
        return made, new

    def _regular(self, opened: int, item: Item, parent: int, name: str) -> None:
        info = item.info
        now = os.fstat(opened)
        if (now.st_ino, now.st_size, now.st_mtime_ns) != (info.st_ino, info.st_size, info.st_mtime_ns):
            raise self._failed(f"{item.path or name} changed while it was being copied")
        mode = stat.S_IMODE(info.st_mode) if self.mode is None else modes.apply(self.mode, info.st_mode)
        file = os.open(name, _NEW, mode & 0o777, dir_fd=parent)
        try:
            size = info.st_size
            if size > _CHUNK:
                _copy_content(opened, file, size)
            elif size:
                write_all(file, os.read(opened, size + 1))
            owner = self.owner or (info.st_uid, info.st_gid)
            if owner != (0, 0):
                os.fchown(file, *owner)
            if mode & 0o7000 or owner != (0, 0):
                os.fchmod(file, mode)  # after chown(2), which clears setuid
            for key, value in attributes(opened).items():
                os.setxattr(file, key, value)
            os.utime(file, ns=(info.st_mtime_ns, info.st_mtime_ns))
        finally:
            os.close(file)

    def _special(self, item: Item, parent: int, name: str) -> None:
        info = item.info
        kind = stat.S_IFMT(info.st_mode)
        if kind == stat.S_IFLNK:
            os.symlink(item.digest, name, dir_fd=parent)
        elif kind == stat.S_IFIFO:
            os.mkfifo(name, stat.S_IMODE(info.st_mode), dir_fd=parent)
        else:
            os.mknod(name, info.st_mode, info.st_rdev, dir_fd=parent)
        uid, gid = self.owner or (info.st_uid, info.st_gid)
        os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)
        os.utime(name, ns=(info.st_mtime_ns, info.st_mtime_ns), dir_fd=parent, follow_symlinks=False)

    def _settle(self, file: int, mode: int, owner: tuple[int, int]) -> None:
        os.fchown(file, *owner)
        os.fchmod(file, stat.S_IMODE(mode) if self.mode is None else modes.apply(self.mode, mode))

    def _link_of(self, parent: int, name: str) -> str | None:
        try:
            return os.readlink(name, dir_fd=parent)
        except OSError:
            return None

    def _failed(self, message: str) -> BuildFailed:
        return BuildFailed(f"{self.node.keyword} failed: {message}", node=self.node)


def _copy_content(source: int, target: int, size: int) -> None:
    """Copy `size` bytes, within the kernel where it can."""
    try:
        while size > 0 and (done := os.copy_file_range(source, target, min(size, 1 << 30))):
            size -= done
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        while data := os.read(source, _CHUNK):
            write_all(target, data)


def destination_of(path: str, workdir: str) -> tuple[str, bool]:
    """The absolute destination, and whether it is written as a folder."""
    joined = posixpath.join(workdir or "/", path)
    as_folder = path.endswith("/") or posixpath.basename(path) in (".", "..", "")
    return posixpath.normpath("/" + joined.lstrip("/")), as_folder


def copy_all(
    target: Target, sources: list[Source], destination: str, workdir: str, unpack: Callable[[Source, str], bool],
    *, parents: bool, extra: int = 0,
) -> None:  # fmt: skip
    """Copy all sources as COPY and ADD do it; `unpack` may take one over, and says whether it did."""
    path, as_folder = destination_of(destination, workdir)
    if not as_folder and len(sources) + extra > 1 and not target.is_folder(path):
        raise BuildFailed(
            f"When using {target.node.keyword} with more than one source file, "
            "the destination must be a directory and end with a /",
            node=target.node,
        )
    as_folder = as_folder or len(sources) + extra > 1 or target.is_folder(path)
    for source in sources:
        if parents:
            kept = _kept_parents(source)
            to = posixpath.join(path, kept) if kept else path
            target.copy(source, to)
        elif unpack(source, path):
            continue
        elif source.is_folder:
            target.copy(source, path)
        else:
            target.copy(source, posixpath.join(path, posixpath.basename(source.name)) if as_folder else path)


def _kept_parents(source: Source) -> str:
    """The part of the source's path that --parents keeps: all of it, or what follows `/./`."""
    if "/./" not in source.wanted and not source.wanted.startswith("./"):
        return source.name
    before = source.wanted.partition("./")[0].strip("/")
    depth = len([part for part in before.split("/") if part])
    return "/".join(source.name.split("/")[depth:])
