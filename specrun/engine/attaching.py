"""Attaching to a container that runs: its output from now on, and its input, by way of its monitor."""

from __future__ import annotations

import os
import select

from specrun.engine.process import Feed
from specrun.errors import Conflict, SpecrunError
from specrun_runtime import channel, state
from specrun_runtime.fds import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.engine.container import Container

_CHUNK = 65536


class Attachment:
    """A visit at a container."""

    def __init__(self, container: Container) -> None:
        """Attach. Raises Conflict for a container that does not run."""
        if container.state.status != state.RUNNING:
            raise Conflict(
                "You cannot attach to a stopped container, start it first",
                hint=f"specrun start -a {container.name}",
            )
        self.tty = bool(container.config["Tty"])
        self._name = container.name
        self._ends: list[int] = []
        theirs: list[int] = []
        for _ in range(1 if self.tty else 2):
            mine, other = os.pipe2(os.O_CLOEXEC)
            self._ends.append(mine)
            theirs.append(other)
        try:
            self._channel = channel.connect(f"{container.directory}/attach")
            self._channel.send_many({"event": "attach"}, theirs)
            message, feed = self._channel.receive()
        except OSError as error:
            raise Conflict(f"container {container.name} can't be attached to: {error.strerror}") from error
        finally:
            for number in theirs:
                os.close(number)
        if message is None:
            raise Conflict(f"container {container.name} is not running")
        self._feed = Feed(feed)

    def relay(self, keys: bytes, *, typing: bool) -> int:
        """Between the caller's terminal and the container's; gives the exit status, 0 when it was left."""
        from specrun_runtime.relay import relay

        into = self._feed.number if typing else -1
        if relay(0, into, self._ends[0], 1, self._channel.fileno(), keys if typing else b""):
            return 0
        return self._result()

    def copy(self, source: int | None) -> int:
        """Copy `source` to its input and its outputs to 1 and 2 until it ends; gives the exit status."""
        poll = select.poll()
        sinks = dict(zip(self._ends, (1, 2), strict=True))
        for number in (*sinks, self._channel.fileno()):
            poll.register(number, select.POLLIN)
        if source is None or self._feed.number < 0:
            self._feed.close()
        else:
            poll.register(source, select.POLLIN)
        ended = False
        while not ended:
            ready = {number for number, _ in poll.poll()}
            for number in [number for number in sinks if number in ready]:
                data = os.read(number, _CHUNK)
                if not data:
                    poll.unregister(number)
                    del sinks[number]
                write_all(1 if number == self._ends[0] else 2, data)
            if source is not None and source in ready and not self._feed.pump(source):
                poll.unregister(source)
            ended = self._channel.fileno() in ready
        for number in sinks:
            os.set_blocking(number, False)
            try:
                while data := os.read(number, _CHUNK):
                    write_all(sinks[number], data)
            except BlockingIOError:
                continue
        return self._result()

    def _result(self) -> int:
        message, _ = self._channel.receive()
        if message is None:
            raise SpecrunError(f"the monitor of container {self._name} was killed")
        return int(message["status"])
