"""Where the workshop's own files are: beside the package in an installation, in the checkout otherwise."""

from __future__ import annotations

from pathlib import Path

import specrun

_PACKAGE = Path(specrun.__file__).parent


def features() -> Path:
    """The folder of the workshop's features."""
    return _first(_PACKAGE / "workshop" / "features", _PACKAGE.parent / "features" / "workshop")


def files() -> Path:
    """The folder of the workshop's specs, with `docker/` that its command lines build from."""
    return _first(_PACKAGE / "workshop" / "specs", _PACKAGE.parent / "specs" / "workshop")


def _first(*candidates: Path) -> Path:
    for path in candidates:
        if path.is_dir():
            return path
    raise FileNotFoundError(f"the workshop's files are missing: {candidates[0]}")
