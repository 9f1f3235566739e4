"""Unpacked layers, layers/<diff-id>/fs: a stranger's archive made a folder of ours, or a folder of ours kept as one.

Every path of an archive is resolved by the kernel inside the layer's folder (openat2, RESOLVE_IN_ROOT), and every
member is made by name in a folder that is held open. Whiteouts become what overlayfs understands.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from specrun.errors import Damaged, SpecrunError
from specrun.files import locked, remove_tree, sync_directory
from specrun.oci import digest as digests
from specrun.store import committed, tar
from specrun.store.compression import compress, decompress
from specrun.store.packing import OPAQUE, WHITEOUT
from specrun.store.tar import BadArchive, Entry, Source
from specrun_runtime import libc
from specrun_runtime.errors import IsolationError
from specrun_runtime.fds import Fd, write_all
from specrun_runtime.files import remove_entry
from specrun_runtime.paths import make_directories, open_in_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from specrun.paths import Root
    from specrun.store.blobs import BlobStore
    from specrun.store.packing import Packer

LAYER_TAR = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"

_CHUNK = 1 << 20
_LOOK = 64 << 20
"""Bytes between two looks at the free space of the disk."""
_RESERVE = 64 << 20
_IGNORED = (".wh..wh.aufs", ".wh..wh.plnk", ".wh..wh.orph")
"""What an old file system kept for itself in layers of old images."""


class DiskFull(SpecrunError):
    """A layer would have taken the last free space."""

    code = "disk-full"


class Layer:
    """A layer that is stored: its blob (`digest`, `size` in bytes, `media_type`), and what it unpacks to."""

    __slots__ = ("content_size", "diff_id", "digest", "media_type", "size")

    def __init__(self, digest: str, size: int, media_type: str, diff_id: str, content_size: int) -> None:
        self.digest = digest
        self.size = size
        self.media_type = media_type
        self.diff_id = diff_id
        self.content_size = content_size
        """The bytes of its regular files, which is what Docker calls a layer's size."""


class Unpacked:
    """What was found in an archive: the number of members, and the bytes of all regular files."""

    __slots__ = ("content_size", "members")

    def __init__(self, members: int, content_size: int) -> None:
        self.members = members
        self.content_size = content_size


def unpack_layer(root: Root, blobs: BlobStore, digest: str, diff_id: str) -> int:
    """Unpack the blob `digest` to layers/<diff-id>/fs, once; gives its content size (bytes).

    The folder appears under its name only when it is complete and proven to be `diff_id`. Two
    commands that want the same layer unpack it once; the locks are few, so some that want different ones wait too.
    """
    name = digests.hex_of(diff_id)
    with locked(root.lock(f"layers-{name[0]}")):
        if (known := content_size(root, diff_id)) >= 0:
            return known
        with Draft(root, name) as draft:
            found = unpack(decompress(blobs.chunks(digest)), draft.fs, diff_id)
            draft.commit(diff_id, found)
    return found.content_size


def unpack_stream(root: Root, chunks: Iterable[bytes], diff_id: str, *, proof: Callable[[], None] | None = None) -> int:
    """Like `unpack_layer`, from a stream that may be slow: nobody who wants another layer waits for it.

    `proof` is for a plain archive that somebody else hashes: it returns when the archive is proven to be `diff_id`.
    """
    if (known := content_size(root, diff_id)) >= 0:
        return known
    with Draft(root, digests.hex_of(diff_id)) as draft:
        if proof:
            found = unpack(chunks, draft.fs)
            proof()
        else:
            found = unpack(decompress(chunks), draft.fs, diff_id)
        draft.commit(diff_id, found)
    return found.content_size


def keep_folder(root: Root, blobs: BlobStore, draft: Draft, packer: Packer, *, plain: bool = False) -> Layer:
    """Make the folder of a draft a layer: its archive becomes a blob, and the folder itself the unpacked layer.

    `packer` walks the draft's folder and should have `settle` set. With `plain` the blob is not compressed. Call
    it while `ImageStore.adding` is held, and name the layer in an image before letting go.
    """
    if plain:
        digest, size = blobs.put_stream(packer)
        layer = Layer(digest, size, LAYER_TAR, digest, 0)
    else:
        layer = store_archive(blobs, packer)
    layer.content_size = packer.content_size
    draft.commit(layer.diff_id, Unpacked(packer.members, packer.content_size))
    return layer


def store_archive(blobs: BlobStore, archive: Iterable[bytes]) -> Layer:
    """Store a tar archive as a layer's blob, compressed; the content size is not known yet (0)."""
    state = digests.bulk()

    def hashed() -> Iterator[bytes]:
        for part in archive:
            state.update(part)
            yield part

    digest, size = blobs.put_stream(compress(hashed()))
    return Layer(digest, size, LAYER_GZIP, f"sha256:{state.hexdigest()}", 0)


def content_size(root: Root, diff_id: str) -> int:
    """The content size of an unpacked layer (bytes); -1 where it is not unpacked, or no longer to be relied on."""
    return committed.content_size(f"{root.layers}/{digests.hex_of(diff_id)}")


class Draft:
    """A layer in the making: a hidden folder, locked by its maker, so that a crashed one is told from a busy one."""

    def __init__(self, root: Root, name: str = "new") -> None:
        self._root = root
        sweep(root)
        self.path = f"{root.layers}/.{name}.{os.urandom(4).hex()}"
        self.fs = f"{self.path}/fs"
        """The folder to fill."""
        self._lock = self._make()
        os.mkdir(self.fs)
        os.chmod(self.fs, 0o755)

    def _make(self) -> int:
        while True:
            os.mkdir(self.path, 0o700)
            try:
                lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # another command's sweep came before the lock
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.path.exists(self.path):  # else the same, between these two lines
                return lock
            os.close(lock)

    def __enter__(self) -> Draft:
        return self

    def __exit__(self, *failure: object) -> None:
        try:
            remove_tree(self.path)
        finally:
            os.close(self._lock)

    def commit(self, diff_id: str, found: Unpacked) -> None:
        """Let it appear as the layer `diff_id`; one that is there already stays, and this one goes.

        Its blob is on the disk: its files are forced there only when an earlier boot has unpacked them before.
        """
        final = f"{self._root.layers}/{digests.hex_of(diff_id)}"
        if again := committed.is_stale(final):
            # Layer files that are not on the disk when the record is are how stores get files of no length.
            libc.syncfs(self._lock)
        committed.write(self.path, diff_id, found.members, found.content_size, flushed=again)
        if committed.content_size(final) < 0:
            remove_tree(final)  # of an earlier boot, or what an older version may have left
            try:
                os.rename(self.path, final)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
        sync_directory(self._root.layers)


def sweep(root: Root) -> None:
    """Remove the drafts of commands that were killed."""
    for entry in os.listdir(root.layers):
        if not entry.startswith("."):
            continue
        path = f"{root.layers}/{entry}"
        try:
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        with Fd(lock):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            remove_tree(path)


def remove_layer(root: Root, name: str) -> None:
    """Remove layers/<name>: out of the way first, then away."""
    hidden = f"{root.layers}/.{name}.{os.urandom(4).hex()}"
    os.rename(f"{root.layers}/{name}", hidden)
    remove_tree(hidden)


def unpack(chunks: Iterable[bytes], target: str, diff_id: str | None = None) -> Unpacked:
    """Unpack a plain archive into the empty folder `target`.

    Raises BadArchive, DiskFull, and Damaged when the archive is not `diff_id`.
    """
    state = digests.bulk() if diff_id is not None else None

    def hashed() -> Iterator[bytes]:
        for chunk in chunks:
            if state:
                state.update(chunk)
            yield chunk

    source = Source(hashed())
    umask = os.umask(0)
    try:
        with Fd(os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)) as root:
            found = Unpacker(root.number).run(source)
    finally:
        os.umask(umask)
    source.drain()
    if state and f"sha256:{state.hexdigest()}" != diff_id:
        raise Damaged(f"the layer is not {diff_id}: its digest is sha256:{state.hexdigest()}")
    return found


def unpack_into(chunks: Iterable[bytes], folder: int) -> Unpacked:
    """Unpack a plain archive that is no layer over what the open `folder` holds.

    A name that begins with `.wh.` is a name like any other. Raises BadArchive.
    """
    umask = os.umask(0)
    try:
        return Unpacker(folder, whiteouts=False).run(Source(chunks))
    finally:
        os.umask(umask)


_NO_WAY = (errno.ELOOP, errno.ENOTDIR, errno.EXDEV, errno.ENOENT)
"""What the kernel says of a path that leads through something that is no folder."""


class Unpacker:
    """Places the members of an archive below the folder of descriptor `root`."""

    def __init__(self, root: int, *, whiteouts: bool = True) -> None:
        self.root = root
        self.whiteouts = whiteouts
        self.device = os.fstat(root).st_dev
        self.folder_times: dict[str, int] = {}
        self.content_size = 0
        self.until_look = 0
        self.parent = Fd(-1)
        self.parent_path = ""
        """The folder of the last member, held open: most members follow others of their folder."""

    def run(self, source: Source) -> Unpacked:
        """Place all of them. Raises BadArchive."""
        count = 0
        try:
            for entry in tar.read(source):
                count += 1
                try:
                    self._place(entry, source)
                except OSError as error:
                    if error.errno in (errno.ENAMETOOLONG, errno.EINVAL):
                        raise BadArchive(f"{entry.name[:80]!r} cannot be made: {error.strerror}") from error
                    if isinstance(error, (IsolationError, NotADirectoryError)) and error.errno in _NO_WAY:
                        raise BadArchive(f"{entry.name!r} leads through something that is no folder") from error
                    raise
        finally:
            self._forget_parent()
        for path, mtime in reversed(self.folder_times.items()):
            try:
                folder = open_in_root(self.root, path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            except OSError:
                continue  # replaced by a later member
            with Fd(folder):
                os.utime(folder, ns=(mtime, mtime))
        return Unpacked(count, self.content_size)

    def _place(self, entry: Entry, source: Source) -> None:
        parts = [part for part in entry.name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise BadArchive(f"{entry.name!r} leads out of the layer")
        if not parts:
            if entry.kind != tar.FOLDER:
                raise BadArchive("a member without a name")
            os.fchown(self.root, entry.uid, entry.gid)
            os.fchmod(self.root, entry.mode)
            self.folder_times["/"] = entry.mtime
            return
        if parts[0] in _IGNORED:
            return
        name = parts[-1]
        parent = self._open_parent("/" + "/".join(parts[:-1]))
        if self.whiteouts and name.startswith(WHITEOUT):
            self._whiteout(parent, name, entry)
            self._forget_parent()
        elif entry.kind == tar.REGULAR:
            self._write(parent, name, entry, source)
        elif entry.kind == tar.LINK:
            self._link(parent, name, entry)
        else:
            self._make(parent, name, entry, "/" + "/".join(parts))
            self._forget_parent()  # a folder or a link may change what the path stands for

    def _open_parent(self, path: str) -> int:
        if self.parent.number < 0 or path != self.parent_path:
            self._forget_parent()
            self.parent = Fd(make_directories(self.root, path))
            self.parent_path = path
        return self.parent.number

    def _forget_parent(self) -> None:
        if self.parent.number >= 0:
            self.parent.close()
        self.parent = Fd(-1)

    def _whiteout(self, parent: int, name: str, entry: Entry) -> None:
        if name == OPAQUE:
            os.setxattr(f"/proc/self/fd/{parent}", "trusted.overlay.opaque", b"y")
            return
        hidden = name[len(WHITEOUT) :]
        if hidden in ("", ".", "..") or hidden.startswith(WHITEOUT):
            raise BadArchive(f"{entry.name!r} is not a whiteout of anything")
        remove_entry(parent, hidden, self.device)
        os.mknod(hidden, stat.S_IFCHR, 0, dir_fd=parent)

    def _make(self, parent: int, name: str, entry: Entry, path: str) -> None:
        if entry.kind == tar.FOLDER:
            self._make_folder(parent, name)
            self.folder_times.pop(path, None)
            self.folder_times[path] = entry.mtime
        elif entry.kind == tar.SYMLINK:
            if not entry.link:
                raise BadArchive(f"{entry.name!r} is a symbolic link to nothing")
            self._replace(parent, name, lambda: os.symlink(entry.link, name, dir_fd=parent))
        elif entry.kind == tar.FIFO:
            self._replace(parent, name, lambda: os.mkfifo(name, 0o600, dir_fd=parent))
        else:
            kind = stat.S_IFCHR if entry.kind == tar.CHARACTER else stat.S_IFBLK
            if entry.kind == tar.CHARACTER and entry.major == entry.minor == 0:
                raise BadArchive(f"{entry.name!r} is the device 0:0, which overlayfs takes for a whiteout")
            device = os.makedev(entry.major, entry.minor)
            self._replace(parent, name, lambda: os.mknod(name, 0o600 | kind, device, dir_fd=parent))
        self._finish(parent, name, entry)

    def _replace(self, parent: int, name: str, make: Callable[[], object]) -> None:
        """Make something new under the name, whatever was there; names are seldom taken."""
        try:
            make()
        except FileExistsError:
            remove_entry(parent, name, self.device)
            make()

    def _make_folder(self, parent: int, name: str) -> None:
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                remove_entry(parent, name, self.device)
                os.mkdir(name, 0o755, dir_fd=parent)

    def _write(self, parent: int, name: str, entry: Entry, source: Source) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            number = os.open(name, flags, 0o600, dir_fd=parent)
        except FileExistsError:
            remove_entry(parent, name, self.device)
            number = os.open(name, flags, 0o600, dir_fd=parent)
        with Fd(number):
            if entry.segments is None:
                self._copy(number, entry, source, entry.size)
            else:
                os.ftruncate(number, entry.size)
                for offset, length in entry.segments:
                    os.lseek(number, offset, os.SEEK_SET)
                    self._copy(number, entry, source, length)
            self.content_size += entry.size
            os.fchown(number, entry.uid, entry.gid)
            os.fchmod(number, entry.mode)
            _set_attributes(number, entry)
            os.utime(number, ns=(entry.mtime, entry.mtime))

    def _copy(self, file: int, entry: Entry, source: Source, count: int) -> None:
        while count:
            part = source.some(min(count, _CHUNK))
            if not part:
                raise BadArchive(f"the archive ends in the middle of {entry.name!r}")
            self._look_at_the_disk(file, len(part))
            write_all(file, part)
            count -= len(part)

    def _look_at_the_disk(self, file: int, count: int) -> None:
        """The last free space is not for a layer: a host that has none stops working."""
        self.until_look -= count
        if self.until_look > 0:
            return
        self.until_look = _LOOK
        disk = os.fstatvfs(file)
        free, total = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
        if free < min(_RESERVE, total // 50):
            raise DiskFull(f"only {free >> 20} MiB are free on the disk of the store, too few for this layer")

    def _link(self, parent: int, name: str, entry: Entry) -> None:
        parts = [part for part in entry.link.split("/") if part not in ("", ".")]
        if not parts or ".." in parts:
            raise BadArchive(f"{entry.name!r} is a hard link to {entry.link!r}, which is outside the layer")
        folder = open_in_root(self.root, "/" + "/".join(parts[:-1]), os.O_PATH | os.O_DIRECTORY)
        with Fd(folder):
            if self._is_same(parent, name, folder, parts[-1]):
                return  # the link is there already: removing its name could remove the file

            def link() -> None:
                os.link(parts[-1], name, src_dir_fd=folder, dst_dir_fd=parent, follow_symlinks=False)

            try:
                self._replace(parent, name, link)
            except (FileNotFoundError, PermissionError) as error:
                raise BadArchive(f"{entry.name!r} is a hard link to {entry.link!r}, which is not there") from error

    def _is_same(self, parent: int, name: str, folder: int, target: str) -> bool:
        try:
            ours = os.stat(name, dir_fd=parent, follow_symlinks=False)
            theirs = os.stat(target, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return ours.st_ino == theirs.st_ino and not stat.S_ISDIR(ours.st_mode)

    def _finish(self, parent: int, name: str, entry: Entry) -> None:
        """Owner before mode (chown(2) clears setuid), mode before attributes, times last."""
        os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        if entry.kind == tar.SYMLINK:
            os.utime(name, ns=(entry.mtime, entry.mtime), dir_fd=parent, follow_symlinks=False)
            return
        with Fd(os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)) as made:
            own = f"/proc/self/fd/{made.number}"
            os.chmod(own, entry.mode)
            _set_attributes(own, entry)
            os.utime(own, ns=(entry.mtime, entry.mtime))


def _set_attributes(file: int | str, entry: Entry) -> None:
    for key, value in entry.xattrs.items():
        if key.startswith(("trusted.", "user.overlay.", "system.")):
            continue  # overlayfs would obey them
        try:
            os.setxattr(file, key, value)
        except OSError as error:
            # EINVAL is a malformed capability, which would have no effect anyway.
            if error.errno not in (errno.ENOTSUP, errno.EPERM, errno.EINVAL):
                raise
