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

REGULAR, LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, FOLDER, FIFO = "0", "1", "2", "3", "4", "5", "6"


class BadArchive(SpecrunError):
    """The archive breaks its format, or one of our limits."""

    code = "bad-archive"


class Entry:
    """One member: `kind` is the type flag; sizes are bytes, `mtime` nanoseconds since 1970."""

    __slots__ = ("gid", "kind", "link", "major", "minor", "mode", "mtime", "name", "size", "uid", "xattrs")

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


class Source:
    """A stream of chunks, read by counted bytes."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
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
        return part

    def drain(self) -> None:
        """Read the rest, for the sake of what computes a digest on the way."""
        while self.some(1 << 20):
            pass


def read(source: Source) -> Iterator[Entry]:
    """The members in their order. The content of a regular file must be read from `source` before the next one.

    Raises BadArchive.
    """
    shared: dict[str, str] = {}
    own: dict[str, str] = {}
    long_name = long_link = ""
    for _ in range(MAX_ENTRIES):
        header = source.read(BLOCK)
        if not header or header == bytes(BLOCK):
            return
        if len(header) < BLOCK:
            raise BadArchive("the archive ends in the middle of a header")
        _verify_checksum(header)
        kind = chr(header[156]) if header[156] else REGULAR
        size = _number(header[124:136], "size")
        if kind in "xg":
            fields = _pax(_extension(source, size, "PAX"))
            if kind == "g":
                shared.update(fields)
            else:
                own = fields
            continue
        if kind in "LK":
            text = _extension(source, size, "GNU long name").rstrip(b"\0").decode("utf-8", "surrogateescape")
            if kind == "L":
                long_name = text
            else:
                long_link = text
            continue
        entry = _entry(header, kind, size, long_name, long_link, {**shared, **own})
        own, long_name, long_link = {}, "", ""
        yield entry
    raise BadArchive(f"the archive has more than {MAX_ENTRIES} members")


def skip_padding(source: Source, size: int) -> None:
    """Read what fills the last block of a file of `size` bytes."""
    if size % BLOCK:
        source.read(BLOCK - size % BLOCK)


def _entry(header: bytes, kind: str, size: int, name: str, link: str, pax: dict[str, str]) -> Entry:
    if kind == "7":
        kind = REGULAR
    if kind not in "0123456":
        raise BadArchive(f"members of type {kind!r} (sparse, multi-volume or vendor's) are not supported")
    if not name:
        name = _text(header[0:100])
        if header[257:263] == b"ustar\0" and (prefix := _text(header[345:500])):
            name = f"{prefix}/{name}"
    if any(key.startswith("GNU.sparse.") for key in pax):
        raise BadArchive(f"{name!r} is a sparse member, which is not supported")
    name = pax.get("path", name)
    entry = Entry(name, FOLDER if kind == REGULAR and name.endswith("/") else kind)
    entry.mode = _number(header[100:108], "mode") & 0o7777
    entry.uid = _integer(pax["uid"], "uid") if "uid" in pax else _number(header[108:116], "uid")
    entry.gid = _integer(pax["gid"], "gid") if "gid" in pax else _number(header[116:124], "gid")
    if entry.uid > 0xFFFFFFFE or entry.gid > 0xFFFFFFFE:
        raise BadArchive(f"{name!r} has an owner that no system has")
    entry.size = _integer(pax["size"], "size") if "size" in pax else size
    if entry.kind != REGULAR:
        entry.size = 0
    entry.mtime = _time(pax["mtime"]) if "mtime" in pax else _number(header[136:148], "mtime") * 1_000_000_000
    entry.link = pax.get("linkpath", link or _text(header[157:257]))
    if kind in (CHARACTER, BLOCK_DEVICE):
        entry.major, entry.minor = _number(header[329:337], "major"), _number(header[337:345], "minor")
    for text in (entry.name, entry.link):
        if len(text) > MAX_PATH or "\0" in text:
            raise BadArchive("a name in the archive is longer than 4096 characters or holds a NUL")
    prefix = "SCHILY.xattr."
    entry.xattrs = {
        key[len(prefix) :]: value.encode("utf-8", "surrogateescape")
        for key, value in pax.items()
        if key.startswith(prefix)
    }
    return entry


def _extension(source: Source, size: int, what: str) -> bytes:
    if size > MAX_EXTENSION:
        raise BadArchive(f"a {what} header of {size} bytes, more than {MAX_EXTENSION}")
    data = source.read(size)
    if len(data) < size:
        raise BadArchive(f"the archive ends in the middle of a {what} header")
    skip_padding(source, size)
    return data


def _pax(data: bytes) -> dict[str, str]:
    """Records of the form `length key=value\\n`."""
    fields = {}
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
        fields[key.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
        position = end
    return fields


def _verify_checksum(header: bytes) -> None:
    stated = _number(header[148:156], "checksum")
    blanked = header[:148] + b" " * 8 + header[156:]
    signed = sum(byte - 256 if byte > 127 else byte for byte in blanked) if max(blanked) > 127 else sum(blanked)
    if stated not in (sum(blanked), signed):
        raise BadArchive("a header with a wrong checksum: this is no tar archive, or a damaged one")


def _number(field: bytes, what: str) -> int:
    """Octal digits, or GNU's base 256; never negative."""
    if field[0] & 0x80:
        if field[0] & 0x40:
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
