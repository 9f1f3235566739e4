"""A registry in the background: started, stopped, and looked at as the kernel has it."""

from __future__ import annotations

import fcntl
import ipaddress
import json
import os
import select
import signal
import subprocess
import sys

from specrun.errors import SpecrunError
from specrun.files import discard, write_atomic
from specrun.registry.keeper import ANSWER, NEXT, STOP
from specrun_runtime.fds import open_process, read_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SERVE = ["registry", "serve"]
_HANDED_ON = (
    "PATH", "HOME", "LANG", "LC_ALL", "TZ", "DOCKER_CONFIG", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy",
)  # fmt: skip
"""What the server is told of the environment of whoever starts it."""
_LISTENING = "0A"
_STARTS = 5
"""Attempts, where another keeper is met each time."""


class Running:
    """What the kernel says of a server."""

    __slots__ = ("address", "listening", "options", "pid")

    def __init__(self, pid: int, address: str) -> None:
        """Raises OSError when it has ended."""
        self.pid = pid
        self.address = address
        """http://HOST:PORT, as it has said it."""
        self.options = _options(pid)
        """Of its command line: `--name` -> value, "" for a flag."""
        self.listening = listening(pid)


class Service:
    """The registry of one folder."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    @property
    def token(self) -> str | None:
        """Whose it is; None where nothing was ever started."""
        found: str | None = self._read("command.json").get("token")
        return found

    def running(self) -> Running | None:
        """The server, if it serves."""
        facts = self._read("server.json")
        handle = open_process(facts.get("pid", 0), facts.get("start_time", 0)) if facts else None
        if handle is None:
            return None
        try:
            return None if select.select([handle], [], [], 0)[0] else Running(facts["pid"], facts["address"])
        except OSError:
            return None
        finally:
            os.close(handle)

    def start(self, options: dict[str, str], token: str) -> str:
        """Serve with these options until `stop`; gives the address. Raises SpecrunError with the server's own words."""
        self._write("command.json", options, token)
        for _ in range(_STARTS):
            data = self._keep()
            if "held" not in json.loads(data):
                return _reported(data)
            self.stop()  # by a keeper that a killed command had just started
        raise SpecrunError(f"the registry does not start: others start it too, in {self.folder}")

    def _keep(self) -> bytes:
        """Start a keeper; gives its report."""
        reading, writing = os.pipe()
        try:
            subprocess.run(
                [sys.executable, "-P", "-m", "specrun.registry.keeper", self.folder, str(writing)],
                env={name: os.environ[name] for name in _HANDED_ON if name in os.environ}, cwd="/", check=False,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=[writing],
                start_new_session=True,
            )  # fmt: skip
        finally:
            os.close(writing)
        try:
            return read_all(reading) or b'{"error": "its keeper did not start"}'
        finally:
            os.close(reading)

    def change(self, options: dict[str, str], token: str) -> str:
        """Serve with other options; gives the address.

        A new server takes the connections from the moment that it can; the one before it finishes what it has begun.
        Raises SpecrunError when the new one does not start; the one before then serves on.
        """
        keeper = open_process(*self._keeper())
        if keeper is None:  # nobody is there who could hand over
            self.stop()
            return self.start(options, token)
        answer = f"{self.folder}/{ANSWER}"
        discard(answer)
        os.mkfifo(answer, 0o600)
        reading = os.open(answer, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self._write(NEXT, options, token)
            signal.pidfd_send_signal(keeper, signal.SIGHUP)
            return _reported(_hear(reading, keeper) or b'{"error": "its keeper has ended"}')
        except ProcessLookupError:
            raise SpecrunError("the registry does not start: its keeper has ended") from None
        finally:
            os.close(keeper)
            os.close(reading)
            discard(answer)
            discard(f"{self.folder}/{NEXT}")

    def _write(self, name: str, options: dict[str, str], token: str) -> None:
        words = [f"{name}={value}" if value else name for name, value in options.items()]
        command = [sys.executable, "-P", "-m", "specrun.cli.main", *_SERVE, *words]
        document = {"command": command, "listen": options["--listen"], "token": token}
        write_atomic(f"{self.folder}/{name}", json.dumps(document).encode())

    def stop(self) -> None:
        """End it, and wait until it has. What it has begun to answer it answers, for 30 seconds at most."""
        server = self._read("server.json")
        handles = [open_process(*self._keeper()), open_process(server.get("pid", 0), server.get("start_time", 0))]
        for handle, patience in zip(handles, (STOP + 5, 0.0), strict=True):
            if handle is not None:
                try:
                    _end(handle, patience)
                finally:
                    os.close(handle)
        discard(f"{self.folder}/server.json")

    def _keeper(self) -> tuple[int, int]:
        """Pid and start time of the keeper; zeroes when there is none."""
        try:
            with open(f"{self.folder}/owner", encoding="ascii") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    return 0, 0
                except BlockingIOError:
                    pid, _, started = file.read(100).partition(" ")
                    return int(pid), int(started)
        except (FileNotFoundError, ValueError):
            return 0, 0

    def _read(self, name: str) -> dict[str, Any]:
        try:
            with open(f"{self.folder}/{name}", "rb") as file:
                document = json.load(file)
        except (FileNotFoundError, ValueError):
            return {}
        return document if isinstance(document, dict) else {}


def _reported(data: bytes) -> str:
    """The address, of what a keeper says. Raises SpecrunError."""
    report = json.loads(data)
    if "error" in report:
        raise SpecrunError(f"the registry does not start: {_plain(report['error'])}")
    address: str = report["address"]
    return address


def _hear(fifo: int, keeper: int) -> bytes:
    """What a keeper writes there, whole; as far as it came if the keeper ends."""
    data = b""
    poll = select.poll()
    for descriptor in (fifo, keeper):
        poll.register(descriptor, select.POLLIN)
    while True:
        ready = [descriptor for descriptor, _ in poll.poll()]
        if fifo in ready:
            part = os.read(fifo, 65536)
            if not part:
                return data
            data += part
        elif keeper in ready:
            return data


def _end(handle: int, patience: float) -> None:
    """SIGTERM, and after so many seconds SIGKILL."""
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    for number, wait in ((signal.SIGTERM, patience), (signal.SIGKILL, 10.0)):
        try:
            signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            return
        if poll.poll(wait * 1000):
            return


def _options(pid: int) -> dict[str, str]:
    with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="surrogateescape") as file:
        words = file.read().rstrip("\0").split("\0")
    given = words[words.index(_SERVE[1]) + 1 :] if _SERVE[1] in words else []
    return {name: value for name, _, value in (word.partition("=") for word in given)}


def listening(pid: int) -> list[str]:
    """HOST:PORT of all sockets on which the process takes connections. Raises OSError when it has ended."""
    sockets = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{name}")
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            sockets.add(target[8:-1])
    found = []
    for table in ("tcp", "tcp6"):
        try:
            with open(f"/proc/{pid}/net/{table}", encoding="ascii") as file:
                rows = [line.split() for line in file.readlines()[1:]]
        except FileNotFoundError:
            continue
        found += [_address(row[1]) for row in rows if row[3] == _LISTENING and row[9] in sockets]
    return sorted(found)


def _address(text: str) -> str:
    """As /proc/net/tcp writes it: words of four bytes in the host's order, then the port."""
    digits, _, port = text.partition(":")
    raw = bytes.fromhex(digits)
    if sys.byteorder == "little":
        raw = b"".join(raw[start : start + 4][::-1] for start in range(0, len(raw), 4))
    host = ipaddress.ip_address(raw)
    return f"[{host}]:{int(port, 16)}" if host.version == 6 else f"{host}:{int(port, 16)}"


def _plain(text: str) -> str:
    """Without the name of the program, and on one line."""
    return "; ".join(line.strip().removeprefix("specrun: ") for line in text.splitlines() if line.strip())[:1000]
