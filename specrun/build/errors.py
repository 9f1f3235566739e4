"""What can be wrong with a Dockerfile or a build, always with its place."""

from __future__ import annotations

from specrun.errors import Place, SpecrunError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.build.parser import Node


class DockerfileError(SpecrunError):
    """A Dockerfile that cannot be read."""

    code = "dockerfile"

    def __init__(self, message: str, *, node: Node | None = None, word: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint, place=place_of(node, word) if node else None)


class BuildFailed(SpecrunError):
    """A step of a build that did not work."""

    code = "build-failed"

    def __init__(
        self, message: str, *, node: Node | None = None, word: str = "", hint: str = "", exit_status: int = 1
    ) -> None:
        super().__init__(message, hint=hint, place=place_of(node, word) if node else None)
        self.exit_status = exit_status


def place_of(node: Node, word: str = "") -> Place:
    """Where the instruction stands, or the `word` of it."""
    source = node.source.rstrip()
    column = source.find(word) + 1 if word and word in source else len(source) - len(source.lstrip()) + 1
    width = len(word) if word and word in source else max(1, len(source) - column + 1)
    return Place(node.file, node.line, column, source, width)
