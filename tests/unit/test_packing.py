"""Layers of our own: the same bytes for the same tree, whiteouts from an overlay, and back again."""

from __future__ import annotations

import os
import socket
import stat
import struct
import subprocess
from pathlib import Path

import pytest
import zstandard

from specrun.errors import Damaged
from specrun.paths import open_root
from specrun.store import tar
from specrun.store.blobs import BlobStore
from specrun.store.compression import compress, decompress
from specrun.store.layers import Draft, keep_folder, unpack
from specrun.store.packing import Packer
from specrun.store.tar import Entry, Source

CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)


def archive(folder: Path, **options: object) -> bytes:
    return b"".join(Packer(str(folder), **options))  # type: ignore[arg-type]


def entries(data: bytes) -> dict[str, Entry]:
    return {entry.name: entry for entry in tar.read(Source([data]))}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """One of each kind of file."""
    root = tmp_path / "tree"
    (root / "d").mkdir(parents=True)
    (root / "d/file").write_bytes(b"x" * 1000)
    os.link(root / "d/file", root / "d/link")
    (root / "d/symbolic").symlink_to("file")
    os.mkfifo(root / "fifo")
    os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (root / ("n" * 200)).write_text("long")
    (root / "grüße").write_text("utf-8")
    with open(root / "holes", "wb") as file:
        file.truncate(1 << 20)
    os.setxattr(root / "d/file", "user.note", b"\0binary")
    os.setxattr(root / "d/file", "security.capability", CAPABILITY)
    os.chmod(root / "d/file", 0o4711)
    os.chown(root / "d", 1234, 3_000_000)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "socket"))
    return root


def test_what_is_packed_unpacks_to_the_same(tree: Path, tmp_path: Path) -> None:
    data = archive(tree)
    target = tmp_path / "target"
    target.mkdir()
    unpack(decompress(compress([data])), str(target))
    assert archive(target) == data
    assert os.getxattr(target / "d/file", "user.note") == b"\0binary"
    assert os.getxattr(target / "d/file", "security.capability") == CAPABILITY
    assert os.stat(target / "d/link").st_ino == os.stat(target / "d/file").st_ino
    assert os.stat(target / "null").st_rdev == os.makedev(1, 3)
    assert os.stat(target / "d").st_gid == 3_000_000
    assert not (target / "socket").exists()


def test_gnu_tar_reads_it(tree: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(archive(tree))
    target = tmp_path / "theirs"
    target.mkdir()
    subprocess.run(["tar", "--xattrs", "--xattrs-include=*", "-C", str(target), "-xf", str(path)], check=True)
    assert archive(target) == archive(tree)


def test_times_end_at_the_epoch_and_the_folder_is_settled(tree: Path) -> None:
    os.utime(tree / "fifo", (5.5, 5.5))
    before = archive(tree, epoch=1000, settle=True)
    assert entries(before)["fifo"].mtime == 5 * 10**9
    assert entries(before)["d/file"].mtime == 1000 * 10**9
    assert os.stat(tree / "d/file").st_mtime_ns == 1000 * 10**9
    assert archive(tree) == before


def test_an_upper_directory_becomes_whiteouts(tmp_path: Path) -> None:
    lower, upper, work, merged = (tmp_path / name for name in ("lower", "upper", "work", "merged"))
    for folder in (lower / "old", lower / "kept", upper, work, merged):
        folder.mkdir(parents=True)
    for name in ("gone", "old/a", "kept/b"):
        (lower / name).write_text("1")
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    if subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, str(merged)], check=False).returncode:
        pytest.skip("no overlay on this file system")
    try:
        subprocess.run(
            "rm gone && rm -r old && mkdir old && touch old/new kept/c && mkdir fresh && touch fresh/f",
            shell=True, cwd=merged, check=True,
        )  # fmt: skip
    finally:
        subprocess.run(["umount", str(merged)], check=True)
    names = set(entries(archive(upper, lower=[str(lower)])))
    assert names == {".wh.gone", "old/", "old/.wh..wh..opq", "old/new", "kept/", "kept/c", "fresh/", "fresh/f"}


def test_what_a_layer_cannot_hold_is_refused(tree: Path) -> None:
    os.setxattr(tree / "d", "trusted.overlay.redirect", b"/elsewhere")
    with pytest.raises(Damaged, match="renamed folder"):
        archive(tree)


def test_a_capability_of_a_user_namespace_is_made_portable(tmp_path: Path) -> None:
    from specrun.store.packing import _portable

    third = struct.pack("<IIIIII", 0x03000001, 1 << 10, 0, 0, 0, 100_000)
    assert _portable(third) == CAPABILITY


def test_sparse_files_of_gnu_tar_are_read(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with open(source / "sparse", "wb") as file:
        for number in range(12):
            file.seek(number * (1 << 20))
            file.write(b"data %d" % number)
        file.truncate(20 << 20)
    for form in ("--format=gnu", "--format=pax --sparse-version=0.0", "--format=pax --sparse-version=0.1",
                 "--format=pax --sparse-version=1.0"):  # fmt: skip
        data = subprocess.run(
            ["tar", "-S", *form.split(), "-C", str(source), "-cf", "-", "sparse"], check=True, capture_output=True
        ).stdout
        assert len(data) < 1 << 20
        target = tmp_path / form.replace(" ", "")
        target.mkdir()
        found = unpack([data], str(target))
        assert found.content_size == 20 << 20
        assert (target / "sparse").read_bytes() == (source / "sparse").read_bytes()
        assert os.stat(target / "sparse").st_blocks * 512 < 1 << 20


def test_a_folder_is_kept_as_a_layer_once(tmp_path: Path) -> None:
    root = open_root(str(tmp_path / "root"))
    blobs = BlobStore(root.oci)
    layers = []
    for _ in range(2):
        with Draft(root) as draft:
            Path(draft.fs, "f").write_text("content")
            os.utime(draft.fs + "/f", (7, 7))
            layers.append(keep_folder(root, blobs, draft, Packer(draft.fs, settle=True)))
    assert layers[0].diff_id == layers[1].diff_id
    assert layers[0].content_size == 7
    assert os.listdir(root.layers) == [layers[0].diff_id[7:]]


@pytest.mark.parametrize("size", [0, 1, 511, 512, 70_000, 3_000_000])
def test_compressed_and_plain_are_the_same(size: int) -> None:
    data = os.urandom(size // 2) + bytes(size - size // 2)
    packed = b"".join(compress([data[:100], data[100:]]))
    assert b"".join(decompress([packed[:7], packed[7:]])) == data
    assert b"".join(decompress([packed, packed])) == data * 2
    assert b"".join(decompress([zstandard.ZstdCompressor().compress(data)] if data else [])) == data
