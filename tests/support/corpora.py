"""What reference implementations answer, kept in a folder `shared/corpora` beside the checkout or above it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


def shared(name: str) -> Path:
    """The file or folder `name` of the nearest `shared`; the test is skipped where there is none."""
    for folder in Path(__file__).parents:
        path = folder / "shared" / name
        if path.exists():
            return path
    pytest.skip(f"{name} is not beside this checkout")


def cases(name: str) -> list[dict[str, Any]]:
    """The cases of one corpus."""
    found: list[dict[str, Any]] = json.loads(shared(f"corpora/{name}.json").read_text())
    return found
