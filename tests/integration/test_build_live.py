"""The view of a build on a real terminal, read as a terminal emulator shows it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyte
import pytest

from specrun.build.live import Live, clean, clip, width
from tests.support import leaks
from tests.support.host import COMMAND, Host


class Terminal:
    """A command on a pseudoterminal, and what that shows."""

    def __init__(self, host: Host, *words: str, columns: int = 80, rows: int = 24, **environment: str) -> None:
        self.screen = pyte.HistoryScreen(columns, rows, history=1000, ratio=0.9)
        self.stream = pyte.ByteStream(self.screen)
        self.written = b""
        self.master, self.other = pty.openpty()
        self.resize(columns, rows)
        self.modes = termios.tcgetattr(self.other)
        self.process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", COMMAND, *words], stdin=self.other, stdout=self.other, stderr=self.other,
            env={**host.environment, "TERM": "xterm", **environment},
        )  # fmt: skip

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.screen.resize(rows, columns)

    def read(self, until: Callable[[], bool], seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < deadline, "\n".join(self.screen.display)
            if select.select([self.master], [], [], 0.05)[0]:
                data = os.read(self.master, 65536)
                self.written += data
                self.stream.feed(data)

    def shows(self, text: str) -> bool:
        return any(text in line for line in self.screen.display)

    def line(self, text: str) -> str:
        return next(line.rstrip() for line in self.screen.display if text in line)

    def end(self) -> int:
        """Its exit status, with all that it has written read."""
        self.read(lambda: self.process.poll() is not None)
        while select.select([self.master], [], [], 0.2)[0]:
            data = os.read(self.master, 65536)
            self.written += data
            self.stream.feed(data)
        assert termios.tcgetattr(self.other) == self.modes
        assert not self.screen.cursor.hidden and self.screen.cursor.x == 0
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait()
        os.close(self.master)
        os.close(self.other)


@pytest.fixture
def context(host: Host, tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """Builds a Dockerfile on a terminal."""
    made: list[Terminal] = []

    def build(text: str, *words: str, **options: object) -> Terminal:
        (tmp_path / "Dockerfile").write_text(text)
        made.append(Terminal(host, "build", "--network=none", "-t", "image", *words, str(tmp_path), **options))  # type: ignore[arg-type]
        return made[-1]

    yield build
    for terminal in made:
        terminal.close()


def test_steps_with_their_time_and_the_last_lines(context: Callable[..., Terminal]) -> None:
    terminal = context(
        "FROM busybox AS one\nRUN seq 1 100; printf '\\033[2J\\033[31mred\\a\\n'; sleep 2\n"
        "FROM busybox AS two\nRUN echo other; sleep 2\nFROM one\nCOPY --from=two /etc /x\n"
    )
    terminal.read(lambda: terminal.shows("=> red") and terminal.shows("=> other"))
    assert terminal.screen.display[0].startswith("[+] Building ")
    assert re.match(r" => \[one 1/6\] FROM busybox AS one +\d\.\ds$", terminal.line("one 1/6"))
    assert re.match(r" => \[one 2/6\] RUN seq 1 100;.* \d\.\ds$", terminal.line("one 2/6"))
    assert [line.rstrip() for line in terminal.screen.display if "=> =>" in line][:5] == [
        *(f" => => {number}" for number in (97, 98, 99, 100)), " => => red",
    ]  # fmt: skip
    first = float(terminal.line("two 4/6").split()[-1].rstrip("s"))
    terminal.read(lambda: float(terminal.line("two 4/6").split()[-1].rstrip("s")) > first)
    assert terminal.end() == 0
    assert terminal.shows("(6/6) FINISHED") and terminal.shows("Successfully tagged image:latest")
    assert not terminal.shows("=> =>") and sum("[one 2/6]" in line for line in terminal.screen.display) == 1
    again = context("FROM busybox\nRUN seq 1 100; printf '\\033[2J\\033[31mred\\a\\n'; sleep 2\n")
    assert again.end() == 0 and again.shows(" => CACHED [0 2/2] RUN seq")


def test_a_failure_shows_what_the_command_has_written(context: Callable[..., Terminal]) -> None:
    terminal = context("FROM busybox\nRUN seq 1 9; echo went wrong; exit 3\n", columns=100)
    assert terminal.end() == 3
    assert terminal.shows("FAILED") and terminal.shows(" => ERROR [0 2/2] RUN seq 1 9")
    assert terminal.shows("went wrong") and terminal.shows("Dockerfile:2:1") and terminal.shows("| ^~~")


def test_a_terminal_that_changes_its_size(context: Callable[..., Terminal]) -> None:
    steps = "".join(f"ENV A{number}={'x' * 60}\n" for number in range(30))
    terminal = context(f"FROM busybox\n{steps}RUN seq 1 50; sleep 3\n", columns=120, rows=30)
    terminal.read(lambda: terminal.shows("=> => 50"))
    terminal.resize(40, 8)
    terminal.screen.reset()

    def fits() -> bool:
        """Whether the last picture that came whole does."""
        pictures = terminal.written.split(b"[+] Building")
        latest = pictures[-2].split(b"\x1b[J")[0].decode().split("\r\n")
        widths = [width(re.sub(r"\x1b\[[0-9]*[mK]", "", line)) for line in latest]
        return "=> => 50" in pictures[-2].decode() and max(widths) <= 40 and len(latest) <= 8

    terminal.read(fits)
    assert terminal.end() == 0


@pytest.mark.parametrize("keys", [b"\x03", None])
def test_an_interrupt_restores_the_terminal(context: Callable[..., Terminal], host: Host, keys: bytes | None) -> None:
    terminal = context("FROM busybox\nRUN echo begun; sleep 1000\n")
    terminal.read(lambda: terminal.shows("=> => begun"))
    if keys:
        os.write(terminal.master, keys)
    else:
        terminal.process.terminate()
    assert terminal.end() == (130 if keys else 143)
    assert terminal.shows("CANCELED") and terminal.shows("FAILED")
    assert host.containers() == [] and not leaks.left(leaks.marks_of(host.root))


def test_forms_of_output(context: Callable[..., Terminal], host: Host, tmp_path: Path) -> None:
    plain = context("FROM busybox\n", "--progress=plain")
    assert plain.end() == 0 and plain.shows("Step 1/1 : FROM busybox") and b"\x1b" not in plain.written
    dumb = context("FROM busybox\n", TERM="dumb")
    assert dumb.end() == 0 and dumb.shows("Step 1/1 : FROM busybox")
    colors = context("FROM busybox\n")
    assert colors.end() == 0 and re.search(rb"\x1b\[[0-9;]*m", colors.written)
    none = context("FROM busybox\n", NO_COLOR="1")
    assert none.end() == 0 and not re.search(rb"\x1b\[[0-9;]*m", none.written) and none.shows("FINISHED")
    quiet = context("FROM busybox\n", "--progress=quiet")
    assert quiet.end() == 0 and quiet.written == b""
    assert host.ok("build", str(tmp_path)).startswith("Step 1/1")  # no terminal
    for words, hint in (("--progress=tty", "needs a terminal"), ("--progress=rawjson", "auto, plain, tty, quiet")):
        done = host.run("build", words, str(tmp_path))
        assert done.returncode == 125 and hint in done.stderr.decode()
    host.environment["BUILDKIT_PROGRESS"] = "quiet"
    assert host.ok("build", str(tmp_path)) == ""


def test_texts_are_clean_and_fit() -> None:
    assert clean("\x1b]0;title\x07a\x1b[31mb\x1b[0m\tc\x00\r") == "ab      c"
    assert clean("progress 10%\rprogress 90%") == "progress 90%"
    assert width("äöü") == 3 and width("日本") == 4 and width("e\u0301") == 1
    assert clip("日本語", 5) == "日本" and clip("short", 10) == "short"


def test_a_terminal_of_one_row_and_few_columns() -> None:
    for columns, rows in ((1, 1), (10, 2), (200, 3)):
        written: list[bytes] = []
        live = Live(written.append, lambda size=(columns, rows): size, color=False)  # type: ignore[misc]
        stage = live.beside(written.append, "s")
        stage.step(1, 1, "RUN x" * 40)
        stage.output(b"line\n" * 1000)
        live.tick()
        assert written[-1].count(b"\n") <= max(1, rows - 1)
        live.close()
