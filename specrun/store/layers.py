"""Layers: unpacking a stranger's archive into a folder of ours, and packing a folder of ours reproducibly.

Every path of an archive is resolved by the kernel inside the layer's folder (openat2, RESOLVE_IN_ROOT), and every
member is made by name in a folder that is held open. Whiteouts become what overlayfs understands.
"""

from __future__ import annotations

import errno
import os
import stat

from specrun.errors import Damaged
from specrun.files import remove_tree, sync_directory, write_atomic
from specrun.oci import digest as digests
from specrun.store import tar
from specrun.store.compression import decompress
from specrun.store.packing import OPAQUE, WHITEOUT
from specrun.store.tar import BadArchive, Entry, Source
from specrun_runtime.errors import IsolationError
from specrun_runtime.fds import Fd, write_all
from specrun_runtime.files import remove_entry
from specrun_runtime.paths import make_directories, open_in_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from specrun.paths import Root
    from specrun.store.blobs import BlobStore

_CHUNK = 1 << 20


def unpack_layer(root: Root, blobs: BlobStore, digest: str, diff_id: str) -> None:
    """Unpack the blob `digest` to layers/<diff-id>/fs, once; called under the lock `layers`.

    The folder appears under its name only when it is complete, proven to be `diff_id`, and on the disk.
    """
    final = f"{root.layers}/{digests.hex_of(diff_id)}"
    if os.path.exists(f"{final}/committed"):
        return
    for entry in os.listdir(root.layers):
        if entry.startswith("."):  # of a command that was killed: we hold the lock, so nobody is at it
            remove_tree(f"{root.layers}/{entry}")
    draft = f"{root.layers}/.{digests.hex_of(diff_id)}.{os.urandom(4).hex()}"
    os.makedirs(f"{draft}/fs", mode=0o755)
    os.chmod(draft, 0o700)
    try:
        count = unpack(decompress(blobs.chunks(digest)), f"{draft}/fs", diff_id)
        os.sync()  # layer files that are not on the disk when the record is are how stores get zero-length files
        write_atomic(f"{draft}/committed", f"{diff_id} {count}\n".encode())
        remove_tree(final)
        os.rename(draft, final)
    except BaseException:
        remove_tree(draft)
        raise
    sync_directory(root.layers)


def unpack(chunks: Iterable[bytes], target: str, diff_id: str | None = None) -> int:
    """Unpack a plain archive into the empty folder `target`; gives the number of members.

    Raises BadArchive, and Damaged when the archive is not `diff_id`.
    """
    state = digests.sha256()

    def hashed() -> Iterator[bytes]:
        for chunk in chunks:
            state.update(chunk)
            yield chunk

    source = Source(hashed())
    umask = os.umask(0)
    try:
        with Fd(os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)) as root:
            count = _Unpacker(root.number).run(source)
    finally:
        os.umask(umask)
    source.drain()
    if diff_id is not None and f"sha256:{state.hexdigest()}" != diff_id:
        raise Damaged(f"the layer is not {diff_id}: its digest is sha256:{state.hexdigest()}")
    return count


class _Unpacker:
    def __init__(self, root: int) -> None:
        self.root = root
        self.device = os.fstat(root).st_dev
        self.folder_times: list[tuple[str, int]] = []

    def run(self, source: Source) -> int:
        count = 0
        for entry in tar.read(source):
            count += 1
            try:
                self._place(entry, source)
            except IsolationError as error:
                if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EXDEV, errno.ENOENT):
                    raise BadArchive(f"{entry.name!r} leads through something that is no folder") from error
                raise
        for path, mtime in reversed(self.folder_times):
            try:
                folder = open_in_root(self.root, path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            except OSError:
                continue  # replaced by a later member
            with Fd(folder):
                os.utime(folder, ns=(mtime, mtime))
        return count

    def _place(self, entry: Entry, source: Source) -> None:
        parts = [part for part in entry.name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise BadArchive(f"{entry.name!r} leads out of the layer")
        if not parts:
            if entry.kind != tar.FOLDER:
                raise BadArchive("a member without a name")
            os.fchown(self.root, entry.uid, entry.gid)
            os.fchmod(self.root, entry.mode)
            self.folder_times.append(("/", entry.mtime))
            return
        name = parts[-1]
        with Fd(make_directories(self.root, "/" + "/".join(parts[:-1]))) as parent:
            if name.startswith(WHITEOUT):
                self._whiteout(parent.number, name, entry)
            else:
                self._make(parent.number, name, entry, source, "/" + "/".join(parts))

    def _whiteout(self, parent: int, name: str, entry: Entry) -> None:
        if name == OPAQUE:
            os.setxattr(f"/proc/self/fd/{parent}", "trusted.overlay.opaque", b"y")
            return
        hidden = name[len(WHITEOUT) :]
        if hidden in ("", ".", "..") or hidden.startswith(WHITEOUT):
            raise BadArchive(f"{entry.name!r} is not a whiteout of anything")
        remove_entry(parent, hidden, self.device)
        os.mknod(hidden, stat.S_IFCHR, 0, dir_fd=parent)

    def _make(self, parent: int, name: str, entry: Entry, source: Source, path: str) -> None:
        if entry.kind == tar.FOLDER:
            self._make_folder(parent, name)
            self.folder_times.append((path, entry.mtime))
        else:
            remove_entry(parent, name, self.device)
            if entry.kind == tar.LINK:
                self._link(parent, name, entry)
                return
            if entry.kind == tar.REGULAR:
                self._write(parent, name, entry, source)
            elif entry.kind == tar.SYMLINK:
                os.symlink(entry.link, name, dir_fd=parent)
            elif entry.kind == tar.FIFO:
                os.mkfifo(name, 0o600, dir_fd=parent)
            else:
                kind = stat.S_IFCHR if entry.kind == tar.CHARACTER else stat.S_IFBLK
                if entry.kind == tar.CHARACTER and entry.major == entry.minor == 0:
                    raise BadArchive(f"{entry.name!r} is the device 0:0, which overlayfs takes for a whiteout")
                os.mknod(name, 0o600 | kind, os.makedev(entry.major, entry.minor), dir_fd=parent)
        self._finish(parent, name, entry)

    def _make_folder(self, parent: int, name: str) -> None:
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                remove_entry(parent, name, self.device)
                os.mkdir(name, 0o755, dir_fd=parent)

    def _write(self, parent: int, name: str, entry: Entry, source: Source) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with Fd(os.open(name, flags, 0o600, dir_fd=parent)) as file:
            left = entry.size
            while left:
                part = source.some(min(left, _CHUNK))
                if not part:
                    raise BadArchive(f"the archive ends in the middle of {entry.name!r}")
                write_all(file.number, part)
                left -= len(part)
        tar.skip_padding(source, entry.size)

    def _link(self, parent: int, name: str, entry: Entry) -> None:
        parts = [part for part in entry.link.split("/") if part not in ("", ".")]
        if not parts or ".." in parts:
            raise BadArchive(f"{entry.name!r} is a hard link to {entry.link!r}, which is outside the layer")
        folder = open_in_root(self.root, "/" + "/".join(parts[:-1]), os.O_PATH | os.O_DIRECTORY)
        with Fd(folder):
            try:
                os.link(parts[-1], name, src_dir_fd=folder, dst_dir_fd=parent, follow_symlinks=False)
            except (FileNotFoundError, PermissionError) as error:
                raise BadArchive(f"{entry.name!r} is a hard link to {entry.link!r}, which is not there") from error

    def _finish(self, parent: int, name: str, entry: Entry) -> None:
        """Owner before mode (chown(2) clears setuid), mode before attributes, times last."""
        os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        if entry.kind == tar.SYMLINK:
            os.utime(name, ns=(entry.mtime, entry.mtime), dir_fd=parent, follow_symlinks=False)
            return
        with Fd(os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)) as made:
            own = f"/proc/self/fd/{made.number}"
            os.chmod(own, entry.mode)
            for key, value in entry.xattrs.items():
                if key.startswith(("trusted.", "user.overlay.", "system.")):
                    continue  # overlayfs would obey them
                try:
                    os.setxattr(own, key, value)
                except OSError as error:
                    if error.errno not in (errno.ENOTSUP, errno.EPERM):
                        raise
            os.utime(own, ns=(entry.mtime, entry.mtime))
