"""Device rules of a control group: folded into what they come to, and said to version 1 or compiled for version 2.

The rules of `linux.resources.devices` are a history of allowing and denying. Folding them as the devices controller
of version 1 does gives a default and its exceptions; version 2 has no such controller and takes a BPF program
that decides on each open(2) and mknod(2).
"""

from __future__ import annotations

import struct

from specrun_runtime.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_BITS = {"m": 1, "r": 2, "w": 4}
"""BPF_DEVCG_ACC_*."""
_TYPES = {"b": 1, "c": 2}
"""BPF_DEVCG_DEV_*."""
ANY = -1

DEFAULT = (
    *({"allow": True, "type": kind, "access": "m"} for kind in "cb"),
    *(
        {"allow": True, "type": "c", "major": major, "minor": minor, "access": "rwm"}
        for major, minor in ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2))
    ),
    {"allow": True, "type": "c", "major": 136, "access": "rwm"},
)
"""What every container may use, whatever its rules: the devices that the specification has the runtime supply."""


class Policy:
    """The outcome of a list of rules: what is done with a device that no exception names, and the exceptions."""

    __slots__ = ("exceptions", "open")

    def __init__(self) -> None:
        self.open = False
        """Whether everything is allowed but the exceptions."""
        self.exceptions: dict[tuple[str, int, int], int] = {}

    @classmethod
    def fold(cls, rules: list[dict[str, Any]], field: str = "linux.resources.devices") -> Policy:
        """From nothing allowed, through `rules`, to the default devices. Raises SpecError."""
        policy = cls()
        for index, rule in enumerate(rules):
            policy._apply(rule, f"{field}[{index}]")
        for rule in DEFAULT:
            policy._apply(rule, field)
        return policy

    def _apply(self, rule: dict[str, Any], field: str) -> None:
        kind = rule.get("type") or "a"
        if kind not in ("a", "b", "c", "u"):
            raise SpecError(f"{field}.type", f"found {kind!r}, expected a, b, c or u")
        access = _access(rule.get("access") or "rwm", field)
        major, minor = (_wild(rule.get(part)) for part in ("major", "minor"))
        if kind == "a" and major == minor == ANY and access == 7:
            self.open = bool(rule["allow"])
            self.exceptions.clear()
            return
        for exact in ("b", "c") if kind == "a" else ("c" if kind == "u" else kind,):
            key = (exact, major, minor)
            bits = self.exceptions.get(key, 0)
            bits = bits & ~access if bool(rule["allow"]) == self.open else bits | access
            if bits:
                self.exceptions[key] = bits
            else:
                self.exceptions.pop(key, None)

    def lines(self) -> list[tuple[str, str]]:
        """For version 1: file and line, in the order to be written."""
        first, then = ("devices.allow", "devices.deny") if self.open else ("devices.deny", "devices.allow")
        written = [(first, "a")]
        for (kind, major, minor), bits in self.exceptions.items():
            written.append((then, f"{kind} {_star(major)}:{_star(minor)} {_letters(bits)}"))
        return written

    def program(self) -> bytes:
        """For version 2: a BPF_PROG_TYPE_CGROUP_DEVICE program (bpf(2)), which gives 1 to allow and 0 to deny."""
        code = [
            _instruction(0x61, 2, 1, 0, 0),  # r2 = access and type
            _instruction(0xBC, 3, 2),  # r3 = r2
            _instruction(0x54, 2, 0, 0, 0xFFFF),  # r2 = type
            _instruction(0x74, 3, 0, 0, 16),  # r3 = access
            _instruction(0x61, 4, 1, 4),  # r4 = major
            _instruction(0x61, 5, 1, 8),  # r5 = minor
        ]
        for (kind, major, minor), bits in self.exceptions.items():
            code += self._exception(_TYPES[kind], major, minor, bits)
        return b"".join([*code, *_verdict(self.open)])

    def _exception(self, kind: int, major: int, minor: int, bits: int) -> list[bytes]:
        tests: list[tuple[int, int, int, int]] = [(0x55, 2, 0, kind)]  # jump away if r2 != kind
        before: list[bytes] = []
        if bits != 7:
            before = [_instruction(0xBC, 1, 3), _instruction(0x54, 1, 0, 0, bits)]  # r1 = access & bits
            # Denied are accesses that overlap, allowed are those that are contained.
            tests.append((0x15, 1, 0, 0) if self.open else (0x5D, 1, 3, 0))
        tests += [(0x55, register, 0, number) for register, number in ((4, major), (5, minor)) if number != ANY]
        verdict = _verdict(not self.open)
        left = len(tests) + len(verdict)
        code = list(before)
        for operation, register, source, value in tests:
            left -= 1
            code.append(_instruction(operation, register, source, left, value))
        if before:  # the first test skips the computation too
            first = code.pop(len(before))
            skip = struct.unpack_from("<h", first, 2)[0] + len(before)
            code.insert(0, first[:2] + struct.pack("<h", skip) + first[4:])
        return code + verdict


def _verdict(allowed: bool) -> list[bytes]:
    return [_instruction(0xB4, 0, 0, 0, int(allowed)), _instruction(0x95)]  # r0 = ...; exit


def _instruction(code: int, target: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("<BBhi", code, target | source << 4, offset, value)


def _access(letters: str, field: str) -> int:
    if not set(letters) <= set(_BITS):
        raise SpecError(f"{field}.access", f"found {letters!r}, expected some of r, w and m")
    return sum(_BITS[letter] for letter in set(letters))


def _letters(bits: int) -> str:
    return "".join(letter for letter in "rwm" if bits & _BITS[letter])


def _wild(number: int | None) -> int:
    return ANY if number is None or number < 0 else number


def _star(number: int) -> str:
    return "*" if number == ANY else str(number)
