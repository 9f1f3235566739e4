"""Locks on files that their holders remove."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from specrun.files import locked


def test_who_has_waited_for_a_file_that_is_gone_locks_the_one_that_is_there(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    held, done = threading.Event(), threading.Event()

    def wait() -> None:
        with locked(path):
            held.set()
            done.wait(10)

    with locked(path):
        thread = threading.Thread(target=wait)
        thread.start()
        assert not held.wait(0.2)
        os.unlink(path)
    assert held.wait(10)
    with pytest.raises(BlockingIOError), locked(path, wait=False):
        pass
    done.set()
    thread.join(10)
    with locked(path, wait=False):
        pass
