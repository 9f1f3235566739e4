"""The build cache: a record for each finished step, found by a key of everything that decides its result.

A key is made from the key of the step before, the instruction with its variables replaced, and the digests of what
it reads. Nothing that an image says about itself (its history, its labels) is part of a key or finds a record, so an
image from elsewhere cannot pretend to be the result of a step (CVE-2024-24557).
"""

from __future__ import annotations

import json
import os

from specrun.build.layering import LayerStore, document_of
from specrun.errors import SpecrunError
from specrun.files import write_atomic
from specrun.oci import digest as digests
from specrun.store.layers import Layer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

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
        return digests.of(json.dumps(document, separators=(",", ":")).encode("utf-8", "surrogateescape"))[7:]

    def document(self) -> dict[str, Any]:
        """For `--explain` of a later build."""
        parts = {name: lines[:_KEPT] for name, lines in self.parts.items()}
        return {"parent": self.parent, "instruction": self.instruction, "parts": parts}


class Record:
    """A finished step: when it was made, and its layer or None."""

    __slots__ = ("created", "layer")

    def __init__(self, created: str, layer: Layer | None) -> None:
        self.created = created
        self.layer = layer


class Cache:
    """The records of one root, and those of folders that `--cache-from` names."""

    def __init__(self, root: Root, store: LayerStore, imports: list[str] | None = None) -> None:
        self.folder = f"{root.path}/build/steps"
        self.store = store
        self.imports = imports or []

    def find(self, key: str) -> Record | None:
        """The step's record if all that it speaks of is there and whole."""
        record = _load(f"{self.folder}/{key}.json")
        if record is not None and (record.layer is None or self.store.has(record.layer)):
            return record
        for folder in self.imports:
            if (found := self._take(folder, key)) is not None:
                return found
        return None

    def save(self, key: str, record: Record) -> None:
        """Remember a finished step; its layer is in the store already."""
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        layer = document_of(record.layer) if record.layer else None
        write_atomic(f"{self.folder}/{key}.json", json.dumps({"created": record.created, "layer": layer}).encode())

    def export(self, folder: str, keys: list[str]) -> None:
        """Write the records and layers of these steps into a folder that `--cache-from` can name."""
        os.makedirs(f"{folder}/steps", exist_ok=True)
        os.makedirs(f"{folder}/blobs", exist_ok=True)
        for key in keys:
            record = self.find(key)
            if record is None:
                continue
            if record.layer:
                target = f"{folder}/blobs/{digests.hex_of(record.layer.digest)}"
                if not os.path.exists(target):
                    _copy(self.store.blobs.path(record.layer.digest), target)
            layer = document_of(record.layer) if record.layer else None
            write_atomic(
                f"{folder}/steps/{key}.json",
                json.dumps({"created": record.created, "layer": layer}).encode(),
                mode=0o644,
            )

    def _take(self, folder: str, key: str) -> Record | None:
        """A record of an exported cache, with its layer brought into the store and proven to be what it says."""
        from specrun.store.layers import unpack_layer

        record = _load(f"{folder}/steps/{key}.json")
        if record is None:
            return None
        if record.layer and not self.store.has(record.layer):
            blob = f"{folder}/blobs/{digests.hex_of(record.layer.digest)}"
            try:
                with open(blob, "rb") as file:
                    digest, _ = self.store.blobs.put_stream(iter(lambda: file.read(1 << 20), b""))
            except FileNotFoundError:
                return None
            if digest != record.layer.digest:
                raise SpecrunError(f"the cache {folder} is damaged: {blob} is not what its name says")
            unpack_layer(self.store.root, self.store.blobs, digest, record.layer.diff_id)
        self.save(key, record)
        return record


def _load(path: str) -> Record | None:
    try:
        with open(path, "rb") as file:
            document = json.load(file)
        layer = Layer(**document["layer"]) if document["layer"] else None
        if layer and not (digests.is_digest(layer.digest) and digests.is_digest(layer.diff_id)):
            return None
        return Record(str(document["created"]), layer)
    except (OSError, ValueError, KeyError, TypeError):
        return None  # a record that cannot be read is a step that was not made


def _copy(source: str, target: str) -> None:
    draft = f"{target}.{os.urandom(4).hex()}"
    with open(source, "rb") as reader, open(draft, "xb") as writer:
        while data := reader.read(1 << 20):
            writer.write(data)
        writer.flush()
        os.fsync(writer.fileno())
    os.rename(draft, target)


class Explainer:
    """Says for each step why it was found or not, by what the last build of the same Dockerfile saw there."""

    def __init__(self, root: Root, name: str) -> None:
        self.path = f"{root.path}/build/last/{digests.of(name.encode())[7:]}.json"
        self.seen: dict[str, dict[str, Any]] = {}
        try:
            with open(self.path, "rb") as file:
                self.before: dict[str, dict[str, Any]] = json.load(file)
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

    def save(self) -> None:
        """Remember what this build saw."""
        os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
        write_atomic(self.path, json.dumps({**self.before, **self.seen}).encode(), durable=False)


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
