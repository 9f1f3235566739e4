"""Copying files between a container and the host, by descriptors only.

Either side is a root folder that is held open and a path in it; the kernel resolves every path inside its root
(openat2, RESOLVE_IN_ROOT), and the last component is never followed where it is written. So a container that swaps
folders for links while it is copied from or to leads nowhere but to itself.
"""

from __future__ import annotations

import errno
import os
import stat

from specrun.errors import SpecrunError
from specrun.store import tar
from specrun.store.layers import Unpacker
from specrun.store.tar import Entry, Source
from specrun_runtime.errors import IsolationError
from specrun_runtime.fds import Fd, write_all
from specrun_runtime.paths import open_in_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_CHUNK = 8 << 20
_DEEPEST = 200
"""Folders below folders; more is nobody's tree but an attack on our stack."""
_LINKS = 40
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_OPEN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


class NoPath(SpecrunError):
    """The path that is to be copied, or the folder that it is to be copied to, is not there."""

    code = "no-such-path"


class Spot:
    """A place in a folder that is held open: `name` in `parent`, and what is there (None for nothing)."""

    __slots__ = ("info", "name", "parent")

    def __init__(self, parent: int, name: str, info: os.stat_result | None) -> None:
        self.parent = parent
        self.name = name
        self.info = info

    def __enter__(self) -> Spot:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.parent)

    @property
    def is_folder(self) -> bool:
        """Whether a folder is there."""
        return self.info is not None and stat.S_ISDIR(self.info.st_mode)


def locate(root: int, path: str, *, follow: bool) -> Spot:
    """Where `path` leads inside `root`; with `follow` through a link at its end too. Raises NoPath."""
    path = "/" + path.strip("/")
    for _ in range(_LINKS):
        head, name = os.path.split(path)
        if name in ("", ".", ".."):
            folder = _open(root, path, os.O_PATH | os.O_DIRECTORY)
            return Spot(folder, ".", os.fstat(folder))
        parent = _open(root, head, os.O_PATH | os.O_DIRECTORY)
        try:
            info = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return Spot(parent, name, None)
        if not (follow and stat.S_ISLNK(info.st_mode)):
            return Spot(parent, name, info)
        try:
            text = os.readlink(name, dir_fd=parent)
        finally:
            os.close(parent)
        path = (text if text.startswith("/") else f"{head}/{text}").rstrip("/") or "/"
    raise NoPath(f"{path}: {os.strerror(errno.ELOOP)}")


def copy(
    source_root: int, source: str, target_root: int, target: str, *, follow: bool = False,
    owner: tuple[int, int] | None = None,
) -> list[str]:  # fmt: skip
    """Copy as `cp -a` would, by Docker's rules; gives a warning for each thing that was left out.

    `follow` is for a link at the end of `source`; `owner` (user, group) is given to all, None keeps them.
    """
    contents = source.rstrip("/").endswith("/.") or source in (".", "/", "/.")
    into = target.endswith(("/", "/.")) or target == "."
    copier = _Copier(owner)
    with locate(source_root, source, follow=follow or contents or source.endswith("/")) as one:
        if one.info is None:
            raise NoPath(source)
        if source.endswith("/") and not one.is_folder:
            raise SpecrunError(f"{source}: not a directory")
        with _target(target_root, target) as other:
            if other.info is None:
                if into and not one.is_folder:
                    raise NoPath("no such directory")
                copier.entry(one.parent, one.name, other.parent, other.name)
            elif other.is_folder:
                with Fd(os.open(other.name, _FOLDER | os.O_NOFOLLOW, dir_fd=other.parent)) as folder:
                    if one.is_folder and contents:
                        with Fd(os.open(one.name, _FOLDER | os.O_NOFOLLOW, dir_fd=one.parent)) as inner:
                            copier.content(inner.number, folder.number)
                    else:
                        name = os.path.basename(source.rstrip("/"))
                        copier.entry(one.parent, one.name, folder.number, name)
            elif one.is_folder:
                raise SpecrunError("cannot copy directory", hint=f"{target} is a file")
            else:
                copier.entry(one.parent, one.name, other.parent, other.name)
    return copier.warnings


def archive(root: int, source: str, *, follow: bool = False) -> Iterator[bytes]:
    """The tar archive of what is at `source`, under its own name. Raises NoPath."""
    with locate(root, source, follow=follow or source.endswith("/")) as one:
        if one.info is None:
            raise NoPath(source)
        name = os.path.basename(source.rstrip("/")) or "."
        yield from _members(one.parent, one.name, name, 0)
    yield bytes(2 * tar.BLOCK)


def unpack(chunks: Iterable[bytes], root: int, target: str, shown: str) -> None:
    """Unpack a plain tar archive into the folder `target`. Raises BadArchive, and SpecrunError for no folder."""
    with locate(root, target, follow=True) as other:
        if not other.is_folder:
            raise SpecrunError(f'destination "{shown}" must be a directory')
        with Fd(os.open(other.name, os.O_RDONLY | os.O_DIRECTORY | _OPEN, dir_fd=other.parent)) as folder:
            umask = os.umask(0)
            try:
                _Placer(folder.number).run(Source(chunks))
            finally:
                os.umask(umask)


class _Placer(Unpacker):
    """An archive of files, not of a layer: `.wh.` is nothing special, and the target folder keeps its own mode."""

    def _place(self, entry: Entry, source: Source) -> None:
        parts = [part for part in entry.name.split("/") if part not in ("", ".")]
        if not parts:
            return
        if ".." not in parts:
            parent = self._open_parent("/" + "/".join(parts[:-1]))
            folder = _is_folder(parent, parts[-1])
            if folder and entry.kind != tar.FOLDER:
                raise SpecrunError(f"cannot overwrite directory {entry.name!r} with a file")
            if entry.kind == tar.FOLDER and not folder and _is_there(parent, parts[-1]):
                raise SpecrunError(f"cannot overwrite file {entry.name!r} with a directory")
        super()._place(entry, source)

    def _whiteout(self, parent: int, name: str, entry: Entry) -> None:
        raise tar.BadArchive(f"{entry.name!r}: names that begin with .wh. can't be copied into a layer")


def _target(root: int, path: str) -> Spot:
    try:
        return locate(root, path, follow=True)
    except NoPath as error:
        folder = os.path.dirname(path.rstrip("/"))
        raise NoPath(f'invalid output path: directory "{folder}" does not exist') from error


def _open(root: int, path: str, flags: int) -> int:
    try:
        return open_in_root(root, path, flags)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NoPath(path) from error
    except IsolationError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise NoPath(path) from error
        raise


class _Copier:
    """One copy: folders are merged, files replace files, and nothing replaces a folder."""

    def __init__(self, owner: tuple[int, int] | None) -> None:
        self.owner = owner
        self.warnings: list[str] = []
        self.depth = 0

    def content(self, source: int, target: int) -> None:
        """Copy what is in one folder into another."""
        self.depth += 1
        if self.depth > _DEEPEST:
            raise SpecrunError(f"more than {_DEEPEST} folders in each other are not copied")
        with Fd(os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=source)) as listed:
            names = os.listdir(listed.number)
        for name in sorted(names):
            self.entry(source, name, target, name)
        self.depth -= 1

    def entry(self, source: int, name: str, target: int, new: str) -> None:
        """Copy `name` of one folder to `new` in another."""
        try:
            info = os.stat(name, dir_fd=source, follow_symlinks=False)
        except FileNotFoundError:
            return  # removed meanwhile
        kind = stat.S_IFMT(info.st_mode)
        if kind == stat.S_IFDIR:
            self._folder(source, name, target, new, info)
            return
        if _is_folder(target, new):
            raise SpecrunError(f"cannot overwrite directory {new!r} with non-directory {name!r}")
        if kind == stat.S_IFREG:
            self._file(source, name, target, new)
        elif kind == stat.S_IFLNK:
            self._replace(target, new, lambda draft: os.symlink(os.readlink(name, dir_fd=source), draft, dir_fd=target))
            self._finish(target, new, info)
        elif kind == stat.S_IFIFO:
            self._replace(target, new, lambda draft: os.mkfifo(draft, 0o600, dir_fd=target))
            self._finish(target, new, info)
        else:
            self.warnings.append(f"{name!r} is a device or a socket and was left out")

    def _folder(self, source: int, name: str, target: int, new: str, info: os.stat_result) -> None:
        try:
            os.mkdir(new, 0o700, dir_fd=target)
            made = True
        except FileExistsError:
            made = False
            if not _is_folder(target, new):
                raise SpecrunError(f"cannot overwrite non-directory {new!r} with directory {name!r}") from None
        flags = _FOLDER | os.O_NOFOLLOW
        with Fd(os.open(name, flags, dir_fd=source)) as inner, Fd(os.open(new, flags, dir_fd=target)) as copy:
            self.content(inner.number, copy.number)
        if made:
            self._finish(target, new, info)

    def _file(self, source: int, name: str, target: int, new: str) -> None:
        with Fd(os.open(name, os.O_RDONLY | _OPEN, dir_fd=source)) as reader:
            info = os.fstat(reader.number)
            if not stat.S_ISREG(info.st_mode):
                return  # replaced between two looks

            def write(draft: str) -> None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _OPEN
                with Fd(os.open(draft, flags, 0o600, dir_fd=target)) as writer:
                    _pour(reader.number, writer.number, info.st_size)

            try:
                self._replace(target, new, write)
            except OSError as error:
                if error.errno not in (errno.EBUSY, errno.EXDEV):
                    raise
                # A mount point, such as /etc/hosts: its file stays, and gets the content.
                with Fd(os.open(new, os.O_WRONLY | os.O_TRUNC | _OPEN, dir_fd=target)) as writer:
                    os.lseek(reader.number, 0, os.SEEK_SET)
                    _pour(reader.number, writer.number, info.st_size)
                return
            self._finish(target, new, info)

    def _replace(self, target: int, new: str, make: Callable[[str], None]) -> None:
        """Make something beside its place first, so that what is there is whole at any time."""
        draft = f".specrun-{os.urandom(6).hex()}"
        try:
            make(draft)
            os.rename(draft, new, src_dir_fd=target, dst_dir_fd=target)
        except BaseException:
            try:
                os.unlink(draft, dir_fd=target)
            except OSError:
                pass
            raise

    def _finish(self, target: int, name: str, info: os.stat_result) -> None:
        """Owner before mode (chown(2) clears setuid), times last; through a descriptor that follows no link."""
        user, group = self.owner or (info.st_uid, info.st_gid)
        try:
            made = Fd(os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=target))
        except FileNotFoundError:
            return  # whoever has the folder has removed it
        with made:
            current = os.fstat(made.number)
            if stat.S_IFMT(current.st_mode) != stat.S_IFMT(info.st_mode):
                return  # replaced meanwhile: it is not ours
            own = f"/proc/self/fd/{made.number}"
            if (current.st_uid, current.st_gid) != (user, group):
                os.chown(own, user, group)
            if stat.S_ISLNK(info.st_mode):
                return
            os.chmod(own, stat.S_IMODE(info.st_mode))
            os.utime(own, ns=(info.st_atime_ns, info.st_mtime_ns))


def _is_folder(parent: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _is_there(parent: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _pour(source: int, target: int, size: int) -> None:
    """Copy at most `size` bytes: a file that grows while it is read ends where it ended when it was opened."""
    left = size
    try:
        while left > 0:
            done = os.copy_file_range(source, target, min(left, _CHUNK))
            if not done:
                return
            left -= done
        return
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS) or left != size:
            raise
    while left > 0:
        data = os.read(source, min(left, 1 << 20))
        if not data:
            return
        write_all(target, data)
        left -= len(data)


def _members(parent: int, name: str, path: str, depth: int) -> Iterator[bytes]:
    if depth > _DEEPEST:
        raise SpecrunError(f"more than {_DEEPEST} folders in each other are not copied")
    try:
        info = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return
    entry = Entry(path, tar.REGULAR)
    entry.mode, entry.uid, entry.gid = stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid
    entry.mtime = info.st_mtime_ns
    kind = stat.S_IFMT(info.st_mode)
    if kind == stat.S_IFDIR:
        entry.name, entry.kind = f"{path}/", tar.FOLDER
        yield tar.header(entry)
        with Fd(os.open(name, os.O_RDONLY | os.O_DIRECTORY | _OPEN, dir_fd=parent)) as folder:
            for child in sorted(os.listdir(folder.number)):
                yield from _members(folder.number, child, f"{path}/{child}", depth + 1)
    elif kind == stat.S_IFLNK:
        entry.kind, entry.link = tar.SYMLINK, os.readlink(name, dir_fd=parent)
        yield tar.header(entry)
    elif kind == stat.S_IFREG:
        with Fd(os.open(name, os.O_RDONLY | _OPEN, dir_fd=parent)) as file:
            if stat.S_ISREG(os.fstat(file.number).st_mode):
                entry.size = info.st_size
                yield tar.header(entry)
                yield from _content(file.number, info.st_size)
    elif kind == stat.S_IFIFO:
        entry.kind = tar.FIFO
        yield tar.header(entry)


def _content(file: int, size: int) -> Iterator[bytes]:
    """Exactly `size` bytes and their padding: what has become shorter meanwhile is filled up."""
    left = size
    while left:
        data = os.read(file, min(left, 1 << 20)) or bytes(min(left, 1 << 20))
        yield data
        left -= len(data)
    yield bytes(-size % tar.BLOCK)
