"""Hostile layers: nothing outside the layer's folder changes, and what cannot be honest is refused."""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from specrun.errors import Damaged, SpecrunError
from specrun.oci.digest import of
from specrun.store import tar
from specrun.store.compression import compress, decompress
from specrun.store.layers import unpack
from specrun.store.packing import Packer
from specrun.store.tar import BadArchive, Entry


def member(name: str, kind: str = tar.REGULAR, data: bytes = b"", **fields: object) -> bytes:
    """One member as bytes."""
    entry = Entry(name, kind)
    entry.size = len(data)
    for key, value in fields.items():
        setattr(entry, key, value)
    return tar.header(entry) + data + bytes(-len(data) % tar.BLOCK)


def archive(*members: bytes) -> bytes:
    return b"".join(members) + bytes(1024)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A folder to unpack in, and a canary that must not change; the working directory is the canary's."""
    target, canary = tmp_path / "target", tmp_path / "canary"
    target.mkdir()
    canary.mkdir()
    (canary / "secret").write_text("untouched")
    os.chmod(canary / "secret", 0o640)
    before = _facts(canary)
    previous = os.getcwd()
    os.chdir(canary)
    try:
        yield target, canary
    finally:
        os.chdir(previous)
    assert _facts(canary) == before


def _facts(folder: Path) -> list[object]:
    info = os.stat(folder / "secret")
    content = (folder / "secret").read_text()
    return [sorted(os.listdir(folder)), content, info.st_mode, info.st_uid, info.st_nlink, info.st_mtime_ns]


ESCAPES = {
    "a name too long": [member("n" * 300)],
    "dotdot": [member("../canary/secret", data=b"gone")],
    "dotdot inside": [member("a/../../canary/secret", data=b"gone")],
    "whiteout of dotdot": [member("a/.wh..")],
    "whiteout of dotdotdot": [member(".wh...")],
    "whiteout of nothing": [member(".wh.")],
    "hard link outside": [member("x", tar.LINK, link="../canary/secret"), member("x", data=b"gone")],
    "hard link through a link": [
        member("l", tar.SYMLINK, link="CANARY"), member("x", tar.LINK, link="l/secret"), member("x", data=b"gone"),
    ],
    "hard link to the working directory": [member("x", tar.LINK, link="secret"), member("x", data=b"gone")],
    "device that is a whiteout": [member("x", tar.CHARACTER)],
    "file through a file": [member("f", data=b"1"), member("f/x", data=b"2")],
}  # fmt: skip


@pytest.mark.parametrize("case", ESCAPES)
def test_an_escape_is_refused(case: str, place: tuple[Path, Path]) -> None:
    target, canary = place
    data = archive(*ESCAPES[case]).replace(b"CANARY", bytes(str(canary), "ascii")[:6])
    with pytest.raises((BadArchive, OSError)):
        unpack([data], str(target))


def test_a_write_through_an_absolute_link_stays_inside(place: tuple[Path, Path]) -> None:
    target, canary = place
    data = archive(
        member("l", tar.SYMLINK, link=str(canary)),
        member(str(canary).lstrip("/") + "/", tar.FOLDER, mode=0o755),
        member("l/secret", data=b"inside"),
    )
    unpack([data], str(target))
    assert (target / str(canary).lstrip("/") / "secret").read_bytes() == b"inside"


def test_a_link_is_replaced_and_not_written_through(place: tuple[Path, Path]) -> None:
    target, canary = place
    unpack(
        [archive(member("x", tar.SYMLINK, link=f"{canary}/secret"), member("x", data=b"new", mode=0o777))], str(target)
    )
    assert not (target / "x").is_symlink()
    assert (target / "x").read_bytes() == b"new"


def test_absolute_names_are_inside(place: tuple[Path, Path]) -> None:
    target, _ = place
    unpack([archive(member("/etc/passwd", data=b"root"))], str(target))
    assert (target / "etc/passwd").read_bytes() == b"root"


def test_what_real_images_have_is_unpacked(place: tuple[Path, Path]) -> None:
    target, _ = place
    data = archive(
        member("run/", tar.FOLDER, mode=0o755),
        member("var/run", tar.SYMLINK, link="/run"),
        member("var/run/pid", data=b"1"),
        member("deep/without/parents", data=b"2"),
        member("deep/again", tar.LINK, link="/deep/without/parents"),
        member("n" * 150, data=b"3", mode=0o4755),
        member("gone/.wh.file"),
        member("fresh/.wh..wh..opq"),
    )
    unpack([data], str(target))
    assert (target / "run/pid").read_bytes() == b"1"
    assert os.stat(target / "deep/again").st_ino == os.stat(target / "deep/without/parents").st_ino
    assert stat.S_IMODE(os.stat(target / ("n" * 150)).st_mode) == 0o4755
    whiteout = os.stat(target / "gone/file")
    assert stat.S_ISCHR(whiteout.st_mode)
    assert whiteout.st_rdev == 0
    assert os.getxattr(target / "fresh", "trusted.overlay.opaque") == b"y"


def test_attributes_that_overlayfs_obeys_are_dropped(place: tuple[Path, Path]) -> None:
    target, _ = place
    smuggled = {"trusted.overlay.redirect": b"/etc", "user.overlay.opaque": b"y", "user.kept": b"1"}
    unpack([archive(member("d/", tar.FOLDER, mode=0o755, xattrs=smuggled))], str(target))
    assert os.listxattr(target / "d") == ["user.kept"]


def _with_size(field: bytes) -> bytes:
    block = bytearray(member("x"))
    block[124:136] = field
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + bytes(1024)


def _sparse(offset: bytes, length: bytes, size: int) -> bytes:
    """GNU's old form: one piece of data that is not there, in a file of `size` bytes."""
    block = bytearray(member("x", "S"))
    block[386:398], block[398:410] = offset.ljust(12, b"\0"), length.ljust(12, b"\0")
    block[483:495] = b"%011o\0" % size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + bytes(1024)


@pytest.mark.parametrize(
    "data",
    [
        _with_size(b"\xff" * 12),
        _with_size(b"\x80" + b"\xff" * 11),
        _with_size(b"0_1\0" + bytes(8)),
        _with_size(b"-1\0" + bytes(9)),
        member("x", "x", b"9999999 path=y\n") + bytes(1024),
        member("x", "x", b"13 path=\n\n\n\n") + bytes(1024),
        _sparse(b"0000000000", b"0000001000", 100),
        _sparse(b"0000000000", b"0000000001", 0),
        member("x", "M") + bytes(1024),
        member("x")[:100],
        b"not a tar archive" * 100,
    ],
)
def test_an_archive_that_lies_is_refused(data: bytes, place: tuple[Path, Path]) -> None:
    with pytest.raises(BadArchive):
        unpack([data], str(place[0]))


def test_a_huge_extended_header_is_refused_before_it_is_read(place: tuple[Path, Path]) -> None:
    entry = Entry("x", "x")
    entry.size = 1 << 30
    with pytest.raises(BadArchive, match="PAX header"):
        unpack([tar.header(entry)], str(place[0]))


def test_the_pax_size_wins(place: tuple[Path, Path]) -> None:
    target, _ = place
    pax = b"10 size=3\n"
    unpack([archive(member("p", "x", pax), _with_data(b"abc"), member("y", data=b"2"))], str(target))
    assert (target / "x").read_bytes() == b"abc"
    assert (target / "y").read_bytes() == b"2"


def _with_data(data: bytes) -> bytes:
    """A member whose own header says 0 bytes."""
    return member("x") + data + bytes(-len(data) % tar.BLOCK)


def test_a_bomb_is_stopped() -> None:
    packed = zlib.compress(bytes(300 << 20), 9, 31)
    twice = zlib.compress(packed * 4, 9, 31)
    with pytest.raises(BadArchive, match="times its size"):
        total = 0
        for chunk in decompress([packed[:1000], packed[1000:]]):
            total += len(chunk)
            assert total < 400 << 20
    assert twice


def test_another_layer_than_promised_is_refused(place: tuple[Path, Path]) -> None:
    data = archive(member("x", data=b"1"))
    assert unpack([data], str(place[0]), of(data)).members == 1
    with pytest.raises(Damaged):
        unpack([data], str(place[0]), of(b"another"))


def test_packing_and_unpacking_are_opposites_and_reproducible(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    (source / "d" / ("long" * 40)).mkdir(parents=True)
    (source / "d" / "file").write_bytes(b"x" * 1000)
    (source / "d" / "link").symlink_to("file")
    os.chmod(source / "d" / "file", 0o4711)
    target.mkdir()
    plain = b"".join(Packer(str(source), time=7, owned_by_root=True))
    assert unpack(decompress(compress([plain])), str(target)).members == 4
    assert b"".join(Packer(str(target), time=7, owned_by_root=True)) == plain
    assert os.stat(target / "d" / "file").st_mtime == 7


def test_errors_are_ours(place: tuple[Path, Path]) -> None:
    with pytest.raises(SpecrunError):
        list(decompress([zlib.compress(b"x", 9, 31)[:-4] + b"junk"]))
