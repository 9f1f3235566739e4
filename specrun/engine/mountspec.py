"""Mounts as Docker's users write them (`-v`, `--mount`, `--tmpfs`): from text to values, with Docker's error texts."""

from __future__ import annotations

import os
import posixpath

from specrun.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

BIND, VOLUME, TMPFS = "bind", "volume", "tmpfs"
PROPAGATIONS = frozenset("private rprivate shared rshared slave rslave".split())
_CONSISTENCIES = frozenset("consistent cached delegated".split())
_TMPFS_FLAGS = frozenset(
    "ro rw exec noexec suid nosuid dev nodev sync async atime noatime diratime nodiratime relatime norelatime "
    "strictatime nostrictatime dirsync mand nomand".split()
)
_TMPFS_VALUES = frozenset("mode uid gid nr_inodes nr_blocks size mpol".split())
_FORBIDDEN = ("/proc", "/sys")
_ALLOWED = frozenset(f"/proc/{name}" for name in "cpuinfo diskstats meminfo stat swaps uptime loadavg slabinfo".split())
"""Files of /proc that tell how much of the machine the container has."""


class MountRequest:
    """One mount that is asked for. `kind` is bind, volume or tmpfs; an empty `source` of a volume is an anonymous one.

    `target` is absolute and clean. `create` says that a missing source of a bind is made, as `-v` has it.
    """

    __slots__ = (
        "create", "driver", "driver_options", "kind", "labels", "mode", "no_copy", "non_recursive", "propagation",
        "read_only", "source", "target", "text", "tmpfs_options",
    )  # fmt: skip

    def __init__(
        self,
        kind: str,
        source: str,
        target: str,
        *,
        read_only: bool = False,
        propagation: str = "",
        no_copy: bool = False,
        labels: dict[str, str] | None = None,
        driver_options: dict[str, str] | None = None,
        tmpfs_options: list[str] | None = None,
        create: bool = False,
    ) -> None:
        self.kind = kind
        self.source = source
        self.target = target
        self.read_only = read_only
        self.propagation = propagation
        self.no_copy = no_copy
        """Whether an empty volume stays empty instead of beginning with what the image has there."""
        self.non_recursive = False
        self.labels = labels or {}
        self.driver = ""
        self.driver_options = driver_options or {}
        self.tmpfs_options = tmpfs_options or []
        self.create = create
        self.mode = ""
        """The mode of a `-v`, as `inspect` shows it."""
        self.text = ""
        """The `-v` or `--tmpfs` that asked for it; "" for a `--mount`."""

    def check(self) -> None:
        """Refuse what can't be mounted so. Raises UsageError with Docker's words."""
        where = _where(self.kind)
        if self.kind not in (BIND, VOLUME, TMPFS):
            raise UsageError(f"{where}mount type unknown", hint="expected bind, volume or tmpfs")
        if self.kind == TMPFS and self.source:
            raise UsageError(f"{where}field Source must not be specified")
        if self.kind == BIND and not self.source:
            raise UsageError(f"{where}field Source must not be empty")
        if not self.target:
            raise UsageError(f"{where}field Target must not be empty")
        if self.kind == BIND and not self.source.startswith("/"):
            raise UsageError(f"{where}invalid mount path: '{self.source}' mount path must be absolute")
        check_target(self.target, where)
        if self.propagation and self.propagation not in PROPAGATIONS:
            raise UsageError(f"{where}invalid propagation mode: {self.propagation}")
        if self.kind == VOLUME and self.target == "/dev":
            raise UsageError(f"{where}a volume on /dev would let containers share their devices")
        if self.kind == BIND and not self.create and not os.path.lexists(self.source):
            raise UsageError(f"{where}bind source path does not exist: {self.source}")
        if "\0" in self.source or "\0" in self.target or "\n" in self.target:
            raise UsageError(f"{where}a path holds a control character")

    def document(self) -> dict[str, Any]:
        """As `HostConfig.Mounts` of `docker inspect` shows a `--mount`."""
        document: dict[str, Any] = {"Type": self.kind}
        if self.source:
            document["Source"] = self.source
        document["Target"] = self.target
        if self.read_only:
            document["ReadOnly"] = True
        if self.kind == BIND and (self.propagation or self.non_recursive):
            options: dict[str, Any] = {"Propagation": self.propagation} if self.propagation else {}
            document["BindOptions"] = {**options, **({"NonRecursive": True} if self.non_recursive else {})}
        if self.kind == VOLUME and (self.no_copy or self.labels or self.driver or self.driver_options):
            document["VolumeOptions"] = {
                **({"NoCopy": True} if self.no_copy else {}),
                **({"Labels": self.labels} if self.labels else {}),
                "DriverConfig": {
                    **({"Name": self.driver} if self.driver else {}),
                    **({"Options": self.driver_options} if self.driver_options else {}),
                },
            }
        if self.kind == TMPFS and self.tmpfs_options:
            values = dict(option.partition("=")[::2] for option in self.tmpfs_options)
            document["TmpfsOptions"] = {
                **({"SizeBytes": int(values["size"])} if "size" in values else {}),
                **({"Mode": int(values["mode"], 8)} if "mode" in values else {}),
            }
        return document


def check_target(target: str, where: str = "") -> None:
    """Refuse a mount point that is no absolute path, the root, or in /proc or /sys."""
    if not target.startswith("/"):
        raise UsageError(f"{where}invalid mount path: '{target}' mount path must be absolute")
    if clean(target) == "/":
        raise UsageError(f"{where}invalid specification: destination can't be '/'")
    for folder in _FORBIDDEN:
        if (clean(target) + "/").startswith(folder + "/") and clean(target) not in _ALLOWED:
            raise UsageError(
                f"{where}invalid mount path: '{target}' is inside {folder}, where nothing may be mounted",
                hint="programs trust what they find there: mount it somewhere else",
            )


def parse_volume(text: str) -> MountRequest:
    """`-v [SOURCE:]TARGET[:MODE]`. Raises UsageError with Docker's words."""
    if not text:
        raise UsageError("invalid empty volume spec")
    parts = text.split(":")
    if "" in parts:
        raise UsageError(f"invalid spec: {text}: empty section between colons")
    if len(parts) > 3:
        raise UsageError(f"invalid volume specification: '{text}'", hint="expected [SOURCE:]TARGET[:MODE]")
    if len(parts) == 1:
        request = MountRequest(VOLUME, "", parts[0])
    else:
        source = os.path.abspath(parts[0]) if parts[0].startswith(".") else parts[0]
        kind = BIND if source.startswith("/") else VOLUME
        request = MountRequest(kind, posixpath.normpath(source) if kind == BIND else source, parts[1], create=True)
    if len(parts) == 3:
        _apply_mode(request, parts[2])
    request.text = text
    try:
        if request.propagation and request.kind == VOLUME:
            raise UsageError(f"{_where(VOLUME)}field BindOptions must not be specified")
        if request.no_copy and request.kind == BIND:
            raise UsageError(f"{_where(BIND)}field VolumeOptions must not be specified")
        request.check()
    except UsageError as error:
        error.message = f"invalid volume specification: '{text}': {error.message}"
        raise
    request.target = clean(request.target)
    return request


def parse_mount(text: str) -> MountRequest:
    """`--mount type=...,source=...,target=...`. Raises UsageError with Docker's words."""

    def wrong(message: str, hint: str = "") -> UsageError:
        return UsageError(f'invalid argument "{text}" for "--mount" flag: {message}', hint=hint)

    if not text:
        raise wrong("EOF", "expected type=TYPE,source=SOURCE,target=TARGET")
    request = MountRequest(VOLUME, "", "")
    given: set[str] = set()
    for field in _fields(text):
        key, equals, value = field.partition("=")
        key = key.strip().lower()
        if not equals and key not in ("readonly", "ro", "volume-nocopy", "bind-nonrecursive"):
            raise wrong(f"invalid field '{field}' must be a key=value pair")
        given.add(key.partition("-")[0] if "-" in key else "")
        if key == "type":
            request.kind = value.lower()
        elif key in ("source", "src"):
            request.source = os.path.abspath(value) if value.startswith(".") else value
        elif key in ("target", "dst", "destination"):
            request.target = value
        elif key in ("readonly", "ro", "volume-nocopy", "bind-nonrecursive"):
            answer = _boolean(value) if equals else True
            if answer is None:
                raise wrong(f"invalid value for {key}: {value}", "expected true or false")
            slot = {"volume-nocopy": "no_copy", "bind-nonrecursive": "non_recursive"}.get(key, "read_only")
            setattr(request, slot, answer)
        elif key == "consistency":
            pass  # Docker Desktop's; means nothing on Linux
        elif key == "bind-propagation":
            request.propagation = value.lower()
        elif key in ("volume-label", "volume-opt"):
            name, _, content = value.partition("=")
            (request.labels if key == "volume-label" else request.driver_options)[name] = content
        elif key == "volume-driver":
            request.driver = value
        elif key == "tmpfs-size":
            size = _bytes(value)
            if size is None:
                raise wrong(f"invalid value for {key}: {value}", "expected bytes, or a number with k, m or g")
            request.tmpfs_options.append(f"size={size}")
        elif key == "tmpfs-mode":
            if not value or not set(value) <= set("01234567") or len(value) > 5:
                raise wrong(f"invalid value for {key}: {value}", "expected an octal number such as 1777")
            request.tmpfs_options.append(f"mode={value}")
        else:
            raise wrong(f"unexpected key '{key}' in '{field}'", "README.md names the keys")
    if not request.kind:
        raise wrong("type is required")
    if not request.target:
        raise wrong("target is required")
    for prefix in (BIND, VOLUME, TMPFS):
        if prefix in given and request.kind != prefix:
            raise wrong(f"cannot mix '{prefix}-*' options with mount type '{request.kind}'")
    request.check()
    request.target = clean(request.target)
    if request.kind == BIND:
        request.source = posixpath.normpath(request.source)
    return request


def parse_tmpfs(text: str) -> MountRequest:
    """`--tmpfs TARGET[:OPTIONS]`. Raises UsageError with Docker's words."""
    target, _, options = text.partition(":")
    check_target(target)
    words = [word for word in options.split(",") if word]
    for word in words:
        key, equals, value = word.partition("=")
        known = key in _TMPFS_VALUES and value if equals else key in _TMPFS_FLAGS
        if not known:
            raise UsageError(f'invalid tmpfs option ["{word}"]')
    request = MountRequest(TMPFS, "", clean(target), tmpfs_options=words)
    request.text = text
    return request


def parse_volumes_from(text: str) -> tuple[str, bool]:
    """`--volumes-from CONTAINER[:ro|rw]`: the container, and whether all is to be read-only."""
    name, _, mode = text.partition(":")
    if not name:
        raise UsageError(f"invalid volumes-from specification: {text}", hint="expected CONTAINER[:ro|rw]")
    words = set(mode.split(",")) if mode else set()
    if words - {"ro", "rw", "z", "Z"} or words >= {"ro", "rw"}:
        raise UsageError(f"invalid mode: {mode}")
    return name, "ro" in words


def clean(path: str) -> str:
    """The path without `.`, `..` and double slashes, by its text alone; an absolute one stays absolute."""
    return posixpath.normpath("/" + path.lstrip("/")) if path.startswith("/") else path


def _apply_mode(request: MountRequest, mode: str) -> None:
    seen: set[str] = set()
    for word in mode.split(","):
        if word in ("ro", "rw"):
            kind, request.read_only = "access", word == "ro"
        elif word in ("z", "Z"):
            kind = "label"  # SELinux's; accepted where there is none, as Docker does
        elif word == "nocopy":
            kind, request.no_copy = "copy", True
        elif word in PROPAGATIONS:
            kind, request.propagation = "propagation", word
        elif word in _CONSISTENCIES:
            kind = "consistency"
        else:
            kind = ""
        if not kind or kind in seen:
            raise UsageError(f"invalid mode: {mode}", hint="expected ro, rw, z, Z, nocopy or a propagation")
        seen.add(kind)
    request.mode = mode


def _where(kind: str) -> str:
    return f'invalid mount config for type "{kind}": '


def _fields(text: str) -> list[str]:
    if '"' not in text:
        return text.split(",")
    import csv

    return next(csv.reader([text]))


def _boolean(value: str) -> bool | None:
    return {"true": True, "1": True, "t": True, "false": False, "0": False, "f": False}.get(value.lower())


def _bytes(text: str) -> int | None:
    digits = text.lower().removesuffix("b").removesuffix("i")
    shift = {"k": 10, "m": 20, "g": 30, "t": 40}.get(digits[-1:], 0)
    digits = digits[:-1] if shift else digits
    if not digits.isascii() or not digits.isdigit() or len(digits) > 15:
        return None
    return int(digits) << shift
