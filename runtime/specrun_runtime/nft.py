"""Speaking to nftables: tables and chains by scripts of nft(8), elements of sets and maps by messages of our own.

Either way all of it happens or nothing. A start and an end of a container change elements only, whose messages have
a fixed layout (linux/netfilter/nf_tables.h); nft(8) takes 4 ms of processor time to say the same.
"""

from __future__ import annotations

import os

from specrun_runtime import netlink
from specrun_runtime.errors import IsolationError
from specrun_runtime.fds import write_all
from specrun_runtime.netlink import Netlink, attribute, nested

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

FAMILIES = {"inet": 1, "bridge": 7}
SUBSYSTEM = 10
_BATCH_BEGIN, _BATCH_END, _NEWSETELEM, _DELSETELEM = 16, 17, SUBSYSTEM << 8 | 12, SUBSYSTEM << 8 | 14
_GETGEN, _GENERATION = SUBSYSTEM << 8 | 16, 1
_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS, _LIST_ELEMENT = 1, 2, 3, 1
_ELEMENT_KEY, _ELEMENT_DATA, _DATA_VALUE = 1, 2, 1
FOLDERS = ("/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin")


class NftFailed(IsolationError):
    """nftables refused something: `reason` is what nft or the kernel said about it."""

    reason = ""

    def __str__(self) -> str:
        return f"nft: {self.reason}"


def program() -> str | None:
    """The path of nft; None when it is not installed."""
    for folder in FOLDERS:
        if os.access(f"{folder}/nft", os.X_OK):
            return f"{folder}/nft"
    return None


class Script:
    """A script that is being executed by a process of its own."""

    __slots__ = ("_errors", "_pid")

    def __init__(self, text: str) -> None:
        """Start it. Raises IsolationError when there is no nft."""
        path = program()
        if path is None:
            raise IsolationError.of(2, "execve", "nft (the package nftables is not installed)")
        source = os.memfd_create("specrun-nft", os.MFD_CLOEXEC)
        self._errors = os.memfd_create("specrun-nft-errors", os.MFD_CLOEXEC)
        try:
            write_all(source, text.encode())
            os.lseek(source, 0, os.SEEK_SET)
            moves = [(source, 0), (self._errors, 1), (self._errors, 2)]
            actions = [(os.POSIX_SPAWN_DUP2, source, target) for source, target in moves]
            self._pid = os.posix_spawn(path, ["nft", "-f", "-"], {"LC_ALL": "C"}, file_actions=actions)
        except OSError:
            os.close(self._errors)
            raise
        finally:
            os.close(source)

    def wait(self) -> None:
        """Wait for its end. Raises NftFailed; then nothing of it was done."""
        try:
            status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
            if status:
                error = NftFailed(22, "refused")
                error.reason = os.pread(self._errors, 2000, 0).decode("utf-8", "replace").strip()
                raise error
        finally:
            os.close(self._errors)


def apply(text: str) -> None:
    """Execute a script. Raises NftFailed, and IsolationError when there is no nft."""
    Script(text).wait()


class Element:
    """One element of a set, or of a map: `key` and `value` as the kernel has them, each part padded to four bytes."""

    __slots__ = ("family", "key", "set", "table", "value")

    def __init__(self, family: str, table: str, name: str, key: bytes, value: bytes = b"") -> None:
        self.family = family
        self.table = table
        self.set = name
        self.key = key
        self.value = value

    def _message(self, kind: int, flags: int, sequence: int) -> bytes:
        parts = [nested(_ELEMENT_KEY, attribute(_DATA_VALUE, self.key))]
        if self.value:
            parts.append(nested(_ELEMENT_DATA, attribute(_DATA_VALUE, self.value)))
        body = bytes([FAMILIES[self.family], 0, 0, 0])
        body += netlink.text(_LIST_TABLE, self.table) + netlink.text(_LIST_SET, self.set)
        body += nested(_LIST_ELEMENTS, nested(_LIST_ELEMENT, *parts))
        return netlink.message(kind, flags, sequence, body)


def transaction(removed: Iterable[Element], added: Iterable[Element]) -> bytes:
    """The messages that take elements away and then add others; b"" when there is nothing to do.

    What is to go is added first, so that nothing can be missing: one missing element would undo all of it.
    """
    removed = list(removed)
    changes = [(element, _NEWSETELEM) for element in removed]
    changes += [(element, _DELSETELEM) for element in removed]
    changes += [(element, _NEWSETELEM) for element in added]
    if not changes:
        return b""
    head = bytes([0, 0, 0, SUBSYSTEM])
    batch = [netlink.message(_BATCH_BEGIN, netlink.REQUEST, 0, head)]
    for number, (element, kind) in enumerate(changes, 1):
        flags = netlink.REQUEST | (netlink.CREATE if kind == _NEWSETELEM else 0)
        batch.append(element._message(kind, flags | (netlink.ACK if number == len(changes) else 0), number))
    batch.append(netlink.message(_BATCH_END, netlink.REQUEST, len(changes) + 1, head))
    return b"".join(batch)


def commit(batch: bytes, seen: str = "") -> None:
    """Have the kernel do what `transaction` gave. Raises NftFailed; then nothing of it was done.

    `seen` is the file that says when all of our rules were last seen to be there: they are there afterwards as well,
    when this was the only change.
    """
    if not batch:
        return
    try:
        with Netlink(netlink.NETFILTER) as kernel:
            before = generation(kernel) if seen else 0
            kernel.send_together(batch)
            if seen and is_seen(seen, before) and generation(kernel) == before + 1:
                see(seen, before + 1)
    except OSError as error:
        failed = NftFailed(error.errno or 5, "refused")
        failed.reason = os.strerror(error.errno or 5)
        raise failed from error


def generation(kernel: Netlink) -> int:
    """How often any rule of the kernel's network namespace was changed."""
    (answer,) = kernel.ask(_GETGEN, bytes(4))
    return int.from_bytes(netlink.attributes(answer, 4)[_GENERATION], "big")


def is_seen(file: str, count: int) -> bool:
    """Whether `file` says that all of our rules were there at this generation of this network namespace."""
    try:
        with open(file, "rb") as opened:
            return opened.read() == _stamp(count)
    except FileNotFoundError:
        return False


def see(file: str, count: int) -> None:
    """Say so. Its loss costs nothing but another look."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.write(descriptor, _stamp(count))  # always as long: to cut the file first would wait for the disk
    finally:
        os.close(descriptor)


def _stamp(count: int) -> bytes:
    return b"%20d %10d\n" % (os.stat("/proc/thread-self/ns/net").st_ino, count)
