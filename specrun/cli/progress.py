"""What happens to the layers of an image: bars that move on a terminal, a line for each change elsewhere.

As with Docker, what is told twice is not printed twice, and a terminal too narrow for bars gets none.
"""

from __future__ import annotations

import os
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

BAR = 50
"""Columns of a whole bar."""
_INTERVAL = 0.1
_LEAST = 60


class Progress:
    """Told of the layers of one pull or push, by several threads. Use as a context: its end shows the last state."""

    def __init__(self, write: Callable[[str], None], descriptor: int) -> None:
        self._write = write
        self._descriptor = descriptor
        self._columns = _columns(descriptor)
        self._lines: dict[str, str] = {}
        self._shown: dict[str, str] = {}
        self._last = 0.0
        self._lock = threading.Lock()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._draw()

    def news(self, layer: str, what: str, done: int = 0, total: int = 0) -> None:
        """It happens to `layer`: `done` of `total` bytes, or all of it."""
        with self._lock:
            if not self._columns:
                if not total and self._lines.get(layer) != what:
                    self._write(f"{layer}: {what}\n")
                    self._lines[layer] = what
                return
            self._lines[layer] = f"{what} {bar(done, total, self._columns - 14 - len(what))}" if total else what
            now = time.monotonic()
            if not total or now - self._last >= _INTERVAL:
                self._last = now
                self._draw()

    def _draw(self) -> None:
        """Every line that is otherwise than on the screen, with the cursor left below the last."""
        if not self._columns or self._lines == self._shown:
            return
        self._columns = _columns(self._descriptor) or self._columns
        text = f"\x1b[{len(self._shown)}A" if self._shown else ""
        for layer, line in self._lines.items():
            if self._shown.get(layer) != line:
                text += f"\r\x1b[2K{f'{layer}: {line}'[: self._columns - 1]}"
            text += "\n"
        self._shown = dict(self._lines)
        self._write(text)


def bar(done: int, total: int, room: int) -> str:
    """`[=====>     ]  12.3MB/45.6MB`, as wide as there is room for."""
    from specrun.cli.output import size

    numbers = f"{size(done)}/{size(total)}"
    width = min(BAR, room - len(numbers) - 4)
    if width < 5:
        return numbers
    filled = min(width, width * done // max(1, total))
    line = "=" * filled if filled == width else "=" * filled + ">"
    return f"[{line.ljust(width)}] {numbers:>8}"


def _columns(descriptor: int) -> int:
    """Of the terminal; 0 where there is none that could show bars."""
    if not os.isatty(descriptor) or os.environ.get("TERM", "") in ("", "dumb"):
        return 0
    try:
        columns = os.get_terminal_size(descriptor).columns
    except OSError:
        return 0
    return columns if columns >= _LEAST else 0 if columns else 80
