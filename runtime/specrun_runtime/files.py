"""Files that appear whole or not at all, and trees that are removed without leaving them."""

from __future__ import annotations

import os


def write_atomic(path: str, data: bytes, *, mode: int = 0o600, durable: bool = True, drafts: str = "") -> None:
    """Replace the file at `path` by `data`: write, fsync, rename, fsync of the folder.

    A reader sees the old content or the new, never a part. With `durable=False` the two fsyncs are left out,
    for records that a power cut may lose because what they describe does not survive it either.
    `drafts` is a folder of the same file system that somebody empties when the writer has been killed.
    """
    draft = f"{f'{drafts}/{os.path.basename(path)}' if drafts else path}.{os.urandom(6).hex()}.draft"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(draft, path)
    except BaseException:
        discard(draft)
        raise
    if durable:
        sync_directory(os.path.dirname(path))


def sync_directory(path: str) -> None:
    """Make the entries of the folder at `path` survive a power cut."""
    descriptor = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_files(path: str) -> None:
    """Make the files of the folder at `path`, and their names, survive a power cut: at once, as one costs as many."""
    for entry in os.scandir(path):
        if entry.is_file(follow_symlinks=False):
            descriptor = os.open(entry.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
    sync_directory(path)


def discard(path: str) -> None:
    """Unlink `path`; one that is gone already is discarded already."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def remove_tree(path: str) -> None:
    """Remove `path` and all below it, by directory descriptor, following no link and crossing no mount.

    A path that does not exist is removed already. Raises OSError (EXDEV) when something is mounted below.
    """
    parent, name = os.path.split(os.path.abspath(path))
    try:
        parent_fd = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        device = os.fstat(parent_fd).st_dev
        remove_entry(parent_fd, name, device)
    finally:
        os.close(parent_fd)


_DEEPEST = 64
"""Folders in each other that are held open at once; what is deeper is moved up first, or a container could make a
tree that nobody can remove."""


def remove_entry(parent: int, name: str, device: int) -> None:
    """Remove `name` in the folder of descriptor `parent`, with all below it on the same device."""
    pending = [name]
    while pending:
        _remove(parent, pending.pop(), device, 0, parent, pending)


def _remove(parent: int, name: str, device: int, depth: int, top: int, pending: list[str]) -> None:
    try:
        os.unlink(name, dir_fd=parent)
        return
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError) as error:
        # unlink(2) of a folder is EISDIR on Linux; EPERM is what other file systems may say.
        refusal = error
    if depth > _DEEPEST:
        higher = f".deep.{os.urandom(8).hex()}"
        os.rename(name, higher, src_dir_fd=parent, dst_dir_fd=top)
        pending.append(higher)
        return
    try:
        folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except FileNotFoundError:  # another command removes the same tree
        return
    except NotADirectoryError:
        raise refusal from None
    try:
        if os.fstat(folder).st_dev != device:
            raise OSError(18, "a file system is mounted here, refusing to remove across it", name)
        for child in os.listdir(folder):
            _remove(folder, child, device, depth + 1, top, pending)
    finally:
        os.close(folder)
    try:
        os.rmdir(name, dir_fd=parent)
    except FileNotFoundError:
        pass
