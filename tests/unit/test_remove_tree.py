"""Removal of trees that nobody should be able to make."""

from __future__ import annotations

import os
from pathlib import Path

from specrun_runtime.files import remove_tree


def test_a_tree_deeper_than_any_stack_is_removed(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    folder = os.open(top, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=folder)
        os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
        inner = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)
    remove_tree(str(top))
    assert os.listdir(tmp_path) == []
