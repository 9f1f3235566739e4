"""What specs were read from: who finds all of it as it was need not read them again."""

from __future__ import annotations

import hashlib
import os

_MARK = "\ufeff".encode()


class Trace:
    """The files and folders that were looked at, with digests, and whether variables were asked for."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        """Absolute path -> what `digest_of` gave."""
        self.folders: dict[str, list[str]] = {}
        """Absolute path -> the names in it."""
        self.variables = False
        """Whether anything was filled in, so that the environment matters."""
        self.repeatable = True
        """Standard input can be read only once."""

    def read(self, path: str, text: str) -> None:
        """A file was read."""
        if path == "-":
            self.repeatable = False
        else:
            self.files[os.path.abspath(path)] = hashlib.sha256(text.encode()).hexdigest()

    def missed(self, path: str) -> None:
        """A file was looked for, and is not there."""
        self.files[os.path.abspath(path)] = ""

    def listed(self, path: str) -> None:
        """A folder was looked through, if it is one."""
        if os.path.isdir(path):
            self.folders[os.path.abspath(path)] = listing(path)


def digest_of(path: str) -> str:
    """The digest of a text file's content; "" when there is none."""
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read().removeprefix(_MARK)).hexdigest()
    except OSError:
        return ""


def listing(path: str) -> list[str]:
    """The names in a folder, sorted; none when there is none."""
    try:
        return sorted(os.listdir(path))
    except OSError:
        return []
