"""The build cache: a record for each finished step, found by a key of everything that decides its result.

A key is made from the key of the step before, the instruction with its variables replaced, and the digests of what
it reads. Nothing that an image says about itself (its history, its labels) is part of a key or finds a record, so an
image from elsewhere cannot pretend to be the result of a step (CVE-2024-24557).
"""

from __future__ import annotations

import os

from specrun.build.exchange import Record, load
from specrun.files import write_atomic
from specrun.oci import digest as digests
from specrun_runtime import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from specrun.build.exchange import Exchange, Place
    from specrun.build.layering import LayerStore
    from specrun.paths import Root

VERSION = 1
_SHOWN = 3
"""How many changed files a reason names."""
_KEPT = 20_000
"""How many files of a step are remembered for `--explain`."""


class Inputs:
    """What decides a step's result, by name, for the key and for saying what changed."""

    def __init__(self, parent: str, instruction: str) -> None:
        self.parent = parent
        self.instruction = instruction
        self.parts: dict[str, list[str]] = {}

    def key(self) -> str:
        """64 hexadecimal digits."""
        document = [VERSION, self.parent, self.instruction, sorted(self.parts.items())]
        return digests.of(jsontext.dumps(document, compact=True).encode("utf-8", "surrogateescape"))[7:]

    def document(self) -> dict[str, Any]:
        """For `--explain` of a later build."""
        parts = {name: lines[:_KEPT] for name, lines in self.parts.items()}
        return {"parent": self.parent, "instruction": self.instruction, "parts": parts}


class Cache:
    """The records of one root, and those of the caches that `--cache-from` names."""

    def __init__(self, root: Root, store: LayerStore, places: list[Place] | None = None) -> None:
        self.folder = f"{root.path}/build/steps"
        self.drafts = ""
        """The folder of the build that is under way: what it has half written goes with it."""
        self.store = store
        self.imports = [(str(place), place.open(store)) for place in places or ()]

    def find(self, key: str) -> Record | None:
        """The step's record if all that it speaks of is there and whole."""
        record = load(f"{self.folder}/{key}.json")
        if record is not None and (record.layer is None or self.store.has(record.layer)):
            return record
        for _, cache in self.imports:
            if (found := cache.find(key)) is not None and self._take(cache, key, found):
                return found
        return None

    def look(self) -> None:
        """Read what has to be read once, before processes are forked that would each do so."""
        for _, cache in self.imports:
            cache.find("")

    def complaints(self) -> list[str]:
        """Why caches are not used that should be; each once."""
        found = []
        for name, cache in self.imports:
            if cache.complaint:
                found.append(f"[Warning] the cache {name} is not used: {cache.complaint}")
                cache.complaint = ""
        return found

    def save(self, key: str, record: Record) -> None:
        """Remember a finished step; its layer is in the store already.

        What a power failure takes is a step that is done again, so nobody waits for the disk here.
        """
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        data = jsontext.dumps(record.document()).encode()
        write_atomic(f"{self.folder}/{key}.json", data, durable=False, drafts=self.drafts)

    def export(self, place: Place, keys: list[str]) -> None:
        """Let the records and layers of these steps be where `--cache-from` can name them. Raises SpecrunError."""
        place.open(self.store).export(self.records(keys))

    def records(self, keys: list[str]) -> dict[str, Record]:
        """Those of these steps that are here."""
        return {key: record for key in keys if (record := self.find(key)) is not None}

    def _take(self, cache: Exchange, key: str, record: Record) -> bool:
        """Bring a record's layer into the store, proven to be what it says; whether it could be had."""
        layer = record.layer
        if layer and not self.store.has(layer):
            from specrun.store.layers import unpack_layer

            if not self.store.blobs.has(layer.digest) and not cache.fetch(layer):
                return False
            layer.content_size = unpack_layer(self.store.root, self.store.blobs, layer.digest, layer.diff_id)
        self.save(key, record)
        return True


class Explainer:
    """Says for each step why it was found or not, by what the last build of the same Dockerfile saw there."""

    def __init__(self, root: Root, name: str) -> None:
        self.path = f"{root.path}/build/last/{digests.of(name.encode())[7:]}.json"
        self.seen: dict[str, dict[str, Any]] = {}
        try:
            with open(self.path, "rb") as file:
                self.before: dict[str, dict[str, Any]] = jsontext.loads(file.read())
        except (OSError, ValueError):
            self.before = {}

    def reason(self, place: str, inputs: Inputs, hit: bool, refused: str = "") -> str:
        """One sentence; `place` is the step's stage and number."""
        self.seen[place] = inputs.document()
        if hit:
            return "cached: nothing that it depends on has changed"
        if refused:
            return f"not cached: {refused}"
        old = self.before.get(place)
        if old is None:
            return "not cached: this step was not built before"
        if old["instruction"] != inputs.instruction:
            return f"not cached: the instruction changed, it was: {old['instruction']}"
        changes = [change for name, lines in inputs.parts.items() for change in _changes(name, old["parts"], lines)]
        if changes:
            more = f" and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
            return f"not cached: {', '.join(changes[:_SHOWN])}{more}"
        if old["parent"] != inputs.parent:
            return "not cached: a step before it, or the base image, changed"
        return "not cached: the layer that it made is no longer in the store"

    def save(self, drafts: str) -> None:
        """Remember what this build saw; `drafts` is its folder."""
        os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
        write_atomic(self.path, jsontext.dumps({**self.before, **self.seen}).encode(), durable=False, drafts=drafts)


def _changes(name: str, old_parts: dict[str, list[str]], lines: list[str]) -> list[str]:
    """What differs between two lists of `subject|...` lines."""
    old = {_subject(line): line for line in old_parts.get(name, [])}
    new = {_subject(line): line for line in lines[:_KEPT]}
    found = []
    for subject in sorted({*old, *new}):
        if old.get(subject) == new.get(subject):
            continue
        state = "changed" if subject in old and subject in new else "is new" if subject in new else "is gone"
        found.append(f"{name} {subject} {state}")
    return found


def _subject(line: str) -> str:
    if "|" in line:
        source, path, *_ = line.split("|")
        return "/".join(part for part in (source, path) if part) or "."
    return line.partition("=")[0]
