"""Archives with bytes changed at random: unpacked or refused, quickly, and nothing outside the folder changes."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from specrun.errors import SpecrunError
from specrun.store import tar
from specrun.store.compression import compress, decompress
from specrun.store.layers import unpack
from specrun.store.tar import Entry, Source


def _archive() -> bytes:
    """A member of each kind, with headers of each kind."""
    found = b""
    for name, kind, link, data in (
        ("d/", tar.FOLDER, "", b""),
        ("d/file", tar.REGULAR, "", b"content" * 100),
        ("d/hard", tar.LINK, "d/file", b""),
        ("d/soft", tar.SYMLINK, "../d", b""),
        ("d/soft/through", tar.REGULAR, "", b"x"),
        ("d/.wh.gone", tar.REGULAR, "", b""),
        ("d/.wh..wh..opq", tar.REGULAR, "", b""),
        ("fifo", tar.FIFO, "", b""),
        ("n" * 150, tar.REGULAR, "", b"long"),
    ):
        entry = Entry(name, kind)
        entry.link, entry.size = link, len(data)
        if name == "d/file":
            entry.xattrs = {"user.a": b"b"}
        found += tar.header(entry) + data + bytes(-len(data) % tar.BLOCK)
    return found + bytes(1024)


ARCHIVE = _archive()


def _mended(data: bytearray) -> bytes:
    """With right checksums, so that the change gets past the first gate."""
    for start in range(0, len(data) - 511, 512):
        if data[start + 257 : start + 262] == b"ustar":
            data[start + 148 : start + 156] = b" " * 8
            data[start + 148 : start + 156] = b"%06o\0 " % sum(data[start : start + 512])
    return bytes(data)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(ARCHIVE) - 1), st.integers(0, 255)), min_size=1, max_size=12),
    st.integers(0, len(ARCHIVE)),
)
def test_a_changed_archive_is_unpacked_or_refused(changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(ARCHIVE)
    for position, value in changes:
        data[position] = value
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "target")
        target.mkdir()
        try:
            unpack([_mended(data)[: cut or None]], str(target))
        except SpecrunError:
            pass
        assert os.listdir(folder) == ["target"]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=3000))
def test_bytes_that_are_no_archive_are_refused_or_empty(data: bytes) -> None:
    try:
        list(tar.read(Source([data])))
    except SpecrunError:
        pass


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=5), st.integers(1, 300))
def test_a_changed_stream_is_refused_or_read(changes: list[tuple[int, int]], piece: int) -> None:
    data = bytearray(b"".join(compress([ARCHIVE])))
    for position, value in changes:
        data[position % len(data)] = value
    try:
        for _ in decompress([bytes(data[start : start + piece]) for start in range(0, len(data), piece)]):
            pass
    except SpecrunError:
        pass
