"""Keeps a registry running after the command that started it has ended: `python -m specrun.registry.keeper FOLDER FD`.

The folder has `command.json`, the server's command line, and gets `owner`, which is locked while the keeper lives and
holds its pid and start time; `server.json`, the process that serves now; and `log`, like that of a container. FD is
told how the first start went. A server that ends by itself is started again, as a container is that always restarts.
SIGTERM ends both, and so does the removal of the folder.

SIGHUP has a server of the command line in `next.json` take over: it gets the sockets that listen already, and when it
is ready the one before takes no more connections, and ends when what it has begun is done. So nobody is refused
meanwhile. The fifo `answer` is told how it went; when the new server does not start, the old one serves on.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time

from specrun.errors import SpecrunError
from specrun.files import discard, locked, write_atomic
from specrun.registry import sockets
from specrun_runtime import libc, restarts
from specrun_runtime.constants import Prctl
from specrun_runtime.fds import start_time, write_all
from specrun_runtime.logfile import Log

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Any

STOP = 40.0
"""Seconds that the server has to end in; it gives its own clients 30."""
_COMMAND, NEXT, ANSWER = "command.json", "next.json", "answer"
_LEFT = b"takes no more connections"
_LOOK = 5.0
"""Seconds between two looks whether the folder is still there: without it no command finds us any more."""
_LOG_SIZE, _LOG_FILES = 10 << 20, 3
_READY = b"listening on "


class Server:
    """One process that serves, is about to, or finishes what it has begun."""

    def __init__(self, source: str, command: list[str], listen: str, listening: list[socket.socket]) -> None:
        self.source = source
        """The name of the file that its command line is from."""
        self.listen, self.sockets = listen, listening
        self.tail = b""
        self.began = time.monotonic()
        self.limit = 0.0
        """When it is killed; 0 for not at all."""
        parent = os.getpid()

        def die_with_us() -> None:
            libc.prctl(Prctl.SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(1)

        numbers = [one.fileno() for one in listening]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=die_with_us,
            pass_fds=numbers, env={**os.environ, sockets.HANDED_OVER: ",".join(map(str, numbers))},
        )  # fmt: skip
        assert self.process.stdout and self.process.stderr  # noqa: S101 - they were asked for
        self.streams = {self.process.stdout.fileno(): b"stdout", self.process.stderr.fileno(): b"stderr"}

    def stop(self) -> None:
        """End it, by force when it takes too long."""
        self.process.terminate()
        self.limit = time.monotonic() + STOP

    def close(self) -> None:
        """It has closed its output, and so it has ended or is about to."""
        self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream:
                stream.close()


class Keeper:
    """One server that takes connections at a time, again and again."""

    def __init__(self, folder: str, report: int) -> None:
        self._folder = folder
        self._report = report
        """Who waits to be told how a start went; -1 for nobody."""
        self._stopping = self._asked = False
        self._log = Log(f"{folder}/log", _LOG_SIZE, _LOG_FILES)
        self._address = ""
        """As the last server has said it."""
        self._listen = ""
        self._sockets: list[socket.socket] = []
        """Those that listen, also while there is no server, and what for."""
        self._serving: Server | None = None
        self._coming: Server | None = None
        self._leaving: list[Server] = []
        self._awaited: Server | None = None
        """The one that is to take no more connections before anybody is told that another serves."""
        self._restarts = 0
        self._delay = self._again = 0.0
        """The last pause before a start, and the moment of the next start; 0 for none."""
        self._wakes, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP):
            signal.signal(number, self._note)

    def _note(self, number: int, _: object) -> None:
        self._asked = self._asked or number == signal.SIGHUP
        self._stopping = self._stopping or number in (signal.SIGTERM, signal.SIGINT)

    def run(self) -> None:
        """Until SIGTERM, or until the first start fails."""
        self._start(_COMMAND)
        while self._servers() or self._again:
            self._turn()
        discard(f"{self._folder}/server.json")

    def _servers(self) -> list[Server]:
        return [one for one in (self._serving, self._coming, *self._leaving) if one]

    def _start(self, source: str) -> None:
        """Let a server of the command line in a file come."""
        try:
            with open(f"{self._folder}/{source}", "rb") as file:
                wanted = json.load(file)
            listen, listening = wanted["listen"], self._sockets
            if listen != self._listen:
                listening = sockets.listen(*sockets.parse(listen), beside=self._sockets)
            self._coming = Server(source, wanted["command"], listen, listening)
        except (SpecrunError, OSError, ValueError, LookupError) as error:
            self._tell({"error": str(error)})

    def _turn(self) -> None:
        """Hear what the servers say, and do what is due."""
        poll = select.poll()
        streams = {number: server for server in self._servers() for number in server.streams}
        for number in (*streams, self._wakes):
            poll.register(number, select.POLLIN)
        moments = [one for one in (self._again, *(server.limit for server in self._servers())) if one]
        patience = min(_LOOK, max(0.0, min(moments) - time.monotonic()) if moments else _LOOK)
        for number, _ in poll.poll(1000 * patience + 1):
            data = os.read(number, 65536)
            if number in streams:
                self._hear(streams[number], number, data)
        for server in self._servers():
            if server.limit and time.monotonic() > server.limit:
                server.process.kill()
        if self._stopping or not os.path.exists(f"{self._folder}/owner"):
            self._stop()
        elif self._asked:
            self._asked = False
            self._change()
        elif self._again and time.monotonic() >= self._again:
            self._again = 0.0
            self._restarts += 1
            self._start(_COMMAND)

    def _hear(self, server: Server, number: int, data: bytes) -> None:
        if not data:
            del server.streams[number]
            if not server.streams:
                self._bury(server)
            return
        self._log.write(server.streams[number], data)
        server.tail = (server.tail + data)[-4000:]
        if server.streams[number] != b"stdout":
            return
        if server is self._coming and data.startswith(_READY):
            self._promote(server, data.partition(b"\n")[0].removeprefix(_READY).decode("ascii", "replace"))
        elif server is self._awaited and data.startswith(_LEFT):
            self._leave()

    def _promote(self, server: Server, address: str) -> None:
        """The one that was coming serves now, and the one before it takes no more connections."""
        before, self._serving, self._coming, self._address = self._serving, server, None, address
        if server.source != _COMMAND:
            os.replace(f"{self._folder}/{server.source}", f"{self._folder}/{_COMMAND}")
            server.source = _COMMAND
        facts = {
            "pid": server.process.pid, "start_time": start_time(server.process.pid), "address": address,
            "restarts": self._restarts,
        }  # fmt: skip
        write_atomic(f"{self._folder}/server.json", json.dumps(facts).encode(), durable=False)
        if self._sockets is not server.sockets:
            sockets.close(self._sockets)
        self._sockets, self._listen, self._again = server.sockets, server.listen, 0.0
        self._awaited = before
        if before is None:
            self._leave()
        else:
            self._leaving.append(before)
            before.process.send_signal(signal.SIGUSR1)

    def _leave(self) -> None:
        """The one that served takes no more connections."""
        self._awaited = None
        self._tell({"address": self._address})

    def _change(self) -> None:
        """Somebody wants other options, and waits to be told."""
        try:
            report = os.open(f"{self._folder}/{ANSWER}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return  # nobody does any more
        if self._coming:  # whoever wanted that one has been killed, or it is what failed before
            self._coming.process.kill()
            self._leaving.append(self._coming)
            self._coming = None
        self._tell({"error": "it was changed again meanwhile"})
        self._report = report
        self._start(NEXT)

    def _bury(self, server: Server) -> None:
        """It has ended."""
        server.close()
        if server in self._leaving:
            self._leaving.remove(server)
            if server is self._awaited:
                self._leave()
            return
        if server is self._coming:
            self._coming = None
            if server.sockets is not self._sockets:
                sockets.close(server.sockets)
            self._tell({"error": server.tail.decode("utf-8", "replace").strip() or "the server ended at once"})
            if self._serving or not self._address:
                return
        else:
            self._serving = None
            discard(f"{self._folder}/server.json")
        self._delay = restarts.delay(self._delay, time.monotonic() - server.began)
        self._again = time.monotonic() + self._delay

    def _stop(self) -> None:
        """Listen no longer, and end them all."""
        self._again = 0.0
        sockets.close(self._sockets)
        for server in self._servers():
            sockets.close(server.sockets)
            if not server.limit:
                server.stop()

    def _tell(self, report: dict[str, Any]) -> None:
        if self._report >= 0:
            try:
                write_all(self._report, json.dumps(report).encode())
            except BrokenPipeError:
                pass  # who wanted to know has been killed
            os.close(self._report)
            self._report = -1


def main() -> None:
    """The keeper is nobody's child: whoever has started it may live on without looking after it."""
    folder, report = sys.argv[1], int(sys.argv[2])
    if os.fork():
        os._exit(0)
    os.umask(0o077)
    os.set_inheritable(report, False)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        with locked(f"{folder}/owner", wait=False) as owner:
            os.truncate(owner, 0)
            os.pwrite(owner, f"{os.getpid()} {start_time(os.getpid())}".encode(), 0)
            Keeper(folder, report).run()
    except BlockingIOError:
        write_all(report, json.dumps({"held": True}).encode())  # by another keeper, for whoever was before us


if __name__ == "__main__":
    main()
