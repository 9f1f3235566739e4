"""The view of a build on a terminal: a line for each step with its time, and the last lines of what runs.

The frame is written again some times a second over the one before. Nothing of the terminal is changed for that, no
mode and no cursor, so whatever ends the build leaves a terminal as it was. What commands print is shown without its
control characters: a stranger's step moves no cursor and sets no title.
"""

from __future__ import annotations

import os
import re
import time
import unicodedata
from collections import deque

from specrun.build.progress import Progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from specrun.build.progress import Write

_SHOWN = 5
"""How many lines of a running command's output are shown."""
_KEPT = 60
"""How many are kept, for when it fails."""
_LONGEST = 4096
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[ -/]*[0-~]")
_RUNNING, _DONE, _CACHED, _FAILED, _CANCELED = "", "done", "CACHED", "ERROR", "CANCELED"
_COLORS = {_RUNNING: "1", _DONE: "34", _CACHED: "34", _FAILED: "31", _CANCELED: "33", "output": "2"}


class _Step:
    """A step that has begun."""

    __slots__ = ("began", "ended", "label", "lines", "notes", "number", "rest", "state", "text")

    def __init__(self, number: int, label: str, text: str, now: float) -> None:
        self.number = number
        self.label = label
        self.text = text
        self.state = _RUNNING
        self.began = now
        self.ended = 0.0
        self.notes: list[str] = []
        self.lines: deque[str] = deque(maxlen=_KEPT)
        self.rest = ""
        """The beginning of a line whose end has not come."""

    def end(self, state: str, now: float) -> None:
        """It ends, unless it has ended already."""
        if not self.ended:
            self.state, self.ended = state, now


class Live(Progress):
    """The view of all stages. `size` gives columns and rows of the terminal that `write` writes to."""

    interval = 0.1

    def __init__(
        self, write: Write, size: Callable[[], tuple[int, int]], *, color: bool, explain: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        super().__init__(write, explain=explain)
        self._size = size
        self._color = color
        self._clock = clock
        self._began = clock()
        self._steps: list[_Step] = []
        self._total = 0
        self._notes: list[str] = []
        self._widths: list[int] = []
        """The widths of the lines of the frame that is on the terminal."""

    def beside(self, write: Write, stage: str) -> Progress:
        """What is told of one stage."""
        return _Stage(self, stage, explain=self._explain)

    def note(self, text: str) -> None:
        """Something about the whole build."""
        self._notes.append(clean(text))

    def begin(self, number: int, total: int, stage: str, text: str) -> _Step:
        """A step of a stage begins."""
        self._total = total
        step = _Step(number, f"{stage} {number}/{total}", clean(text.partition("\n")[0]), self._clock())
        self._steps.append(step)
        self._steps.sort(key=lambda one: one.number)
        return step

    def now(self) -> float:
        """Seconds, of a clock that only goes forward."""
        return self._clock()

    def tick(self) -> None:
        """Show how it is."""
        columns, rows = self._size()
        self._draw(self._frame(columns, "", max(1, rows - 1)), columns)

    def close(self, *, failed: bool = False) -> None:
        """Show how it has ended, and what a failed command has written."""
        for step in self._steps:
            step.end(_CANCELED if failed else _DONE, self._clock())
        columns, _ = self._size()
        frame = self._frame(columns, "FAILED" if failed else "FINISHED", 0)
        for step in self._steps:
            if step.state == _FAILED:
                frame += ["------", f" > [{step.label}] {step.text}:", *step.lines, *([step.rest] if step.rest else [])]
                frame.append("------")
        try:
            self._draw(frame, columns)
        except OSError:
            pass  # the terminal is gone

    def _frame(self, columns: int, end: str, rows: int) -> list[str]:
        """The lines of the view; at most `rows` of them unless that is 0: the oldest steps are left out first."""
        done = sum(step.state in (_DONE, _CACHED) for step in self._steps)
        total = max(self._total, len(self._steps))
        head = f"[+] Building {self._clock() - self._began:.1f}s ({done}/{total}) {end}".rstrip()
        notes = [clip(note, columns - 1) for note in self._notes]
        blocks = [self._block(step, columns) for step in self._steps]
        if rows:
            spare = sum(map(len, blocks)) + 1 + len(notes) - rows
            for index, step in enumerate(self._steps):
                if spare > 0 and step.ended:
                    spare -= len(blocks[index])
                    blocks[index] = []
        lines = [*notes, *(line for block in blocks for line in block)]
        if rows and len(lines) >= rows:
            lines = lines[len(lines) - rows + 1 :] if rows > 1 else []
        return [clip(head, columns - 1), *lines]

    def _block(self, step: _Step, columns: int) -> list[str]:
        seconds = f"{(step.ended or self._clock()) - step.began:.1f}s"
        state = f"{step.state} " if step.state not in (_RUNNING, _DONE) else ""
        room = max(0, columns - 2 - len(seconds))
        text = clip(f" => {state}[{step.label}] {step.text}", room)
        lines = [self._paint(step.state, text + " " * (room - width(text)) + f" {seconds}")]
        below = list(step.notes)
        if not step.ended:
            below += [*step.lines, *([step.rest] if step.rest else [])][-_SHOWN:]
        return lines + [self._paint("output", clip(f" => => {line}", columns - 1)) for line in below]

    def _paint(self, kind: str, text: str) -> str:
        return f"\x1b[{_COLORS[kind]}m{text}\x1b[0m" if self._color else text

    def _draw(self, frame: list[str], columns: int) -> None:
        """Write the frame over the one before, in one piece."""
        # A terminal that has become narrower has folded the lines of the old frame.
        above = sum(max(1, -(-width // max(1, columns))) for width in self._widths)
        up = f"\x1b[{above}A" if above else ""
        self._widths = [width(_ESCAPES.sub("", line)) for line in frame]
        text = "".join(f"{line}\x1b[K\n" for line in frame)
        self._write(f"\r{up}{text}\x1b[J".encode("utf-8", "replace"))


class _Stage(Progress):
    """What one stage tells, written down for the view."""

    def __init__(self, live: Live, stage: str, *, explain: bool) -> None:
        super().__init__(lambda _: None, explain=explain)
        self._live = live
        self._stage = stage
        self._step: _Step | None = None

    def step(self, number: int, total: int, text: str) -> None:
        """The step before has ended, another begins."""
        self._end(_DONE)
        self._step = self._live.begin(number, total, self._stage, text)

    def note(self, text: str) -> None:
        """A line below the step."""
        if self._step:
            self._step.notes.append(clean(text))

    def explain(self, reason: str) -> None:
        """A line below the step, if it was asked for."""
        if self._explain:
            self.note(reason)

    def cached(self) -> None:
        """It takes no time."""
        self._end(_CACHED)

    def running(self, identity: str) -> None:
        """What it writes says more."""

    def removed(self, identity: str) -> None:
        """It is part of the step."""

    def made(self, identity: str) -> None:
        """The step has ended."""
        self._end(_DONE)

    def failed(self) -> None:
        """The step's command has failed."""
        self._end(_FAILED)

    def output(self, data: bytes) -> None:
        """Keep the last lines."""
        step = self._step
        if step is None:
            return
        *lines, rest = (step.rest + data.decode("utf-8", "replace")).split("\n")
        step.lines.extend(clean(line) for line in lines[-_KEPT:])
        step.rest = rest[-_LONGEST:]

    def _end(self, state: str) -> None:
        if self._step:
            self._step.end(state, self._live.now())


def clean(text: str) -> str:
    """A line as a terminal would be left with it: without escape sequences, control characters and overwritten text."""
    text = _ESCAPES.sub("", text[-_LONGEST:]).rstrip("\r")
    text = text.rpartition("\r")[2].expandtabs(8)
    return "".join(letter for letter in text if letter.isprintable())


def width(text: str) -> int:
    """How many columns of a terminal the text takes."""
    if text.isascii():
        return len(text)
    return sum(_columns(letter) for letter in text)


def clip(text: str, columns: int) -> str:
    """As much of the text as fits into so many columns."""
    if width(text) <= columns:
        return text
    taken = 0
    for index, letter in enumerate(text):
        taken += _columns(letter)
        if taken > columns:
            return text[:index]
    return text


def _columns(letter: str) -> int:
    if unicodedata.combining(letter):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def terminal_size(descriptor: int) -> tuple[int, int]:
    """Columns and rows of a terminal; 80 and 24 where it does not say."""
    try:
        size = os.get_terminal_size(descriptor)
    except OSError:
        return 80, 24
    return size.columns or 80, size.lines or 24
