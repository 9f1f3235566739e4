"""The record of an unpacked layer, layers/<diff-id>/committed: what it is, and how long one may rely on its files.

The files of a new layer are not forced to the disk, which would wait for all that the host has written. Its blob is,
and from that they can be made again. So the record names the boot in which they were made: in a later one the layer is
unpacked once more, and then its files are forced to the disk and the record names none.
"""

from __future__ import annotations

import os

from specrun.files import write_atomic

_BOOT_ID = "/proc/sys/kernel/random/boot_id"


def boot_id() -> str:
    """The id of this boot of the host (random(4))."""
    with open(_BOOT_ID, encoding="ascii") as file:
        return file.read().strip()


def content_size(layer: str) -> int:
    """The bytes of all regular files of the layer that the folder `layer` holds; -1 where it is not to be relied on."""
    words = _read(layer)
    if not words or len(words) > 3 and words[3] != boot_id():
        return -1
    return int(words[2]) if len(words) > 2 and words[2].isdigit() else 0


def is_stale(layer: str) -> bool:
    """Whether it was unpacked in an earlier boot, and perhaps never got to the disk."""
    words = _read(layer)
    return len(words) > 3 and words[3] != boot_id()


def exists(layer: str) -> bool:
    """Whether the layer was unpacked, whenever."""
    return os.path.exists(f"{layer}/committed")


def write(layer: str, diff_id: str, members: int, size: int, *, flushed: bool) -> None:
    """Record that the folder holds the whole layer; `flushed` when all of it is on the disk."""
    boot = "" if flushed else f" {boot_id()}"
    write_atomic(f"{layer}/committed", f"{diff_id} {members} {size}{boot}\n".encode())


def _read(layer: str) -> list[str]:
    try:
        with open(f"{layer}/committed", encoding="ascii") as file:
            return file.read().split()
    except FileNotFoundError:
        return []
