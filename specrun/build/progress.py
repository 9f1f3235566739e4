"""What a build tells while it goes on: the forms of output, and how stages that are built at once share one."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    Write = Callable[[bytes], None]


class Progress:
    """The lines of Docker's classic builder. `write` gets each; `streams` are where a command's output goes."""

    interval: float | None = None
    """Seconds between two calls of `tick`; None where nothing happens between two lines."""

    def __init__(self, write: Write, *, explain: bool = False, streams: tuple[int, int] = (1, 1)) -> None:
        self._write = write
        self._explain = explain
        self._streams = streams

    def beside(self, write: Write, stage: str) -> Progress:
        """What is told of one stage among several that are built at once, in the same form, to `write`."""
        return Progress(write, explain=self._explain)

    def write(self, data: bytes) -> None:
        """Write what has the form of the output already."""
        self._write(data)

    def _say(self, text: str) -> None:
        self._write(f"{text}\n".encode("utf-8", "surrogateescape"))

    def step(self, number: int, total: int, text: str) -> None:
        """A step begins."""
        self._say(f"Step {number}/{total} : {text}")

    def note(self, text: str) -> None:
        """Something about the step."""
        self._say(text)

    def cached(self) -> None:
        """The step was found in the cache."""
        self._say(" ---> Using cache")

    def running(self, identity: str) -> None:
        """The step's container is about to be started."""
        self._say(f" ---> Running in {identity[:12]}")

    def removed(self, identity: str) -> None:
        """The step's container is gone."""
        self._say(f"Removing intermediate container {identity[:12]}")

    def made(self, identity: str) -> None:
        """The step is done; the image so far has this id, or none."""
        self._say(f" ---> {identity.removeprefix('sha256:')[:12]}")

    def explain(self, reason: str) -> None:
        """Why the step was found in the cache or not."""
        if self._explain:
            self._say(f" ---> {reason}")

    def failed(self) -> None:
        """The step's command has failed."""

    def output(self, data: bytes) -> None:
        """What the step's command has written, where it does not write to `streams` itself."""
        self._write(data)

    def streams(self) -> tuple[int, int]:
        """Where a command's output and errors go: the same place, as the classic builder has it."""
        return self._streams

    def tick(self) -> None:
        """Some time has passed."""

    def close(self, *, failed: bool = False) -> None:
        """Nothing more will be told."""


class Quiet(Progress):
    """Nothing is told; a failed command's output is shown."""

    def __init__(self, show: Callable[[bytes], None]) -> None:
        super().__init__(lambda _: None)
        self._show = show
        self._output = os.memfd_create("output", os.MFD_CLOEXEC)

    def beside(self, write: Write, stage: str) -> Progress:
        """Another one, which keeps the output of its own steps."""
        return Quiet(self._show)

    def step(self, number: int, total: int, text: str) -> None:
        """Forget what the step before has written."""
        os.ftruncate(self._output, 0)
        os.lseek(self._output, 0, os.SEEK_SET)

    def failed(self) -> None:
        """Show what the failed command has written."""
        size = os.fstat(self._output).st_size
        self._show(os.pread(self._output, 65536, max(0, size - 65536)))

    def output(self, data: bytes) -> None:
        """Kept aside."""
        os.write(self._output, data)

    def streams(self) -> tuple[int, int]:
        """Kept aside."""
        return self._output, self._output

    def close(self, *, failed: bool = False) -> None:
        """Forget it."""
        os.close(self._output)


class Spool:
    """The output of a stage whose turn to be shown has not come: a file, read when it has."""

    def __init__(self, write: Write, folder: str) -> None:
        self._through = write
        self._folder = folder
        self._held: BinaryIO | None = None
        self._turn = False

    def write(self, data: bytes) -> None:
        """Show it, or keep it."""
        if self._turn:
            self._through(data)
            return
        if self._held is None:
            path = f"{self._folder}/output{os.urandom(4).hex()}"
            self._held = open(path, "x+b")
            os.unlink(path)
        self._held.write(data)

    def take_turn(self) -> None:
        """Show what was kept, and from now on everything at once."""
        self._turn = True
        if self._held is not None:
            self._held.seek(0)
            while data := self._held.read(1 << 16):
                self._through(data)
            self.close()

    def close(self) -> None:
        """Forget what was kept."""
        if self._held is not None:
            self._held.close()
            self._held = None
