"""Reading and writing tar archives: ustar with PAX and GNU headers, by a reader that trusts no number in them.

The standard library's module wrote outside its target on 3.11.7, accepts negative sizes and holds headers of any
size in memory; layers come from strangers.
"""

from __future__ import annotations

from specrun.errors import SpecrunError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BLOCK = 512
MAX_EXTENSION = 1 << 20
"""Bytes of one PAX or GNU long-name header."""
MAX_ENTRIES = 1_000_000
MAX_PATH = 4096
MAX_SEGMENTS = 100_000
"""Pieces of data in one sparse file."""
MAX_SPARSE = 1 << 40
"""Bytes that a sparse file may seem to have."""

REGULAR, LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, FOLDER, FIFO = "0", "1", "2", "3", "4", "5", "6"


class BadArchive(SpecrunError):
    """The archive breaks its format, or one of our limits."""

    code = "bad-archive"


class Entry:
    """One member: `kind` is the type flag; sizes are bytes, `mtime` nanoseconds since 1970.

    A sparse file has `segments`, the (offset, length) of its data in their order; `size` is then the length of
    the whole file, and the data of the segments is all that follows in the archive.
    """

    __slots__ = ("gid", "kind", "link", "major", "minor", "mode", "mtime", "name", "segments", "size", "uid", "xattrs")

    def __init__(self, name: str, kind: str) -> None:
        self.name = name
        self.kind = kind
        self.mode = 0o644
        self.uid = self.gid = 0
        self.size = 0
        self.mtime = 0
        self.link = ""
        self.major = self.minor = 0
        self.xattrs: dict[str, bytes] = {}
        self.segments: list[tuple[int, int]] | None = None


class Source:
    """A stream of chunks, read by counted bytes; `position` is how many were read."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self.position = 0
        self._chunks = iter(chunks)
        self._buffer = b""
        self._offset = 0

    def read(self, count: int) -> bytes:
        """Exactly `count` bytes, or fewer at the end of the stream."""
        parts = []
        while count:
            part = self.some(count)
            if not part:
                break
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def some(self, limit: int) -> bytes:
        """At least one byte and at most `limit`; b"" at the end."""
        while self._offset >= len(self._buffer):
            following = next(self._chunks, None)
            if following is None:
                return b""
            self._buffer, self._offset = following, 0
        part = self._buffer[self._offset : self._offset + limit]
        self._offset += len(part)
        self.position += len(part)
        return part

    def drain(self) -> None:
        """Read the rest, for the sake of what computes a digest on the way."""
        while self.some(1 << 20):
            pass

    def skip_to(self, position: int) -> None:
        """Read on until `position`. Raises BadArchive when the stream ends before."""
        while (left := position - self.position) > 0:
            if not self.some(min(left, 1 << 20)):
                raise BadArchive("the archive ends in the middle of a member")


def read(source: Source) -> Iterator[Entry]:
    """The members in their order. What a caller leaves unread of a member's content is passed over.

    As Docker's reader does, a global PAX header is checked and has no effect. Raises BadArchive.
    """
    own: list[tuple[str, str]] = []
    long_name = long_link = ""
    for _ in range(MAX_ENTRIES):
        header = source.read(BLOCK)
        if not header or header == _ZERO:
            return
        if len(header) < BLOCK:
            raise BadArchive("the archive ends in the middle of a header")
        _verify_checksum(header)
        kind = chr(header[156]) if header[156] else REGULAR
        stored = _number(header[124:136], "size")
        if kind in "xg":
            fields = _pax(_extension(source, stored, "PAX"))
            own = fields if kind == "x" else own
            continue
        if kind in "LK":
            text = _text(_extension(source, stored, "GNU long name"))
            if kind == "L":
                long_name = text
            else:
                long_link = text
            continue
        entry, stored = _entry(header, kind, stored, long_name, long_link, own)
        if kind == "S" or any(key.startswith("GNU.sparse.") for key, _ in own):
            stored = _read_segments(source, header, kind, entry, own, stored)
        own, long_name, long_link = [], "", ""
        end = source.position + stored
        yield entry
        source.skip_to(end + -stored % BLOCK)
    raise BadArchive(f"the archive has more than {MAX_ENTRIES} members")


_ZERO = bytes(BLOCK)
_XATTR = "SCHILY.xattr."
_SECOND = 1_000_000_000


def _entry(
    header: bytes, kind: str, stored: int, name: str, link: str, fields: list[tuple[str, str]]
) -> tuple[Entry, int]:
    """The member, and how many bytes of content follow."""
    pax = dict(fields)
    if kind in ("7", "S"):
        kind = REGULAR
    if kind not in "0123456":
        raise BadArchive(f"members of type {kind!r} (multi-volume or vendor's) are not supported")
    if not name:
        name = _text(header[0:100])
        if header[257:263] == b"ustar\0" and (prefix := _text(header[345:500])):
            name = f"{prefix}/{name}"
    name = pax.get("path", name)
    entry = Entry(name, FOLDER if kind == REGULAR and name.endswith("/") else kind)
    entry.mode = _number(header[100:108], "mode") & 0o7777
    entry.uid = _integer(pax["uid"], "uid") if "uid" in pax else _number(header[108:116], "uid")
    entry.gid = _integer(pax["gid"], "gid") if "gid" in pax else _number(header[116:124], "gid")
    if entry.uid > 0xFFFFFFFE or entry.gid > 0xFFFFFFFE:
        raise BadArchive(f"{name!r} has an owner that no system has")
    if "size" in pax:
        stored = _integer(pax["size"], "size")
    if kind != REGULAR:
        stored = 0  # as every reader has it, whatever the field says
    entry.size = stored if entry.kind == REGULAR else 0
    entry.mtime = _time(pax["mtime"]) if "mtime" in pax else _number(header[136:148], "mtime", signed=True) * _SECOND
    if not -(1 << 62) < entry.mtime < 1 << 63:
        raise BadArchive(f"{name!r} has a time that no file can have")
    entry.link = pax.get("linkpath", link or _text(header[157:257]))
    if kind in (CHARACTER, BLOCK_DEVICE):
        entry.major, entry.minor = _number(header[329:337], "major"), _number(header[337:345], "minor")
        if entry.major > 0xFFF or entry.minor > 0xFFFFF:
            raise BadArchive(f"{name!r} is a device that no system has")
    entry.xattrs = {
        key.removeprefix(_XATTR): value.encode("utf-8", "surrogateescape")
        for key, value in fields
        if key.startswith(_XATTR)
    }
    entry.name = pax.get("GNU.sparse.name", entry.name)
    for text in (entry.name, entry.link, *entry.xattrs):
        if len(text) > MAX_PATH or "\0" in text:
            raise BadArchive("a name in the archive is longer than 4096 characters or holds a NUL")
    return entry, stored


def _read_segments(
    source: Source, header: bytes, kind: str, entry: Entry, fields: list[tuple[str, str]], stored: int
) -> int:
    """Fill in the map of a sparse member, in GNU's old form or one of its three PAX forms.

    Gives how many bytes of content are left after it. Raises BadArchive for a map that is not what it must be:
    in order, without overlaps, inside the file, and of all the data that is there.
    """
    pax = dict(fields)
    if kind == "S":
        numbers, size = _old_map(source, header)
    elif pax.get("GNU.sparse.major") == "1":
        before = source.position
        numbers = _leading_map(source, stored)
        stored -= source.position - before
        size = _integer(pax.get("GNU.sparse.realsize", ""), "size")
    else:
        size = _integer(pax.get("GNU.sparse.size") or pax.get("GNU.sparse.realsize", ""), "size")
        if "GNU.sparse.map" in pax:
            texts = pax["GNU.sparse.map"].split(",") if pax["GNU.sparse.map"] else []
        else:
            texts = [value for key, value in fields if key in ("GNU.sparse.offset", "GNU.sparse.numbytes")]
        numbers = [_integer(text, "sparse map") for text in texts]
    if len(numbers) % 2 or len(numbers) > 2 * MAX_SEGMENTS or size > MAX_SPARSE:
        raise BadArchive(f"{entry.name!r} is a sparse file with a map that can't be, or larger than {MAX_SPARSE} bytes")
    segments = list(zip(numbers[::2], numbers[1::2], strict=True))
    end = total = 0
    for offset, length in segments:
        if offset < end:
            raise BadArchive(f"{entry.name!r} is a sparse file whose pieces overlap")
        end = offset + length
        total += length
    if end > size or total != stored or entry.kind != REGULAR:
        raise BadArchive(f"{entry.name!r} is a sparse file whose map does not fit its data")
    entry.segments, entry.size = segments, size
    return stored


def _old_map(source: Source, header: bytes) -> tuple[list[int], int]:
    """The map in the header and the blocks that continue it, and the file's length."""
    numbers = _map_numbers(header[386:482])
    more, size = header[482], _number(header[483:495], "size")
    while more:
        block = source.read(BLOCK)
        if len(block) < BLOCK or len(numbers) > 2 * MAX_SEGMENTS:
            raise BadArchive("the archive ends in the middle of a sparse map, or the map has no end")
        numbers += _map_numbers(block[:504])
        more = block[504]
    return numbers, size


def _map_numbers(field: bytes) -> list[int]:
    numbers = []
    for position in range(0, len(field), 24):
        if not field[position]:
            break
        numbers.append(_number(field[position : position + 12], "offset"))
        numbers.append(_number(field[position + 12 : position + 24], "length"))
    return numbers


def _leading_map(source: Source, stored: int) -> list[int]:
    """The map of GNU's form 1.0: decimal numbers, a line each, in whole blocks before the data."""
    data = b""
    wanted = 1  # lines; the first says how many pairs follow
    while data.count(b"\n") < wanted:
        block = source.read(BLOCK)
        if len(block) < BLOCK or len(data) + BLOCK > min(stored, 40 * MAX_SEGMENTS):
            raise BadArchive("the archive ends in the middle of a sparse map, or the map is too long")
        data += block
        if wanted == 1 and b"\n" in data:
            wanted = 1 + 2 * _integer(data.partition(b"\n")[0].decode("latin-1"), "sparse map")
    return [_integer(line.decode("latin-1"), "sparse map") for line in data.split(b"\n")[1:wanted]]


def _extension(source: Source, size: int, what: str) -> bytes:
    if size > MAX_EXTENSION:
        raise BadArchive(f"a {what} header of {size} bytes, more than {MAX_EXTENSION}")
    data = source.read(size)
    if len(data) < size:
        raise BadArchive(f"the archive ends in the middle of a {what} header")
    source.skip_to(source.position + -size % BLOCK)
    return data


def _pax(data: bytes) -> list[tuple[str, str]]:
    """Records of the form `length key=value\\n`, in their order: a sparse map repeats its keys."""
    fields = []
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + 12)
        digits = data[position:space]
        if space < 0 or not digits.isdigit():
            raise BadArchive("a PAX header that is not made of records")
        end = position + int(digits)
        if end > len(data) or end <= space or data[end - 1] != 10:
            raise BadArchive("a PAX record with a wrong length")
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not equals:
            raise BadArchive("a PAX record without '='")
        fields.append((key.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape")))
        position = end
    return fields


def _verify_checksum(header: bytes) -> None:
    stated = _number(header[148:156], "checksum")
    blanked = header[:148] + b" " * 8 + header[156:]
    signed = sum(byte - 256 if byte > 127 else byte for byte in blanked) if max(blanked) > 127 else sum(blanked)
    if stated not in (sum(blanked), signed):
        raise BadArchive("a header with a wrong checksum: this is no tar archive, or a damaged one")


def _number(field: bytes, what: str, *, signed: bool = False) -> int:
    """Octal digits, or GNU's base 256; negative only where `signed` says so."""
    if field[0] & 0x80:
        if field[0] & 0x40:
            if signed and field[0] == 0xFF:
                return int.from_bytes(field, "big", signed=True)
            raise BadArchive(f"a negative {what}")
        return int.from_bytes(bytes((field[0] & 0x7F,)) + field[1:], "big")
    digits = field.split(b"\0", 1)[0].strip(b" ")
    if not digits:
        return 0
    if not set(digits) <= set(b"01234567"):
        raise BadArchive(f"a {what} that is not octal: {digits!r}")
    return int(digits, 8)


def _integer(text: str, what: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 19:
        raise BadArchive(f"a PAX {what} that is no number: {text[:40]!r}")
    return int(text)


def _time(text: str) -> int:
    whole, _, fraction = text.partition(".")
    digits = whole.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 12 or (fraction and not fraction.isdigit()):
        raise BadArchive(f"a PAX time that is no number: {text[:40]!r}")
    nanoseconds = int(digits) * 1_000_000_000 + int((fraction + "000000000")[:9])
    return -nanoseconds if whole.startswith("-") else nanoseconds


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def header(entry: Entry) -> bytes:
    """The blocks that stand before a member's content: a PAX header where ustar has no room, then ustar.

    Times are written in whole seconds, as every builder does, so that equal trees give equal archives.
    """
    name = entry.name.encode("utf-8", "surrogateescape")
    link = entry.link.encode("utf-8", "surrogateescape")
    seconds = entry.mtime // 1_000_000_000
    pax: dict[str, bytes] = {f"SCHILY.xattr.{key}": value for key, value in entry.xattrs.items()}
    if len(name) > 100 or not name.isascii():
        pax["path"] = name
    if len(link) > 100 or not link.isascii():
        pax["linkpath"] = link
    if entry.size >= 1 << 33:
        pax["size"] = b"%d" % entry.size
    if entry.uid >= 1 << 21:
        pax["uid"] = b"%d" % entry.uid
    if entry.gid >= 1 << 21:
        pax["gid"] = b"%d" % entry.gid
    if not 0 <= seconds < 1 << 33:
        pax["mtime"] = b"%d" % seconds
    block = _ustar(entry, name, link, seconds)
    if not pax:
        return block
    body = b"".join(_pax_record(key, pax[key]) for key in sorted(pax))
    extension = Entry("", "x")
    extension.size = len(body)
    return _ustar(extension, b"PaxHeaders/" + name[-80:], b"", 0) + body + bytes(-len(body) % BLOCK) + block


def _pax_record(key: str, value: bytes) -> bytes:
    payload = b" " + key.encode() + b"=" + value + b"\n"
    length = len(payload)
    while length != len(payload) + len(str(length)):
        length = len(payload) + len(str(length))
    return str(length).encode() + payload


def _ustar(entry: Entry, name: bytes, link: bytes, seconds: int) -> bytes:
    block = b"%s%07o\0%07o\0%07o\0%011o\0%011o\0        %s%sustar\x0000%s%07o\0%07o\0%s" % (
        name[:100].ljust(100, b"\0"),
        entry.mode,
        entry.uid if entry.uid < 1 << 21 else 0,
        entry.gid if entry.gid < 1 << 21 else 0,
        entry.size if entry.size < 1 << 33 else 0,
        seconds if 0 <= seconds < 1 << 33 else 0,
        entry.kind.encode(),
        link[:100].ljust(100, b"\0"),
        bytes(64),
        entry.major,
        entry.minor,
        bytes(167),
    )
    return b"%s%06o\0 %s" % (block[:148], sum(block), block[156:])
