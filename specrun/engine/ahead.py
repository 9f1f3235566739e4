"""The monitor of a container that is to be started, spawned before anything else.

Its interpreter takes as long to be ready as a command takes to load the engine and to write the container's records: so
both are done at once. It is asked when all is there, or dropped.
"""

from __future__ import annotations

import os

from specrun_runtime import launch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.paths import Root


def attached_streams(detached: bool, attach: list[str], interactive: bool) -> list[str]:
    """The streams that whoever starts a container is attached to: those of `attach`, or those that make sense."""
    if detached:
        return []
    return attach or ["stdout", "stderr", *(["stdin"] if interactive else [])]


class Ahead:
    """A monitor with the container's standard streams; `feed` is the writing end of its stdin, or -1."""

    __slots__ = ("feed", "monitor")

    def __init__(self, root: Root, interactive: bool, stdout: int | None, stderr: int | None) -> None:
        """None for a stream leaves it to the log alone."""
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        reader, self.feed = os.pipe2(os.O_CLOEXEC) if interactive else (null, -1)
        try:
            out, err = (null if stream is None else stream for stream in (stdout, stderr))
            self.monitor = launch.spawn(reader, out, err, label=root.id, supervisor=True)
        except BaseException:
            self._close_feed()
            raise
        finally:
            os.close(null)
            if reader != null:
                os.close(reader)

    def drop(self) -> None:
        """See it off; nothing was asked of it."""
        self.monitor.reap()
        self._close_feed()

    def _close_feed(self) -> None:
        if self.feed >= 0:
            os.close(self.feed)
            self.feed = -1
