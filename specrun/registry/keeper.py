"""Keeps a registry running after the command that started it has ended: `python -m specrun.registry.keeper FOLDER FD`.

The folder has `command.json`, the server's command line, and gets `owner`, which is locked while the keeper lives and
holds its pid and start time; `server.json`, the process that serves now; and `log`, like that of a container. FD is
told how the first start went. A server that ends by itself is started again, as a container is that always restarts.
SIGTERM ends both.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time

from specrun.files import discard, locked, write_atomic
from specrun_runtime import libc, restarts
from specrun_runtime.constants import Prctl
from specrun_runtime.fds import start_time, write_all
from specrun_runtime.logfile import Log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STOP = 40.0
"""Seconds that the server has to end in; it gives its own clients 30."""
_LOG_SIZE, _LOG_FILES = 10 << 20, 3
_READY = b"listening on "


class Keeper:
    """One server at a time, again and again."""

    def __init__(self, folder: str, report: int) -> None:
        self._folder = folder
        self._report = report
        self._stopping = False
        self._log = Log(f"{folder}/log", _LOG_SIZE, _LOG_FILES)
        self._tail = b""
        self._restarts = 0
        self._wakes, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, self._note)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _note(self, number: int, _: object) -> None:
        self._stopping = self._stopping or number != signal.SIGCHLD

    def run(self) -> None:
        """Until SIGTERM, or until the first start fails."""
        delay = 0.0
        while not self._stopping:
            began = time.monotonic()
            self._serve()
            discard(f"{self._folder}/server.json")
            if self._report >= 0:
                self._tell({"error": self._tail.decode("utf-8", "replace").strip() or "the server ended at once"})
                return
            delay = restarts.delay(delay, time.monotonic() - began)
            self._restarts += 1
            self._pause(delay)

    def _serve(self) -> None:
        with open(f"{self._folder}/command.json", "rb") as file:
            command = json.load(file)["command"]
        parent = os.getpid()

        def die_with_us() -> None:
            libc.prctl(Prctl.SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(1)

        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=die_with_us
        ) as server:
            self._follow(server)

    def _follow(self, server: subprocess.Popen[bytes]) -> None:
        """Until the server has ended."""
        assert server.stdout and server.stderr  # noqa: S101 - they were asked for
        names = {server.stdout.fileno(): b"stdout", server.stderr.fileno(): b"stderr"}
        poll = select.poll()
        for descriptor in (*names, self._wakes):
            poll.register(descriptor, select.POLLIN)
        limit = 0.0
        while names:
            if self._stopping and not limit:
                server.terminate()
                limit = time.monotonic() + STOP
            elif limit and time.monotonic() > limit:
                server.kill()
            for descriptor, _ in poll.poll(1000 if limit else None):
                data = os.read(descriptor, 65536)
                if descriptor == self._wakes:
                    continue
                if not data:
                    poll.unregister(descriptor)
                    del names[descriptor]
                    continue
                self._hear(server.pid, names[descriptor], data)

    def _hear(self, pid: int, stream: bytes, data: bytes) -> None:
        self._log.write(stream, data)
        self._tail = (self._tail + data)[-4000:]
        if stream == b"stdout" and data.startswith(_READY):
            address = data.partition(b"\n")[0].removeprefix(_READY).decode("ascii", "replace")
            facts = {"pid": pid, "start_time": start_time(pid), "address": address, "restarts": self._restarts}
            write_atomic(f"{self._folder}/server.json", json.dumps(facts).encode(), durable=False)
            self._tell({"address": address})

    def _tell(self, report: dict[str, Any]) -> None:
        if self._report >= 0:
            try:
                write_all(self._report, json.dumps(report).encode())
            except BrokenPipeError:
                pass  # who wanted to know has been killed
            os.close(self._report)
            self._report = -1
            self._tail = b""

    def _pause(self, seconds: float) -> None:
        limit = time.monotonic() + seconds
        while not self._stopping and (left := limit - time.monotonic()) > 0:
            if select.select([self._wakes], [], [], left)[0]:
                os.read(self._wakes, 65536)


def main() -> None:
    """The keeper is nobody's child: whoever has started it may live on without looking after it."""
    folder, report = sys.argv[1], int(sys.argv[2])
    if os.fork():
        os._exit(0)
    os.umask(0o077)
    os.set_inheritable(report, False)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    with locked(f"{folder}/owner", wait=False) as owner:
        os.truncate(owner, 0)
        os.pwrite(owner, f"{os.getpid()} {start_time(os.getpid())}".encode(), 0)
        Keeper(folder, report).run()


if __name__ == "__main__":
    main()
