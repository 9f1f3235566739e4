"""Overlays: one document laid over another by strategic merge, every value keeping the place it came from.

Mappings are merged key by key, and null takes a key away. Lists whose items have an identity are merged item by
item; other lists are replaced. `$patch: replace` replaces a mapping, and `$patch: delete` takes an item or a whole
document away.
"""

from __future__ import annotations

from typing import Any

from specrun.spec.problems import Problem, SpecProblems
from specrun.spec.yamltext import Document, Path

IDENTITIES: dict[str, tuple[str, ...]] = {
    "volumes": ("target",),
    "secrets": ("source", "target"),
    "configs": ("source", "target"),
    "networks": ("name",),
    "ports": ("containerPort", "protocol"),
    "devices": ("target",),
    "waivers": ("rule",),
    "dependsOn": ("image", "build", "container", "job", "registry", "push", "check"),
}
"""List -> the fields that tell its items apart. An item in a short syntax has no such field, and is told by itself."""

PATCH = "$patch"


class _Gone(Exception):
    """The thing is to be taken away."""


def merge(base: Document, over: Document) -> Document | None:
    """`over` laid on `base`; None when it takes the document away. Raises SpecProblems for a bad `$patch`."""
    merged = Document(base.source)
    try:
        merged.value = _Merger(base, over, merged).both((), (), ())
    except _Gone:
        return None
    return merged


class _Merger:
    def __init__(self, base: Document, over: Document, merged: Document) -> None:
        self.base, self.over, self.merged = base, over, merged

    def both(self, mine: Path, theirs: Path, to: Path) -> Any:
        """Lay what stands at `theirs` in the overlay on what stands at `mine` in the base."""
        old, new = _at(self.base, mine), _at(self.over, theirs)
        if isinstance(new, dict) and PATCH in new:
            word = new[PATCH]
            if word == "delete":
                raise _Gone
            if word != "replace":
                place = self.over.place((*theirs, PATCH))
                raise SpecProblems([Problem(place, f"{word!r} is not a patch", "bad-patch", note="replace or delete")])
            return self.take(self.over, theirs, to)
        if isinstance(old, dict) and isinstance(new, dict):
            return self._mappings(old, new, mine, theirs, to)
        identity = IDENTITIES.get(str(theirs[-1])) if theirs else None
        if isinstance(old, list) and isinstance(new, list) and identity:
            return self._lists(old, new, identity, mine, theirs, to)
        return self.take(self.over, theirs, to)

    def _mappings(self, old: dict[str, Any], new: dict[str, Any], mine: Path, theirs: Path, to: Path) -> dict[str, Any]:
        self._mark(self.base, mine, to)
        result: dict[str, Any] = {}
        for key in [*old, *(key for key in new if key not in old)]:
            if key in new and new[key] is None:
                continue
            source, path = (self.over, theirs) if key in new else (self.base, mine)
            try:
                if key in old and key in new:
                    value = self.both((*mine, key), (*theirs, key), (*to, key))
                else:
                    value = self.take(source, (*path, key), (*to, key))
            except _Gone:
                continue
            result[key] = value
            self.merged.keys[(*to, key)] = source.keys[(*path, key)]
        return result

    def _lists(
        self, old: list[Any], new: list[Any], identity: tuple[str, ...], mine: Path, theirs: Path, to: Path
    ) -> list[Any]:
        self._mark(self.base, mine, to)
        ours = {_identity(item, identity): index for index, item in enumerate(old)}
        laid = {_identity(item, identity): index for index, item in enumerate(new)}
        result: list[Any] = []
        for key in [*ours, *(key for key in laid if key not in ours)]:
            target = (*to, len(result))
            try:
                if key in ours and key in laid:
                    result.append(self.both((*mine, ours[key]), (*theirs, laid[key]), target))
                elif key in laid:
                    result.append(self.take(self.over, (*theirs, laid[key]), target))
                else:
                    result.append(self.take(self.base, (*mine, ours[key]), target))
            except _Gone:
                continue
        return result

    def take(self, source: Document, path: Path, to: Path) -> Any:
        """The value at `path` as it is, with its places."""
        value = _at(source, path)
        self._mark(source, path, to)
        if isinstance(value, dict):
            result = {}
            for key in value:
                if key == PATCH:
                    continue
                self.merged.keys[(*to, key)] = source.keys[(*path, key)]
                result[key] = self.take(source, (*path, key), (*to, key))
            return result
        if isinstance(value, list):
            return [self.take(source, (*path, index), (*to, index)) for index in range(len(value))]
        return value

    def _mark(self, source: Document, path: Path, to: Path) -> None:
        self.merged.values[to] = source.values[path]


def _at(document: Document, path: Path) -> Any:
    value = document.value
    for part in path:
        value = value[part]
    return value


def _identity(item: Any, fields: tuple[str, ...]) -> str:
    if not isinstance(item, dict):
        return repr(item)
    return repr([(name, item[name]) for name in fields if name in item] or sorted(item.items(), key=repr))
