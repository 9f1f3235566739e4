"""gzip, zstd and plain streams in bounded memory, and gzip out."""

from __future__ import annotations

import zlib as standard

from specrun.store.tar import BadArchive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

GZIP, ZSTD, PLAIN = "gzip", "zstd", ""
_CHUNK = 1 << 20
_FREE = 64 << 20
_MAX_RATIO = 1000
"""Unpacked to compressed, above 64 MiB: a stream that grows more is a bomb."""
_MAX_WINDOW = 128 << 20
"""Bytes of history that a zstd stream may ask us to keep."""
_LEVEL = 2
"""isal's second level packs as zlib's sixth does, in a fifth of the time."""


def kind_of(beginning: bytes) -> str:
    """What a stream that begins with these bytes is: GZIP, ZSTD or PLAIN."""
    if beginning[:2] == b"\x1f\x8b":
        return GZIP
    return ZSTD if beginning[:4] == b"\x28\xb5\x2f\xfd" else PLAIN


def compress(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """gzip without a name and a time, so that equal archives give equal blobs."""
    deflater = _deflater()
    for chunk in chunks:
        if data := deflater.compress(chunk):
            yield data
    yield deflater.flush()


def decompress(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The plain bytes of a gzip, zstd or plain stream, as its first bytes tell. Raises BadArchive."""
    iterator = iter(chunks)
    first = next(iterator, b"")
    while 0 < len(first) < 4 and (more := next(iterator, b"")):
        first += more
    kind = kind_of(first)
    whole = _chain(first, iterator)
    if kind == GZIP:
        return _gunzip(whole)
    return _unzstd(whole) if kind == ZSTD else whole


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from rest


class _Ratio:
    """Counts both ends of a stream; refuses one that grows out of all proportion."""

    __slots__ = ("given", "taken")

    def __init__(self) -> None:
        self.taken = self.given = 0

    def gives(self, data: bytes) -> bytes:
        self.given += len(data)
        if self.given > _FREE and self.given > self.taken * _MAX_RATIO:
            raise BadArchive(f"the layer grows to more than {_MAX_RATIO} times its size")
        return data


def _gunzip(chunks: Iterator[bytes]) -> Iterator[bytes]:
    library = _library()
    ratio = _Ratio()
    inflater = None
    for pending in chunks:
        ratio.taken += len(pending)
        while pending:
            inflater = inflater or library.decompressobj(31)
            try:
                data = inflater.decompress(pending, _CHUNK)
            except library.error as error:
                raise BadArchive(f"the layer is damaged: {error}") from error
            if data:
                yield ratio.gives(data)
            pending = inflater.unconsumed_tail
            if inflater.eof:  # another member may follow
                pending, inflater = inflater.unused_data, None
    while inflater is not None:
        # What the last chunk still holds back comes out in bounded pieces too.
        data = inflater.decompress(b"", _CHUNK)
        if not data:
            raise BadArchive("the layer is damaged: its gzip stream is cut short")
        yield ratio.gives(data)
        if inflater.eof:
            return


def _unzstd(chunks: Iterator[bytes]) -> Iterator[bytes]:
    import zstandard

    ratio = _Ratio()
    source = _Reader(chunks, ratio)
    decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
    try:
        with decompressor.stream_reader(source, read_across_frames=True) as reader:  # type: ignore[arg-type]
            while data := reader.read(_CHUNK):
                yield ratio.gives(data)
    except zstandard.ZstdError as error:
        raise BadArchive(f"the layer is damaged: {error}") from error
    if reader.tell() == 0:
        raise BadArchive("the layer is damaged: its zstd stream holds nothing")


class _Reader:
    """A file of chunks, for a library that wants to read."""

    def __init__(self, chunks: Iterator[bytes], ratio: _Ratio) -> None:
        self._chunks = chunks
        self._ratio = ratio
        self._left = b""

    def read(self, size: int = -1) -> bytes:
        if not self._left:
            self._left = next(self._chunks, b"")
            self._ratio.taken += len(self._left)
        part, self._left = (self._left[:size], self._left[size:]) if size >= 0 else (self._left, b"")
        return part


def _library() -> Any:
    try:
        from isal import isal_zlib
    except ImportError:  # no wheel for this machine: the standard library's does the same, only slower
        return standard
    return isal_zlib


def _deflater() -> Any:
    library = _library()
    return library.compressobj(_LEVEL if library is not standard else 6, 8, 31)
