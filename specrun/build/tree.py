"""Where COPY takes files from: the build context or the file system of an image, always by descriptor.

Every source is resolved by the kernel inside the tree (openat2, RESOLVE_IN_ROOT): a symbolic link leads no further
than a process whose root the tree is would come.
"""

from __future__ import annotations

import os
import stat

from specrun.build.errors import BuildFailed
from specrun.build.ignore import Patterns, component, has_wildcard
from specrun.oci.digest import bulk, sha256
from specrun_runtime.fds import Fd
from specrun_runtime.paths import open_in_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from specrun.build.parser import Node

_CHUNK = 1 << 20
_SMALL = 16 << 10
"""Bytes of a file up to which it is not worth having OpenSSL hash it."""
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Item:
    """A file, folder or link below a source: `path` is relative to the source, "" for the source itself."""

    __slots__ = ("digest", "info", "path")

    def __init__(self, path: str, info: os.stat_result, digest: str) -> None:
        self.path = path
        self.info = info
        self.digest = digest
        """Of the content and the extended attributes, or the text of a link."""


class Source:
    """One thing to copy, found: `name` is its path in the tree, `opened` an O_PATH descriptor of it."""

    __slots__ = ("items", "name", "opened", "wanted")

    def __init__(self, name: str, wanted: str, opened: Fd) -> None:
        self.name = name
        self.wanted = wanted
        self.opened = opened
        self.items: list[Item] = []

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder, whose content is copied."""
        return stat.S_ISDIR(os.fstat(self.opened.number).st_mode)

    def reopen(self) -> Fd:
        """A readable descriptor of it."""
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        return Fd(os.open(f"/proc/self/fd/{self.opened.number}", flags))


class Tree:
    """A tree of files. `ignored` are the patterns of `.dockerignore`; `what` names it in messages."""

    def __init__(self, root: Fd, what: str, ignored: Patterns | None = None) -> None:
        self.root = root
        self.what = what
        self.ignored = ignored

    def find(self, text: str, node: Node, exclude: list[str], *, parents: bool = False) -> list[Source]:
        """The sources that `text`, with wildcards, means; their items are read. Raises BuildFailed."""
        path = _clean(text, node)
        patterns = Patterns(exclude) if exclude else None
        wild = has_wildcard(path)
        names = list(self._match(path.split("/"))) if wild and path else [path]
        sources = []
        for name in names:
            if self.ignored and name and self.ignored.matches(name) and not self._has_exceptions(name):
                continue
            source = self._source(name, text)
            if source is None:
                continue
            with source.reopen() if source.is_folder or _is_regular(source) else Fd(-1) as opened:
                self._fill(source, opened.number, name, patterns, node)
            if source.items:
                sources.append(source)
            else:
                source.opened.close()
        if not sources and not patterns:
            raise self._missing(text, node, wild)
        return sources

    def items(self) -> list[Item]:
        """All that is in the tree and not ignored."""
        found: list[Item] = []
        self._walk(found, self.root.number, "", "", None)
        return found

    def _has_exceptions(self, name: str) -> bool:
        """Whether something below an ignored folder may be taken in again by a `!` pattern."""
        if not (self.ignored and self.ignored.has_exceptions):
            return False
        try:
            with Fd(open_in_root(self.root.number, "/" + name)) as found:
                return stat.S_ISDIR(os.fstat(found.number).st_mode)
        except OSError:
            return False

    def _source(self, name: str, text: str) -> Source | None:
        try:
            return Source(name, text, Fd(open_in_root(self.root.number, "/" + name)))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _missing(self, text: str, node: Node, wild: bool) -> BuildFailed:
        if wild:
            message = f"{node.keyword} failed: no source files were specified: nothing matches {text!r} in {self.what}"
        else:
            message = (
                f"{node.keyword} failed: file not found in {self.what}"
                f"{' or excluded by .dockerignore' if self.ignored else ''}: stat {text}: file does not exist"
            )
        return BuildFailed(message, node=node, word=text)

    def _match(self, parts: list[str], below: str = "") -> Iterator[str]:
        """The paths that match the components, sorted; `**` stands for any number of folders."""
        first, *rest = parts
        folder = self._list(below)
        if folder is None:
            return
        if first == "**":
            yield from self._match(rest or ["*"], below)
            for name in folder:
                if self._is_folder(f"{below}{name}"):
                    yield from self._match(parts, f"{below}{name}/")
            return
        if has_wildcard(first):
            pattern = component(first)
            names = [name for name in folder if pattern.fullmatch(name)]
        else:
            names = [first]
        for name in names:
            if not rest:
                if self._source_exists(f"{below}{name}"):
                    yield f"{below}{name}"
            else:
                yield from self._match(rest, f"{below}{name}/")

    def _list(self, folder: str) -> list[str] | None:
        try:
            with Fd(open_in_root(self.root.number, f"/{folder}", os.O_RDONLY | os.O_DIRECTORY)) as opened:
                return sorted(os.listdir(opened.number))
        except OSError:
            return None

    def _is_folder(self, path: str) -> bool:
        try:
            with Fd(open_in_root(self.root.number, f"/{path}", os.O_PATH | os.O_NOFOLLOW)) as found:
                return stat.S_ISDIR(os.fstat(found.number).st_mode)
        except OSError:
            return False

    def _source_exists(self, path: str) -> bool:
        try:
            os.close(open_in_root(self.root.number, f"/{path}"))
        except OSError:
            return False
        return True

    def _fill(self, source: Source, opened: int, name: str, exclude: Patterns | None, node: Node) -> None:
        info = os.fstat(source.opened.number)
        if not source.is_folder:
            if exclude and exclude.matches(os.path.basename(name)):
                return
            source.items = [Item("", info, _content_digest(opened, info) if opened >= 0 else "")]
            return
        source.items = [Item("", info, "")]
        try:
            self._walk(source.items, opened, "", f"{name}/" if name else "", exclude)
        except FileNotFoundError as error:
            raise BuildFailed(
                f"{node.keyword} failed: {error.filename} vanished from {self.what} while it was being read", node=node,
                hint="build again when nothing changes the files",
            ) from error  # fmt: skip

    def _walk(self, items: list[Item], folder: int, below: str, path: str, exclude: Patterns | None) -> None:
        ignored = self.ignored
        for name in sorted(os.listdir(folder)):
            relative = below + name
            hidden = bool(ignored and ignored.matches(path + name)) or bool(exclude and exclude.matches(relative))
            exceptions = (ignored and ignored.has_exceptions) or (exclude and exclude.has_exceptions)
            if hidden and not exceptions:
                continue
            info = os.stat(name, dir_fd=folder, follow_symlinks=False)
            kind = stat.S_IFMT(info.st_mode)
            if kind == stat.S_IFDIR:
                inner = os.open(name, _FOLDER, dir_fd=folder)
                try:
                    at = len(items)
                    self._walk(items, inner, relative + "/", f"{path}{name}/", exclude)
                    if not hidden or len(items) > at:
                        items.insert(at, Item(relative, info, ""))
                finally:
                    os.close(inner)
                continue
            if hidden:
                continue
            if kind == stat.S_IFREG:
                file = os.open(name, _FLAGS, dir_fd=folder)
                try:
                    items.append(Item(relative, info, _content_digest(file, info)))
                finally:
                    os.close(file)
            elif kind == stat.S_IFLNK:
                items.append(Item(relative, info, os.readlink(name, dir_fd=folder)))
            elif kind != stat.S_IFSOCK:
                items.append(Item(relative, info, f"{info.st_rdev:x}"))


def attributes(file: int) -> dict[str, bytes]:
    """The extended attributes that are copied: capabilities and the user's own."""
    names = os.listxattr(file)
    if not names:
        return {}
    wanted = [name for name in names if name == "security.capability" or name.startswith("user.")]
    return {name: os.getxattr(file, name) for name in wanted if not name.startswith("user.overlay.")}


def _content_digest(file: int, info: os.stat_result) -> str:
    state = sha256() if info.st_size < _SMALL else bulk()
    if stat.S_ISREG(info.st_mode):
        while data := os.read(file, _CHUNK):
            state.update(data)
            if len(data) < _CHUNK:
                break
    for name, value in sorted(attributes(file).items()):
        state.update(f"\0{name}\0".encode() + value)
    return str(state.hexdigest())


def _is_regular(source: Source) -> bool:
    return stat.S_ISREG(os.fstat(source.opened.number).st_mode)


def _clean(text: str, node: Node) -> str:
    parts: list[str] = []
    for part in text.split("/"):
        if part == "..":
            if not parts:
                raise BuildFailed(
                    f"{node.keyword} failed: forbidden path outside the build context: {text}", node=node, word=text
                )
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def inputs_of(sources: list[Source], *, owners: bool) -> list[str]:
    """A line for each thing that decides what the copies will be; modification times are not among them."""
    lines = []
    for source in sources:
        for item in source.items:
            info = item.info
            owner = f"{info.st_uid}:{info.st_gid}" if owners else ""
            lines.append(f"{source.name}|{item.path}|{info.st_mode:o}|{owner}|{item.digest}")
    return lines
