"""Values that carry their places along while they are merged: services that come from several files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from specrun.spec.yamltext import MAX_NODES, Document, Mark, Path, Source


@dataclass(frozen=True)
class Node:
    """A value of a Compose file: a scalar, a list of nodes, or a mapping of texts to nodes."""

    mark: Mark
    value: Any
    key: Mark | None = None
    """Where the key stands that it is the value of."""
    reset: frozenset[str] = frozenset()
    """What the mapping takes away from the one that it is laid over."""
    overriding: bool = False
    """Whether it stands in the place of what it is laid over."""

    @property
    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, dict):
            return {name: node.plain for name, node in self.value.items()}
        return [node.plain for node in self.value] if isinstance(self.value, list) else self.value

    def but(self, value: Any) -> Node:
        """Another value at its place."""
        return replace(self, value=value)


def tree(document: Document, value: Any = None, path: Path = ()) -> Node:
    """What stands at a path of a document, `value`."""
    value = document.value if not path else value
    found = value
    if isinstance(value, dict):
        found = {name: tree(document, one, (*path, name)) for name, one in value.items()}
    elif isinstance(value, list):
        found = [tree(document, one, (*path, index)) for index, one in enumerate(value)]
    reset = frozenset(str(at[-1]) for at in document.reset if at[:-1] == path) if document.reset else frozenset()
    return Node(document.values[path], found, document.keys.get(path), reset, path in document.overriding)


class TooLarge(ValueError):
    """Merging has made more of a file than may be."""


def document_of(source: Source, root: Node) -> Document:
    """The document that a tree comes to. Raises TooLarge."""
    document = Document(source, root.plain)
    rest: list[tuple[Path, Node]] = [((), root)]
    while rest:
        path, node = rest.pop()
        document.values[path] = node.mark
        if node.key is not None:
            document.keys[path] = node.key
        if isinstance(node.value, dict):
            rest += [((*path, name), one) for name, one in node.value.items()]
        elif isinstance(node.value, list):
            rest += [((*path, index), one) for index, one in enumerate(node.value)]
        if len(document.values) + len(rest) > MAX_NODES:
            raise TooLarge
    return document
