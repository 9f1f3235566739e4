"""Base images for scenarios: assembled once, shared by all of them and by all workers."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

ALIASES = {"library/python:3": "python:3", "python": "python:3", "registry": "registry:2"}
"""What the workshop calls an image -> what it is assembled as."""


class Bases:
    """A state folder with the base images that were asked for so far, and what else lasts as long as the run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.root = folder / "root"
        self.environment = {**os.environ, "SPECRUN_ROOT": str(self.root), "SPECRUN_RUN": str(folder / "run")}
        self._kept: dict[str, Any] = {}
        self._closing = ExitStack()

    def keep(self, name: str, make: Callable[[], AbstractContextManager[T]]) -> T:
        """What `make` made when this worker first asked for `name`; it ends with the run."""
        if name not in self._kept:
            self._kept[name] = self._closing.enter_context(make())
        kept: T = self._kept[name]
        return kept

    def close(self) -> None:
        """End what was kept."""
        self._closing.close()

    def give(self, name: str, root: Path) -> None:
        """Have the image in the state folder `root` too. Raises AssertionError when it cannot be assembled."""
        from specrun.paths import open_root
        from specrun.store.adopt import adopt

        wanted = self.prepare(name)
        adopt(open_root(str(self.root)), open_root(str(root)), wanted)

    def archive(self, name: str) -> Path:
        """The image as a file that other engines load."""
        wanted = self.prepare(name)
        path = self.folder / f"{wanted.replace('/', '_').replace(':', '_')}.tar"
        with self.alone(path.name):
            if not path.exists():
                draft = path.with_suffix(".draft")
                self._specrun("save", "-o", str(draft), wanted)
                draft.rename(path)
        return path

    def prepare(self, name: str) -> str:
        """Assemble the image unless it is there; gives its own name."""
        wanted = ALIASES.get(name, name)
        wanted = wanted if ":" in wanted else f"{wanted}:latest"
        note = self.folder / f"has-{wanted.replace('/', '_')}"
        with self.alone(note.name):
            if not note.exists():
                self._specrun("image", "assemble", wanted.removesuffix(":latest"))
                self._specrun("run", "--rm", "--network", "none", "--entrypoint", "", wanted, "true", check=False)
                note.write_text(wanted)
        return wanted

    def names(self) -> list[str]:
        """The base images that are there."""
        return sorted(note.read_text() for note in self.folder.glob("has-*") if note.suffix != ".lock")

    def _specrun(self, *words: str, check: bool = True) -> None:
        from specrun.bdd.engines import own_command

        done = subprocess.run(
            [*own_command(), *words], env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        if check and done.returncode:
            raise AssertionError(f"specrun {' '.join(words)}: {done.stderr.decode('utf-8', 'replace')}")

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Be the only one, of all workers, who does what `name` stands for."""
        with open(self.folder / f"{name}.lock", "w", encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
