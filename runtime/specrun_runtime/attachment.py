"""What holds a container to its networks while it lives, and letting go of it.

The engine writes `network.json` into the container's folder before it makes anything. Links need no care: they are in
the container's network namespace, and the kernel removes them with it. What the record names is what stays behind:
elements of nft sets (as the messages that remove them), processes that hold published ports, and addresses, each a
symbolic link to the container's id.
"""

from __future__ import annotations

import _signal
import fcntl
import os
import select

from specrun_runtime import jsontext, nft
from specrun_runtime.errors import IsolationError
from specrun_runtime.fds import open_process
from specrun_runtime.files import discard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FILE = "network.json"


def load(directory: str) -> dict[str, Any] | None:
    """The record in the container's folder; None when there is none."""
    try:
        with open(f"{directory}/{FILE}", "rb") as file:
            document = jsontext.loads(file.read())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def release(directory: str) -> None:
    """Let go of all that the record names; a container without one has nothing. May be repeated."""
    record = load(directory)
    if record is None:
        return
    stop_holders(record["holders"])
    lock = os.open(record["lock"], os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)  # whoever makes all rules anew has it alone
        for undo in record["rules"]:
            try:
                nft.commit(bytes.fromhex(undo), record.get("seen", ""))
            except IsolationError:
                continue  # somebody has removed our tables, and the elements with them; or it is another state's
        for path in record["leases"]:
            release_lease(path, record["id"])
        discard(f"{directory}/{FILE}")
    finally:
        os.close(lock)


def release_lease(path: str, identity: str) -> None:
    """Free an address, if the container still has it."""
    try:
        if os.readlink(path) == identity:
            os.unlink(path)
    except (FileNotFoundError, NotADirectoryError):
        pass


def stop_holders(holders: list[list[int]]) -> None:
    """End the processes, each a pid and a start time, and wait until their ports are free."""
    handles = [handle for pid, started in holders if (handle := open_process(pid, started)) is not None]
    for handle in handles:
        try:
            _signal.pidfd_send_signal(handle, _signal.SIGKILL)
        except ProcessLookupError:
            pass
    for handle in handles:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        poll.poll(2000)
        os.close(handle)
