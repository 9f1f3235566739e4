"""What a project is called, and which files of a folder are specs; known before anything is read."""

from __future__ import annotations

import os

from specrun.errors import SpecrunError
from specrun.paths import is_name

SUFFIXES = (".yaml", ".yml")


def expand(paths: list[str]) -> list[str]:
    """Folders as the files in them, sorted."""
    files = []
    for path in paths:
        if path != "-" and os.path.isdir(path):
            files += [os.path.join(path, name) for name in sorted(os.listdir(path)) if name.endswith(SUFFIXES)]
        else:
            files.append(path)
    return files


def project_name(paths: list[str], chosen: str) -> str:
    """The name that was chosen, or that of the first file or folder. Raises SpecrunError for no name."""
    if chosen:
        if not is_name(chosen):
            raise SpecrunError(f"{chosen!r} is not the name of a project", hint="letters, digits, '_', '.' and '-'")
        return chosen
    first = "stdin" if not paths or paths[0] == "-" else os.path.basename(os.path.abspath(paths[0]))
    stem = first.rsplit(".", 1)[0] if first.endswith(SUFFIXES) else first
    cleaned = "".join(char if char.isalnum() and char.isascii() or char in "_.-" else "-" for char in stem).lstrip(
        "_.-"
    )
    return cleaned[:128] or "project"
