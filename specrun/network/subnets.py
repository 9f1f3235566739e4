"""Subnets as values, without `ipaddress`, which takes as long to import as a network takes to be joined."""

from __future__ import annotations

import _socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def is_address(text: str) -> bool:
    """Whether `text` is an IPv4 or IPv6 address."""
    return parse(text) is not None


def parse(text: str) -> tuple[int, int] | None:
    """The width in bits and the number of an address; None for anything else."""
    family, width = (_socket.AF_INET6, 128) if ":" in text else (_socket.AF_INET, 32)
    try:
        return width, int.from_bytes(_socket.inet_pton(family, text), "big")
    except (OSError, ValueError):
        return None


def show(width: int, value: int) -> str:
    """The text of an address, as everybody writes it."""
    family = _socket.AF_INET if width == 32 else _socket.AF_INET6
    return _socket.inet_ntop(family, value.to_bytes(width // 8, "big"))


def packed(address: str) -> bytes:
    """The bytes of an address."""
    return _socket.inet_pton(_socket.AF_INET6 if ":" in address else _socket.AF_INET, address)


class Subnet:
    """A range of addresses: `first` is the network's own, `prefix` the number of bits that all share."""

    __slots__ = ("first", "prefix", "width")

    def __init__(self, width: int, first: int, prefix: int) -> None:
        self.width = width
        self.prefix = prefix
        self.first = first & ~self._mask()

    def _mask(self) -> int:
        return int((1 << self.width - self.prefix) - 1)

    @classmethod
    def parse(cls, text: str) -> Subnet:
        """From `address/prefix`. Raises ValueError."""
        address, slash, digits = text.partition("/")
        found = parse(address)
        if found is None or not slash or not (digits.isascii() and digits.isdigit()) or int(digits) > found[0]:
            raise ValueError(f"not a subnet: {text}")
        return cls(found[0], found[1], int(digits))

    def __str__(self) -> str:
        return f"{show(self.width, self.first)}/{self.prefix}"

    @property
    def last(self) -> int:
        """The last address: of IPv4, the broadcast address."""
        return self.first | self._mask()

    def holds(self, address: str) -> bool:
        """Whether the address is one of this subnet's."""
        found = parse(address)
        return found is not None and found[0] == self.width and self.first <= found[1] <= self.last

    def contains(self, other: Subnet) -> bool:
        """Whether all of `other` is in this one."""
        return self.width == other.width and self.first <= other.first and other.last <= self.last

    def overlaps(self, other: Subnet) -> bool:
        """Whether any address is in both."""
        return self.width == other.width and self.first <= other.last and other.first <= self.last

    def hosts(self) -> Iterator[str]:
        """The addresses that hosts may have, the least first."""
        ending = self.last - 1 if self.width == 32 and self.prefix < 31 else self.last
        value = self.first + 1 if self.prefix < self.width - 1 else self.first
        while value <= ending:
            yield show(self.width, value)
            value += 1

    def usable(self, address: str) -> bool:
        """Whether a host may have the address: not the network's own and not the broadcast address."""
        found = parse(address)
        if found is None or not self.holds(address):
            return False
        return self.prefix >= self.width - 1 or (
            found[1] != self.first and not (self.width == 32 and found[1] == self.last)
        )


def default_pools() -> Iterator[Subnet]:
    """Where Docker looks for a free subnet, in its order."""
    for second in range(17, 32):
        yield Subnet(32, 172 << 24 | second << 16, 16)
    for third in range(0, 256, 16):
        yield Subnet(32, 192 << 24 | 168 << 16 | third << 8, 20)
