"""What can be raised. Every failure names the system call and its subject."""

from __future__ import annotations

import os


class IsolationError(OSError):
    """A system call that failed: `syscall` is its name, `filename` the subject it was given."""

    syscall: str = ""

    @classmethod
    def of(cls, number: int, syscall: str, subject: str | None = None) -> IsolationError:
        """The error for errno `number` of `syscall` on `subject`; ENOENT and the like by their own classes too."""
        error = _BY_NUMBER.get(number, cls)(number, os.strerror(number), subject)
        error.syscall = syscall
        return error

    def __str__(self) -> str:
        what = f"{self.syscall} {self.filename}" if self.filename else self.syscall
        return f"{what}: {self.strerror}"


class _Missing(IsolationError, FileNotFoundError):
    """ENOENT."""


class _NotFolder(IsolationError, NotADirectoryError):
    """ENOTDIR."""


class _Exists(IsolationError, FileExistsError):
    """EEXIST."""


_BY_NUMBER: dict[int, type[IsolationError]] = {2: _Missing, 17: _Exists, 20: _NotFolder}


class SpecError(ValueError):
    """A runtime configuration (config.json) that does not say what the specification asks for.

    `field` is the path of the field, for example `linux.namespaces[2].type`.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class Unsupported(SpecError):
    """A field of the specification that this runtime does not implement; refused, never ignored."""


class Refused(OSError):
    """Something about the container's own files that must not be used, for example a mask on a symbolic link."""

    def __init__(self, number: int, message: str, subject: str) -> None:
        super().__init__(number, message, subject)


FIND_CONTAINER = "find the container"
"""The step at which it turns out that a container to be joined does not run, or not any more."""


class StartFailed(Exception):
    """The container's command never ran: `step` says where set-up stopped, `status` is the exit status to give."""

    def __init__(self, step: str, message: str, number: int = 0, status: int = 125) -> None:
        super().__init__(message)
        self.step = step
        self.message = message
        self.number = number
        self.status = status
