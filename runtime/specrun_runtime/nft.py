"""Running nft(8): a whole script at once, so that all of it happens or nothing (libnftables commits it as one)."""

from __future__ import annotations

import os

from specrun_runtime.errors import IsolationError
from specrun_runtime.fds import write_all

FOLDERS = ("/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin")


class NftFailed(IsolationError):
    """nft refused a script: `reason` is what it wrote about it."""

    reason = ""

    def __str__(self) -> str:
        return f"nft: {self.reason}"


def program() -> str | None:
    """The path of nft; None when it is not installed."""
    for folder in FOLDERS:
        if os.access(f"{folder}/nft", os.X_OK):
            return f"{folder}/nft"
    return None


class Script:
    """A script that is being executed by a process of its own."""

    __slots__ = ("_errors", "_pid")

    def __init__(self, text: str) -> None:
        """Start it. Raises IsolationError when there is no nft."""
        path = program()
        if path is None:
            raise IsolationError.of(2, "execve", "nft (the package nftables is not installed)")
        source = os.memfd_create("specrun-nft", os.MFD_CLOEXEC)
        self._errors = os.memfd_create("specrun-nft-errors", os.MFD_CLOEXEC)
        try:
            write_all(source, text.encode())
            os.lseek(source, 0, os.SEEK_SET)
            moves = [(source, 0), (self._errors, 1), (self._errors, 2)]
            actions = [(os.POSIX_SPAWN_DUP2, source, target) for source, target in moves]
            self._pid = os.posix_spawn(path, ["nft", "-f", "-"], {"LC_ALL": "C"}, file_actions=actions)
        except OSError:
            os.close(self._errors)
            raise
        finally:
            os.close(source)

    def wait(self) -> None:
        """Wait for its end. Raises NftFailed; then nothing of it was done."""
        try:
            status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
            if status:
                error = NftFailed(22, "refused")
                error.reason = os.pread(self._errors, 2000, 0).decode("utf-8", "replace").strip()
                raise error
        finally:
            os.close(self._errors)


def apply(text: str) -> None:
    """Execute a script. Raises NftFailed, and IsolationError when there is no nft."""
    Script(text).wait()
