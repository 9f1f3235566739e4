"""What transfers that did not come to their end have left, to be gone on with: kept for a week."""

from __future__ import annotations

import fcntl
import os
import time

WEEK = 7 * 24 * 3600.0


def forget_old(folder: str, age: float = WEEK) -> None:
    """Make the folder; remove what rests in it for longer than `age` seconds and is locked by nobody."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    limit = time.time() - age
    for name in os.listdir(folder):
        try:
            with open(f"{folder}/{name}", "rb") as file:
                if os.fstat(file.fileno()).st_mtime < limit:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(f"{folder}/{name}")
        except OSError:
            continue  # in use, or gone
