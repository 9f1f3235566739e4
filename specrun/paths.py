"""Where the state lives. Two roots on one host do not see each other: kernel objects carry the root's id."""

from __future__ import annotations

import os

from specrun.errors import SpecrunError
from specrun.files import write_atomic

NAME = "[a-zA-Z0-9][a-zA-Z0-9_.-]*"
"""What names of containers, images' layers and specs may look like."""

_FIRST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_REST = _FIRST | frozenset("_.-")


def is_name(text: str) -> bool:
    """Whether `text` may be used as a name, and so as one component of a path."""
    return 0 < len(text) <= 128 and text[0] in _FIRST and _REST.issuperset(text)


class Root:
    """One state folder: `path` survives a reboot, `run` does not need to."""

    __slots__ = ("id", "path", "run")

    def __init__(self, path: str, run: str, identity: str) -> None:
        self.path = path
        self.run = run
        self.id = identity
        """Eight hexadecimal digits, in the name of every kernel object made for this root."""

    @property
    def oci(self) -> str:
        """An OCI image layout: index.json, oci-layout, blobs/sha256/."""
        return f"{self.path}/oci"

    @property
    def layers(self) -> str:
        """Unpacked layers: layers/<diff-id-hex>/fs."""
        return f"{self.path}/layers"

    @property
    def containers(self) -> str:
        """containers/<id>/ with the records, the log and the writable layer."""
        return f"{self.path}/containers"

    @property
    def names(self) -> str:
        """names/<name>: a symbolic link whose text is the id of the container that has the name."""
        return f"{self.path}/names"

    @property
    def networks(self) -> str:
        """networks/<id>/ with the record of a network and the addresses that are given out in it."""
        return f"{self.path}/networks"

    @property
    def projects(self) -> str:
        """projects/<name>.json: what `apply` made, by spec."""
        return f"{self.path}/projects"

    @property
    def registries(self) -> str:
        """registries/<project>/<name>/ of registries that specs keep running."""
        return f"{self.path}/registries"

    @property
    def filters(self) -> str:
        """Compiled seccomp filters, by the digest of their rules."""
        return f"{self.path}/filters"

    @property
    def events(self) -> str:
        """The log of events (specrun_runtime.eventlog)."""
        return f"{self.path}/events"

    @property
    def volumes(self) -> str:
        """volumes/<name>/_data, and what is known of each beside it."""
        return f"{self.path}/volumes"

    @property
    def trash(self) -> str:
        """What is being removed: moved here first, so that it is gone from its place at once."""
        return f"{self.path}/trash"

    def lock(self, name: str) -> str:
        """The path of the lock file called `name`."""
        return f"{self.path}/locks/{name}"


def default_path() -> str:
    """`$SPECRUN_ROOT`, else /var/lib/specrun for root, else below `$XDG_DATA_HOME`."""
    if chosen := os.environ.get("SPECRUN_ROOT"):
        return chosen
    if os.geteuid() == 0:
        return "/var/lib/specrun"
    return os.path.join(os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share"), "specrun")


def default_run() -> str:
    """`$SPECRUN_RUN`, else /run/specrun for root, else below `$XDG_RUNTIME_DIR`."""
    if chosen := os.environ.get("SPECRUN_RUN"):
        return chosen
    if os.geteuid() == 0:
        return "/run/specrun"
    return os.path.join(os.environ.get("XDG_RUNTIME_DIR") or f"/tmp/specrun-{os.geteuid()}", "specrun")


def open_root(path: str | None = None) -> Root:
    """The root at `path` (or the default one), made on first use.

    Raises SpecrunError when the folder cannot be made or is not ours to use.
    """
    where = os.path.abspath(path or default_path())
    identity_file = f"{where}/id"
    try:
        with open(identity_file, encoding="ascii") as file:
            identity = file.read().strip()
    except FileNotFoundError:
        identity = _make(where, identity_file)
    except OSError as error:
        raise SpecrunError(
            f"cannot use the state folder {where}: {error.strerror}",
            hint="run as root, or name another folder with --root or $SPECRUN_ROOT",
        ) from error
    if len(identity) != 8 or not set(identity) <= set("0123456789abcdef"):
        raise SpecrunError(f"{identity_file} does not hold a root id", hint="is this folder specrun's?")
    return Root(where, f"{default_run()}/{identity}", identity)


def peek_root(path: str | None = None) -> Root | None:
    """The root at `path` if it exists; never makes one (for `plan`, which writes nothing)."""
    where = os.path.abspath(path or default_path())
    return open_root(where) if os.path.exists(f"{where}/id") else None


def _make(where: str, identity_file: str) -> str:
    try:
        os.makedirs(where, mode=0o700, exist_ok=True)
        for folder in ("containers", "names", "layers", "locks", "oci", "projects", "trash"):
            os.makedirs(f"{where}/{folder}", mode=0o700, exist_ok=True)
        draft = f"{identity_file}.{os.urandom(6).hex()}"
        write_atomic(draft, os.urandom(4).hex().encode())
        try:
            os.link(draft, identity_file)  # the first of two commands at once wins, and both see its id
        except FileExistsError:
            pass
        finally:
            os.unlink(draft)
    except OSError as error:
        raise SpecrunError(
            f"cannot make the state folder {where}: {error.strerror}",
            hint="run as root, or name another folder with --root or $SPECRUN_ROOT",
        ) from error
    with open(identity_file, encoding="ascii") as file:
        return file.read().strip()
