"""The difference between two plain values, field by field."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple


class Operation(StrEnum):
    """What happened to a field."""

    ADD = "add"
    CHANGE = "change"
    REMOVE = "remove"


class Difference(NamedTuple):
    """One field that differs: `field` is its path, `old` and `new` are None where it is absent."""

    operation: Operation
    field: tuple[str | int, ...]
    old: Any
    new: Any
    source: str = ""
    """Where the old value was read: a file of the kernel, a record. Empty for the spec of the last apply."""

    @property
    def dotted(self) -> str:
        """`env.HELLO` or `command[0]`."""
        text = ""
        for part in self.field:
            text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
        return text


def differences(old: Any, new: Any, field: tuple[str | int, ...] = ()) -> list[Difference]:
    """All fields in which `new` differs from `old`; mappings by key, also where one side has none; lists by index."""
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in sorted({*old, *new}):
            if key in old and key in new:
                found += differences(old[key], new[key], (*field, key))
            elif isinstance(old.get(key, new.get(key)), dict) and (old.get(key) or new.get(key)):
                found += differences(old.get(key, {}), new.get(key, {}), (*field, key))
            elif key in old:
                found.append(Difference(Operation.REMOVE, (*field, key), old[key], None))
            else:
                found.append(Difference(Operation.ADD, (*field, key), None, new[key]))
        return found
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [one for index in range(len(new)) for one in differences(old[index], new[index], (*field, index))]
    return [] if old == new else [Difference(Operation.CHANGE, field, old, new)]
