"""What goes wrong, as facts; `specrun.cli.main` is the one place that turns them into text.

Imported by every command, so it loads nothing but the language itself.
"""

from __future__ import annotations


class Place:
    """A position in something that a person wrote: file, line and column count from 1."""

    __slots__ = ("column", "file", "line", "source", "width")

    def __init__(self, file: str, line: int, column: int, source: str = "", width: int = 1) -> None:
        self.file = file
        self.line = line
        self.column = column
        self.source = source
        """The text of the line, for the excerpt under the message."""
        self.width = width
        """How many columns the caret underlines."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class SpecrunError(Exception):
    """Something that the user can understand and act on.

    `code` is a stable, kebab-case name of the kind of error; `hint` says what to do; `place` says where
    in the user's own files; `exit_status` is what the command exits with.
    """

    code = "error"
    exit_status = 1

    def __init__(self, message: str, *, hint: str = "", place: Place | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.place = place


class Temporary(SpecrunError):
    """Worth another try after `after` seconds."""

    after: float = 1.0


class UsageError(SpecrunError):
    """The command line itself is wrong."""

    code = "usage"
    exit_status = 125


class NotFound(SpecrunError):
    """A name or id that stands for nothing."""

    code = "not-found"


class Conflict(SpecrunError):
    """A name that is taken, or an operation that the state of the thing forbids."""

    code = "conflict"


class InvalidName(SpecrunError):
    """A name or id outside `[a-zA-Z0-9][a-zA-Z0-9_.-]*`."""

    code = "invalid-name"


class HostUnfit(SpecrunError):
    """The host lacks a privilege or a kernel feature that was asked for."""

    code = "host-unfit"


class Damaged(SpecrunError):
    """Something in the state folder is not what its name or digest says."""

    code = "damaged"
