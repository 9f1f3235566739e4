"""What one scenario has at hand: an engine, a folder, the commands that ran, and what they said."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specrun.bdd import processes

if TYPE_CHECKING:
    from specrun.bdd.engines import Engine
    from specrun.bdd.terminal import Terminal

_LONGEST_EVIDENCE = 20_000
"""Characters of a command's output that a report keeps."""


class Done:
    """A command line that has ended."""

    def __init__(self, line: str, status: int, output: str, errors: str, seconds: float) -> None:
        self.line = line
        self.status = status
        self.output = output
        self.errors = errors
        self.seconds = seconds

    def __str__(self) -> str:
        """As a reader of a failure wants to see it, with the line that repeats it."""
        streams = [
            f"  {name}:\n" + "".join(f"    {row}\n" for row in text.splitlines()[-40:])
            for name, text in (("output", self.output), ("errors", self.errors))
            if text
        ]
        return f"$ {self.line}\n  exit status {self.status}\n{''.join(streams)}"

    def document(self) -> dict[str, Any]:
        """For the results."""
        return {
            "line": self.line,
            "status": self.status,
            "output": self.output[:_LONGEST_EVIDENCE],
            "errors": self.errors[:_LONGEST_EVIDENCE],
            "seconds": round(self.seconds, 3),
        }


class World:
    """One scenario. Command lines run one after the other in one folder, which `cd` changes as in a shell."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.folder = engine.folder / "work"
        self.folder.mkdir()
        self.current = self.folder
        self._last: Done | None = None
        self.evidence: list[dict[str, Any]] = []
        """Of the step that runs now."""
        self.background: list[Background] = []
        self.section = ""
        """The name of the feature."""
        self.source: Path | None = None
        """The folder that the feature is in."""
        self.began = 0.0
        """When the step that runs now began (time.monotonic)."""
        self.watched: set[str] = set()
        """Names of containers that a waiting step is about."""
        self.terminal: Terminal | None = None

    @property
    def last(self) -> Done:
        """The command that ended last. Raises AssertionError when there was none."""
        if self._last is None:
            raise AssertionError("no command has run yet in this scenario")
        return self._last

    def run(self, line: str, timeout: float = 300) -> Done:
        """Run a command line in bash, as a reader of the workshop would; it becomes the last one."""
        began = time.monotonic()
        note = self.engine.folder / "cwd"
        script = f"{self.engine.enter}trap 'pwd > {shlex.quote(str(note))}' EXIT\n{line}"
        process = subprocess.Popen(
            [*self.engine.prefix, "bash", "-c", script],
            env=self.engine.environment,
            cwd=self.current,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            output, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, errors = process.communicate()
            errors += f"\n(killed after {timeout:g} s)".encode()
        if note.exists():
            self.current = Path(note.read_text().rstrip("\n"))
            note.unlink()
        seconds = time.monotonic() - began
        out, err = (data.decode("utf-8", "replace") for data in (output, errors))
        self._last = Done(line, process.returncode, out, err, seconds)
        self.evidence.append(self._last.document())
        return self._last

    def repeat(self) -> None:
        """Run the last command line again."""
        if self._last is not None:
            self.run(self._last.line)

    def ask(self, line: str) -> Done:
        """Run a command line whose result proves something but is not the scenario's last one."""
        kept = self._last
        try:
            return self.run(line)
        finally:
            self._last = kept

    def start(self, line: str) -> Background:
        """Start a command line and do not wait for it."""
        self.background.append(Background(self, line))
        return self.background[-1]

    def path(self, name: str) -> Path:
        """A file of the scenario; names are relative to its folder."""
        return self.folder / name

    def stopped(self) -> str:
        """What to say of a container that has ended while it was waited for; "" when there is none."""
        rows = self.ask("docker ps -a --filter status=exited --format '{{.Names}} {{.Status}}'").output.splitlines()
        for row in rows:
            name, _, status = row.partition(" ")
            if name in self.watched:
                tail = self.ask(f"docker logs --tail 20 {shlex.quote(name)}")
                return f"the container {name} has ended ({status}); its last lines:\n{tail.output}{tail.errors}"
        return ""

    def close(self) -> None:
        """End what still runs, with what its commands have left running."""
        if self.terminal:
            self.terminal.close()
        for process in self.background:
            process.close()
        processes.end(self.engine.folder)


class Background:
    """A command line that runs beside the scenario."""

    def __init__(self, world: World, line: str) -> None:
        self.line = line
        self._output = (world.engine.folder / f"background-{len(world.background)}").open("w+b")
        self.process = subprocess.Popen(
            [*world.engine.prefix, "bash", "-c", world.engine.enter + line],
            env=world.engine.environment,
            cwd=world.current,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def output(self) -> str:
        """What it has written so far."""
        self._output.seek(0)
        return self._output.read().decode("utf-8", "replace")

    def interrupt(self) -> None:
        """What Ctrl-C does in its terminal."""
        os.killpg(self.process.pid, signal.SIGINT)

    def close(self) -> None:
        """End it, and wait."""
        if self.process.poll() is None:
            try:
                os.killpg(self.process.pid, signal.SIGTERM)
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
            except ProcessLookupError:
                self.process.wait()
        self._output.close()
