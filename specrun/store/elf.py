"""What a program needs from others: the interpreter and the libraries that an ELF file names."""

from __future__ import annotations

import struct

_INTERPRETER, _DYNAMIC, _LOAD = 3, 2, 1
_NEEDED, _STRING_TABLE = 1, 5


def needs(path: str) -> tuple[str, list[str]]:
    """The interpreter's path and the sonames of the needed libraries; ("", []) for a file that is no 64-bit ELF."""
    with open(path, "rb") as file:
        data = file.read(64)
        if data[:6] != b"\x7fELF\x02\x01":
            return "", []
        data += file.read()
    try:
        return _parse(data)
    except (struct.error, IndexError, ValueError):
        return "", []


def _parse(data: bytes) -> tuple[str, list[str]]:
    table, size, count = struct.unpack_from("<Q", data, 32)[0], *struct.unpack_from("<HH", data, 54)
    segments = []
    for index in range(count):
        kind, _, offset, address, _, length = struct.unpack_from("<IIQQQQ", data, table + index * size)
        segments.append((kind, offset, address, length))
    interpreter, needed, strings = "", [], 0
    for kind, offset, _, length in segments:
        if kind == _INTERPRETER:
            interpreter = data[offset : offset + length].rstrip(b"\0").decode()
        elif kind == _DYNAMIC:
            for position in range(offset, offset + length, 16):
                tag, value = struct.unpack_from("<QQ", data, position)
                if tag == _NEEDED:
                    needed.append(value)
                elif tag == _STRING_TABLE:
                    strings = value
    for kind, offset, address, length in segments:
        if kind == _LOAD and address <= strings < address + length:
            strings = strings - address + offset
            break
    names = [data[strings + value : data.index(b"\0", strings + value)].decode() for value in needed]
    return interpreter, names
