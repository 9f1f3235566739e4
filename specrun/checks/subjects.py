"""What can be looked at. Each subject gives a document of facts, which the expectations are held against."""

from __future__ import annotations

import signal
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, Any, Protocol

from specrun.checks import files
from specrun.errors import SpecrunError
from specrun_runtime import state

if TYPE_CHECKING:
    from typing import Self

    from specrun.engine.container import Container
    from specrun.engine.containers import Engine

_LONGEST_PAGE = 1 << 20
TIMEOUT = 60.0
"""Seconds that a command has when nothing else is said."""


class Subject(Protocol):
    """Something that has facts. `facts` are the names that an expectation may have."""

    facts: tuple[str, ...]

    def describe(self) -> str:
        """For messages."""

    def look(self, engine: Engine, wanted: set[str]) -> dict[str, Any]:
        """The facts as they are now. Raises SpecrunError when there is nothing to look at."""

    def ended(self, engine: Engine) -> str:
        """Why waiting for it is in vain; "" when it is not."""


class _Of:
    """What subjects share that are about a container."""

    def __init__(self, container: str) -> None:
        self.container = container

    def ended(self, engine: Engine) -> str:
        """A container that has ended will not change any more."""
        try:
            found = engine.get(self.container)
        except SpecrunError:
            return ""
        if found.state.status != state.EXITED:
            return ""
        tail = "".join(line.decode("utf-8", "replace") for line in _log(found, 20))
        return f"the container {self.container} has ended with status {found.state.exit_code}; its last lines:\n{tail}"

    def running(self, engine: Engine) -> Container:
        """The container, which must run. Raises SpecrunError."""
        found = engine.get(self.container)
        if found.state.status != state.RUNNING:
            raise SpecrunError(f"the container {self.container} is not running ({found.state.status})")
        return found


class Run:
    """A command in a new container of an image, which is removed afterwards. A `timeout` of 0 is none."""

    facts: tuple[str, ...] = ("exitCode", "stdout", "stderr")

    def __init__(self, image: str, command: list[str] | None, timeout: float = TIMEOUT, **settings: Any) -> None:
        self.image = image
        self.command = command
        self.timeout = timeout
        self.settings = settings

    def describe(self) -> str:
        """For messages."""
        return f"{' '.join(self.command or ['the command'])} in {self.image}"

    def look(self, engine: Engine, wanted: set[str]) -> dict[str, Any]:
        """Run it to its end. Raises SpecrunError when it takes too long."""
        from specrun.engine.request import ContainerRequest
        from specrun_runtime.errors import StartFailed

        request = ContainerRequest(self.image, command=self.command, auto_remove=True, **self.settings)
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, _Limit(self.timeout) as limit:
            try:
                running = engine.run(request, stdout=out.fileno(), stderr=err.fileno())
            except StartFailed as failure:
                return {"exitCode": failure.status, "stdout": "", "stderr": failure.message}
            status = limit.hold(running.wait, lambda: running.forward(signal.SIGKILL))
            return limit.facts(self.describe(), status, out, err)

    def ended(self, engine: Engine) -> str:
        """It can be run again."""
        return ""


class Exec(_Of):
    """A command in a container that runs. A `timeout` of 0 is none."""

    facts: tuple[str, ...] = Run.facts

    def __init__(self, container: str, command: list[str], timeout: float = TIMEOUT, **settings: Any) -> None:
        super().__init__(container)
        self.command = command
        self.timeout = timeout
        self.settings = settings

    def describe(self) -> str:
        """For messages."""
        return f"{' '.join(self.command)} in {self.container}"

    def look(self, engine: Engine, wanted: set[str]) -> dict[str, Any]:
        """Run it to its end. Raises SpecrunError when it takes too long."""
        from specrun.engine.execution import ExecRequest, Execution
        from specrun_runtime.errors import StartFailed

        container = self.running(engine)
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, _Limit(self.timeout) as limit:
            try:
                execution = Execution(engine, container, ExecRequest(self.command, **self.settings))
            except StartFailed as failure:
                return {"exitCode": failure.status, "stdout": "", "stderr": failure.message}
            status = limit.hold(lambda: execution.wait(None, out.fileno(), err.fileno()), execution.kill)
            return limit.facts(self.describe(), status, out, err)


class Job(_Of):
    """A container that was to run once, with its exit status and what it has written."""

    facts: tuple[str, ...] = ("exitCode", "stdout", "stderr")

    def describe(self) -> str:
        """For messages."""
        return f"the job {self.container}"

    def look(self, engine: Engine, wanted: set[str]) -> dict[str, Any]:
        """What it has left. Raises SpecrunError while it still runs."""
        from specrun.engine.logs import read_log

        found = engine.get(self.container)
        if found.state.status != state.EXITED:
            raise SpecrunError(f"the job {self.container} has not ended ({found.state.status})")
        streams = {"stdout": b"", "stderr": b""}
        for _, stream, data in read_log(found.directory):
            streams[stream] += data
        texts = {name: data.decode("utf-8", "replace") for name, data in streams.items()}
        return {"exitCode": found.state.exit_code, **texts}


class File(_Of):
    """A file in a running container."""

    facts: tuple[str, ...] = ("exists", "type", "mode", "uid", "gid", "size", "content", "target")

    def __init__(self, container: str, path: str) -> None:
        super().__init__(container)
        self.path = path

    def describe(self) -> str:
        """For messages."""
        return f"{self.path} in {self.container}"

    def look(self, engine: Engine, wanted: set[str]) -> dict[str, Any]:
        """Through the container's root folder."""
        with files.root_of_container(self.running(engine)) as root:
            return files.look(root.number, self.path, wanted)


class ImageFile:
    """A file in an image."""

    facts: tuple[str, ...] = File.facts

    def __init__(self, image: str, path: str) -> None:
        self.image = image
        self.path = path

    def describe(self) -> str:
        """For messages."""
        return f"{self.path} in the image {self.image}"

    def look(self, engine: Engine, wanted: set[str]) -> dict[str, Any]:
        """Through its layers."""
        image = engine.images.resolve(self.image)
        if not image.diff_ids:
            return {"exists": False}
        with files.root_of_image(engine.images, image) as root:
            return files.look(root.number, self.path, wanted)

    def ended(self, engine: Engine) -> str:
        """Another image may get the name."""
        return ""


class ImageConfig:
    """The configuration of an image."""

    facts: tuple[str, ...] = (
        "entrypoint",
        "command",
        "env",
        "labels",
        "workingDir",
        "user",
        "ports",
        "volumes",
        "layers",
        "size",
    )

    def __init__(self, image: str) -> None:
        self.image = image

    def describe(self) -> str:
        """For messages."""
        return f"the image {self.image}"

    def look(self, engine: Engine, wanted: set[str]) -> dict[str, Any]:
        """As the image's configuration has it."""
        image = engine.images.resolve(self.image)
        config = image.config.get("config") or {}
        variables = dict(entry.partition("=")[::2] for entry in config.get("Env") or [])
        return {
            "entrypoint": config.get("Entrypoint") or [],
            "command": config.get("Cmd") or [],
            "env": variables,
            "labels": config.get("Labels") or {},
            "workingDir": config.get("WorkingDir") or "",
            "user": config.get("User") or "",
            "ports": sorted(config.get("ExposedPorts") or {}),
            "volumes": sorted(config.get("Volumes") or {}),
            "layers": len(image.diff_ids),
            "size": image.size,
        }

    def ended(self, engine: Engine) -> str:
        """Another image may get the name."""
        return ""


class Log(_Of):
    """What a container has written."""

    facts: tuple[str, ...] = ("stdout", "stderr", "all")

    def describe(self) -> str:
        """For messages."""
        return f"the log of {self.container}"

    def look(self, engine: Engine, wanted: set[str]) -> dict[str, Any]:
        """All of it so far."""
        from specrun.engine.logs import read_log

        found = {"stdout": b"", "stderr": b"", "all": b""}
        for _, stream, data in read_log(engine.get(self.container).directory):
            found[stream] += data
            found["all"] += data
        return {name: data.decode("utf-8", "replace") for name, data in found.items()}


class Processes(_Of):
    """The processes of a running container."""

    facts: tuple[str, ...] = ("count", "commands")

    def describe(self) -> str:
        """For messages."""
        return f"the processes of {self.container}"

    def look(self, engine: Engine, wanted: set[str]) -> dict[str, Any]:
        """By its control group."""
        pids = self.running(engine).cgroup.pids()
        commands = [words for pid in pids if (words := _command_line(pid))]
        return {"count": len(commands), "commands": commands}


class Port:
    """A TCP port."""

    facts: tuple[str, ...] = ("open",)

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port

    def describe(self) -> str:
        """For messages."""
        return f"port {self.port} of {self.host}"

    def look(self, engine: Engine, wanted: set[str]) -> dict[str, Any]:
        """Try to connect."""
        try:
            with socket.create_connection((self.host, self.port), timeout=2):
                return {"open": True}
        except OSError:
            return {"open": False}

    def ended(self, engine: Engine) -> str:
        """Nobody knows whose it is."""
        return ""


class Page:
    """What a web server answers; redirects are not followed, and proxies not asked."""

    facts: tuple[str, ...] = ("status", "body", "headers")

    def __init__(self, url: str) -> None:
        self.url = url

    def describe(self) -> str:
        """For messages."""
        return self.url

    def look(self, engine: Engine, wanted: set[str]) -> dict[str, Any]:
        """Ask. Raises SpecrunError when nobody answers."""
        from http.client import HTTPConnection, HTTPException, HTTPSConnection
        from urllib.parse import urlsplit

        parts = urlsplit(self.url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=5)
        try:
            connection.request("GET", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
            answer = connection.getresponse()
            body = answer.read(_LONGEST_PAGE).decode("utf-8", "replace")
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return {"status": answer.status, "body": body, "headers": headers}
        except (OSError, HTTPException) as error:
            raise SpecrunError(f"{self.url} does not answer: {error or type(error).__name__}") from error
        finally:
            connection.close()

    def ended(self, engine: Engine) -> str:
        """Nobody knows whose it is."""
        return ""


class _Limit:
    """The time that a command has: when it is over, or we are interrupted, the command is killed.

    Until it is known how to kill it, Ctrl-C waits.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.is_over = False

    def __enter__(self) -> Self:
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
        return self

    def __exit__(self, *_: object) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def hold(self, wait: Callable[[], int], kill: Callable[[], None]) -> int:
        """Wait for the command's end; gives its exit status."""

        def end() -> None:
            self.is_over = True
            kill()

        timer = Timer(self.seconds, end)
        try:
            if self.seconds:
                timer.start()
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
            return wait()
        except BaseException:
            kill()
            raise
        finally:
            timer.cancel()
            if timer.ident is not None:
                timer.join()

    def facts(self, what: str, status: int, out: Any, err: Any) -> dict[str, Any]:
        """Its exit status and what it has written. Raises SpecrunError when it was killed."""
        stdout, stderr = (_text(file) for file in (out, err))
        if self.is_over:
            written = "".join(f"\n{line}" for text in (stdout, stderr) for line in text.splitlines()[-20:])
            tail = f"; it had written:{written}" if written else ", without a word"
            raise SpecrunError(f"{what}: not done within {self.seconds:g} s, and killed{tail}")
        return {"exitCode": status, "stdout": stdout, "stderr": stderr}


def _text(file: Any) -> str:
    file.seek(0)
    data: bytes = file.read(16 << 20)
    return data.decode("utf-8", "replace")


def _log(container: Container, lines: int) -> list[bytes]:
    from specrun.engine.logs import read_log

    return [data for _, _, data in read_log(container.directory, tail=lines)]


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""
