"""What a build tells while it goes on, in the form of Docker's classic builder."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Progress:
    """The lines of the classic builder; `write` gets each."""

    def __init__(self, write: Callable[[str], None], *, explain: bool = False) -> None:
        self._write = write
        self._explain = explain

    def step(self, number: int, total: int, text: str) -> None:
        """A step begins."""
        self._write(f"Step {number}/{total} : {text}\n")

    def note(self, text: str) -> None:
        """Something about the step."""
        self._write(f"{text}\n")

    def cached(self) -> None:
        """The step was found in the cache."""
        self._write(" ---> Using cache\n")

    def running(self, identity: str) -> None:
        """The step's container has been started."""
        self._write(f" ---> Running in {identity[:12]}\n")

    def removed(self, identity: str) -> None:
        """The step's container is gone."""
        self._write(f"Removing intermediate container {identity[:12]}\n")

    def made(self, identity: str) -> None:
        """The step is done; the image so far has this id, or none."""
        self._write(f" ---> {identity.removeprefix('sha256:')[:12]}\n")

    def explain(self, reason: str) -> None:
        """Why the step was found in the cache or not."""
        if self._explain:
            self._write(f" ---> {reason}\n")

    def failed(self) -> None:
        """The step's command has failed."""

    def streams(self) -> tuple[int, int]:
        """Where a command's output and errors go: the same place, as the classic builder has it."""
        return 1, 1


class Quiet(Progress):
    """Nothing is told; a failed command's output is shown."""

    def __init__(self, show: Callable[[bytes], None]) -> None:
        super().__init__(lambda _: None)
        self._show = show
        self._output = os.memfd_create("output", os.MFD_CLOEXEC)

    def step(self, number: int, total: int, text: str) -> None:
        """Forget what the step before has written."""
        os.ftruncate(self._output, 0)
        os.lseek(self._output, 0, os.SEEK_SET)

    def failed(self) -> None:
        """Show what the failed command has written."""
        size = os.fstat(self._output).st_size
        self._show(os.pread(self._output, 65536, max(0, size - 65536)))

    def streams(self) -> tuple[int, int]:
        """Kept aside."""
        return self._output, self._output
