"""Classic BPF as the kernel runs it for seccomp(2): what a filter decides on one system call."""

from __future__ import annotations

import struct
from collections.abc import Sequence

X86_64, X86, ARM, AARCH64 = 0xC000003E, 0x40000003, 0x40000028, 0xC00000B7
"""AUDIT_ARCH_*."""

X32 = 0x40000000
"""The bit in the number of an x32 call, whose architecture is X86_64."""

Instruction = tuple[int, int, int, int]

_ACTIONS = {
    0x80000000: "KILL_PROCESS",
    0x00000000: "KILL_THREAD",
    0x00030000: "TRAP",
    0x00050000: "ERRNO",
    0x7FC00000: "NOTIFY",
    0x7FF00000: "TRACE",
    0x7FFC0000: "LOG",
    0x7FFF0000: "ALLOW",
}


class Filter:
    """A program: bytes as the kernel takes them, or instructions as (code, jt, jf, k)."""

    def __init__(self, program: bytes | Sequence[Sequence[int]]) -> None:
        self.instructions: list[Instruction]
        if isinstance(program, bytes):
            assert len(program) % 8 == 0
            self.instructions = list(struct.iter_unpack("<HBBI", program))
        else:
            self.instructions = [(code, jt, jf, k) for code, jt, jf, k in program]

    def decide(self, number: int, *arguments: int, architecture: int = X86_64) -> str:
        """The action for a call, such as "ALLOW" or "ERRNO(1)"; arguments that are not given are 0."""
        result = self._run(number, architecture, arguments)
        name, data = _ACTIONS[result & 0xFFFF0000], result & 0xFFFF
        return f"{name}({data})" if name in ("ERRNO", "TRACE") else name

    def _run(self, number: int, architecture: int, arguments: Sequence[int]) -> int:
        padded = [*arguments, *[0] * (6 - len(arguments))]
        data = struct.unpack("<16I", struct.pack("<IIQ6Q", number, architecture, 0x1000, *padded))
        accumulator = at = 0
        while True:
            code, jt, jf, k = self.instructions[at]
            at += 1
            if code == 0x20:  # ld [k]
                assert k % 4 == 0
                accumulator = data[k // 4]
            elif code == 0x54:  # and #k
                accumulator &= k
            elif code == 0x05:  # ja
                at += k
            elif code == 0x15:  # jeq
                at += jt if accumulator == k else jf
            elif code == 0x25:  # jgt
                at += jt if accumulator > k else jf
            elif code == 0x35:  # jge
                at += jt if accumulator >= k else jf
            elif code == 0x45:  # jset
                at += jt if accumulator & k else jf
            elif code == 0x06:  # ret #k
                return k
            else:
                raise AssertionError(f"instruction {at - 1} has the code {code:#x}, which this does not know")
