"""The values of `--chmod`: octal digits, or symbols as chmod(1) has them."""

from __future__ import annotations

import stat

_WHO = {"u": 0o4700, "g": 0o2070, "o": 0o1007, "a": 0o7777}
_SHIFTS = {"u": 6, "g": 3, "o": 0}


class ModeError(ValueError):
    """Text that is no mode."""


class Clause:
    """One `ugoa`, operator and permissions."""

    __slots__ = ("operator", "permissions", "who")

    def __init__(self, who: str, operator: str, permissions: str) -> None:
        self.who = who
        self.operator = operator
        self.permissions = permissions


def parse(text: str) -> int | list[Clause]:
    """The mode, or the clauses that change one. Raises ModeError."""
    if text and all(letter in "01234567" for letter in text):
        mode = int(text, 8)
        if mode > 0o7777:
            raise ModeError("it should be between 0 and 07777")
        return mode
    clauses = []
    for part in text.split(","):
        cut = next((index for index, letter in enumerate(part) if letter in "+-="), -1)
        if cut < 0 or any(letter not in "ugoa" for letter in part[:cut]):
            raise ModeError("it should be octal digits or such as u=rwX,go=rX")
        rest = part[cut:]
        while rest:
            end = next((index for index in range(1, len(rest)) if rest[index] in "+-="), len(rest))
            permissions = rest[1:end]
            if any(letter not in "rwxXst" for letter in permissions) and permissions not in ("u", "g", "o"):
                raise ModeError("it should be octal digits or such as u=rwX,go=rX")
            clauses.append(Clause(part[:cut] or "a", rest[0], permissions))
            rest = rest[end:]
    return clauses


def apply(change: int | list[Clause], mode: int) -> int:
    """The permission bits of a file of `mode` (with its type) after the change."""
    if isinstance(change, int):
        return change
    bits = stat.S_IMODE(mode)
    for clause in change:
        mask = 0
        for who in clause.who:
            mask |= _WHO[who]
        value = _permissions(clause.permissions, bits, mode) & mask
        if clause.operator == "+":
            bits |= value
        elif clause.operator == "-":
            bits &= ~value
        else:
            bits = bits & ~(mask & 0o777 | (mask & 0o7000 if not stat.S_ISDIR(mode) else 0)) | value
    return bits


def _permissions(letters: str, bits: int, mode: int) -> int:
    if letters in _SHIFTS:
        three = bits >> _SHIFTS[letters] & 7
        return three << 6 | three << 3 | three
    value = 0
    for letter in letters:
        if letter == "X":
            value |= 0o111 if stat.S_ISDIR(mode) or bits & 0o111 else 0
        else:
            value |= {"r": 0o444, "w": 0o222, "x": 0o111, "s": 0o6000, "t": 0o1000}[letter]
    return value
