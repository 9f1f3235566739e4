"""What the verbs have in common that start a process or join one: its environment, the terminal, signals, failures."""

from __future__ import annotations

import _signal
import os

from specrun.cli.options import Option
from specrun.errors import SpecrunError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    Started = TypeVar("Started")

DETACH_KEYS = Option(
    "--detach-keys", "value", "Override the key sequence for detaching (default ctrl-p,ctrl-q)", "keys"
)
FORWARDED = [
    number
    for number in _signal.valid_signals()
    if number not in (_signal.SIGCHLD, _signal.SIGPIPE, _signal.SIGURG, _signal.SIGKILL, _signal.SIGSTOP)
    and number < 32
    and number not in (_signal.SIGSEGV, _signal.SIGBUS, _signal.SIGFPE, _signal.SIGILL)
    and number not in (_signal.SIGTSTP, _signal.SIGTTIN, _signal.SIGTTOU, _signal.SIGCONT, _signal.SIGWINCH)
]


def environment(files: list[str], entries: list[str]) -> list[str]:
    """`NAME=value` of each entry; a bare NAME takes this command's own value, and nothing where it has none."""
    result = []
    for path in files:
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                lines = [line.rstrip("\r\n").lstrip() for line in file]
        except OSError as error:
            raise UsageError(f"cannot read the file of environment variables {path}: {error.strerror}") from error
        entries = [*(line for line in lines if line and not line.startswith("#")), *entries]
    for entry in entries:
        name, equals, _ = entry.partition("=")
        if not name:
            raise UsageError(f"invalid environment variable: {entry}", hint="expected NAME=value or NAME")
        if equals:
            result.append(entry)
        elif name in os.environ:
            result.append(f"{name}={os.environ[name]}")
    return result


def require_terminal() -> None:
    """Refuse to type into a container what does not come from a terminal, with Docker's words."""
    if not os.isatty(0):
        error = UsageError("the input device is not a TTY", hint="leave out -t, or -i")
        error.exit_status = 1
        raise error


def window_size() -> tuple[int, int]:
    """Rows and columns of the caller's terminal; zeros when there is none."""
    try:
        columns, rows = os.get_terminal_size(1)
    except OSError:
        return 0, 0
    return rows, columns


def with_output(start: Callable[[int], Started]) -> tuple[Started, int]:
    """What `start` gives, which is told where a container's terminal is to be shown, and where that can be read.

    Raises SpecrunError.
    """
    from specrun_runtime.errors import StartFailed

    output, theirs = os.pipe2(os.O_CLOEXEC)
    try:
        return start(theirs), output
    except BaseException as failure:
        os.close(output)
        if isinstance(failure, StartFailed):
            raise cannot_start(failure) from failure
        raise
    finally:
        os.close(theirs)


def detach_keys(text: str) -> bytes:
    """The keys that leave a container running. Raises UsageError."""
    from specrun_runtime.terminal import parse_detach_keys

    try:
        return parse_detach_keys(text or "ctrl-p,ctrl-q")
    except ValueError as error:
        raise UsageError(f"invalid detach keys ({text}) provided", hint=str(error)) from error


def cannot_start(failure: Exception) -> SpecrunError:
    """A StartFailed as the user should see it."""
    message, status = getattr(failure, "message", str(failure)), getattr(failure, "status", 125)
    step = getattr(failure, "step", "")
    denied = getattr(failure, "number", 0) in (1, 13) and status == 125
    hint = "specrun needs more rights or kernel features here: `specrun doctor` says which" if denied else ""
    error = SpecrunError(message if status != 125 else f"{step}: {message}", hint=hint)
    error.code = "cannot-start"
    error.exit_status = status
    return error
