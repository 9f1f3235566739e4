"""Where a container's outputs go: from its pipes or terminal to the log, and to those who are attached."""

from __future__ import annotations

import os
import select

from specrun_runtime import channel
from specrun_runtime.channel import Channel
from specrun_runtime.fds import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from specrun_runtime import logfile

_CHUNK = 65536


class Sink:
    """Where an attached command gets a stream."""

    __slots__ = ("number", "owned", "pipeline")

    def __init__(self, number: int, *, pipeline: bool, owned: bool = False) -> None:
        self.number = number
        self.pipeline = pipeline
        """Whether a caller that reads no more closes the stream, so that `specrun run ... | head` ends."""
        self.owned = owned
        """Whether the descriptor is closed with it."""

    def put(self, data: bytes) -> bool:
        """Write; False when nobody reads any more."""
        try:
            write_all(self.number, data)
        except OSError:
            if self.owned:
                os.close(self.number)
            return False
        return True


class Output:
    """One stream of the container: from its pipe or terminal to the log and to those who are attached."""

    __slots__ = ("name", "reader", "sinks")

    def __init__(self, reader: int, name: bytes, sinks: list[Sink]) -> None:
        self.reader = reader
        self.name = name
        self.sinks = sinks

    def pump(self, log: logfile.Log | logfile.NoLog) -> bool:
        """Pass one chunk on; False at the end of the stream, or when a pipeline's reader has gone."""
        try:
            data = os.read(self.reader, _CHUNK)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != 5:  # EIO: the last of the terminal's users has gone
                raise
            return False
        if not data:
            return False
        log.write(self.name, data)
        for sink in self.sinks[:]:
            if not sink.put(data):
                self.sinks.remove(sink)
                if sink.pipeline:
                    return False
        return True


class Visitors:
    """Commands that attach to the container, by a socket in its folder, which only its owner can enter.

    A visitor sends one message with the descriptors that the outputs are to go to; it is told `attached`, with the
    writing end of the container's input if there is one, and `exited` at the end. Or it sends `orders` when it has
    written others, and is told `taken`; or `lend`, with what is to be 0 to 4 of a fork that does an errand.
    """

    def __init__(self, directory: str, poll: select.poll) -> None:
        self._poll = poll
        self._path = f"{directory}/attach"
        self._guests: dict[int, Channel] = {}
        self._listener = channel.listen(self._path)
        poll.register(self._listener, select.POLLIN)

    def __contains__(self, number: int) -> bool:
        return number == self._listener.fileno() or number in self._guests

    def heed(self, number: int) -> tuple[dict[str, Any] | None, list[int]]:
        """Let somebody in, or hear what a visitor says, with the descriptors that it sends."""
        if number == self._listener.fileno():
            guest = channel.accept(self._listener)
            self._guests[guest.fileno()] = guest
            self._poll.register(guest.fileno(), select.POLLIN)
            return None, []
        message, descriptors = self._guests[number].receive_many(5)
        if message is None:
            self._poll.unregister(number)
            self._guests.pop(number).close()
        return message, descriptors

    def send(self, number: int, message: dict[str, Any], descriptor: int = -1) -> None:
        """Tell one of them."""
        try:
            self._guests[number].send(message, descriptor)
        except OSError:
            pass  # gone; it is noticed as the end of what it says

    def close(self, message: dict[str, Any]) -> None:
        """Tell all of them, and let nobody in any more."""
        for number in self._guests:
            self.send(number, message)
            self._guests[number].close()
        self._guests.clear()
        self._listener.close()
        try:
            os.unlink(self._path)
        except OSError:
            pass  # gone with the folder
