"""What a command is given: the state folder and the streams."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.engine.containers import Engine
    from specrun.engine.existing import Existing
    from specrun.paths import Root


class Context:
    """The global options, and how a command prints."""

    __slots__ = ("debug", "root_path")

    def __init__(self, root_path: str | None, debug: bool) -> None:
        self.root_path = root_path
        self.debug = debug

    def root(self) -> Root:
        """The state folder, made on first use."""
        from specrun.paths import open_root

        return open_root(self.root_path)

    def existing(self) -> Existing:
        """The containers that there are, for verbs that make and start none: it loads little."""
        from specrun.engine.existing import Existing

        return Existing(self.root())

    def engine(self) -> Engine:
        """The engine over the state folder."""
        from specrun.engine.containers import Engine

        return Engine(self.root())

    def out(self, text: str) -> None:
        """Write to standard output; names of undecodable bytes come out as those bytes."""
        self.write(1, text.encode("utf-8", "surrogateescape"))

    def err(self, text: str) -> None:
        """Write to standard error."""
        self.write(2, text.encode("utf-8", "surrogateescape"))

    def write(self, descriptor: int, data: bytes) -> None:
        """Write all of `data`, past Python's buffers."""
        (sys.stdout if descriptor == 1 else sys.stderr).flush()
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
