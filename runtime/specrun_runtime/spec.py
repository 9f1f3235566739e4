"""config.json of the OCI runtime specification, as values; what is not implemented is refused by name.

Plain classes instead of dataclasses: the monitor parses one of these at each start, and importing dataclasses
takes longer than all of the container's set-up.
"""

from __future__ import annotations

from specrun_runtime import capabilities, rlimits
from specrun_runtime.errors import SpecError, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VERSION = "1.2.0"

NAMESPACES = ("pid", "network", "mount", "ipc", "uts", "cgroup")


class Process:
    """`process`: what runs, as whom and where."""

    __slots__ = (
        "ambient",
        "args",
        "bounding",
        "cwd",
        "effective",
        "env",
        "gid",
        "groups",
        "inheritable",
        "no_new_privileges",
        "oom_score_adj",
        "permitted",
        "rlimits",
        "uid",
        "umask",
    )

    def __init__(self, document: dict[str, Any]) -> None:
        _only(
            document,
            "process",
            "args cwd env user capabilities rlimits noNewPrivileges oomScoreAdj terminal consoleSize",
        )
        if document.get("terminal"):
            raise Unsupported("process.terminal", "terminals are not supported yet")
        self.args: list[str] = _strings(document, "args", "process")
        if not self.args:
            raise SpecError("process.args", "is empty, expected a command")
        self.env: list[str] = _strings(document, "env", "process")
        self.cwd: str = document.get("cwd", "/")
        if not self.cwd.startswith("/"):
            raise SpecError("process.cwd", f"{self.cwd!r} is not an absolute path")
        user = document.get("user", {})
        _only(user, "process.user", "uid gid umask additionalGids")
        self.uid = _number(user, "uid", "process.user")
        self.gid = _number(user, "gid", "process.user")
        self.umask = _number(user, "umask", "process.user", 0o022)
        self.groups: list[int] = list(user.get("additionalGids", []))
        sets = document.get("capabilities", {})
        self.bounding, self.effective, self.permitted, self.inheritable, self.ambient = (
            capabilities.mask(sets.get(name, []), f"process.capabilities.{name}")
            for name in ("bounding", "effective", "permitted", "inheritable", "ambient")
        )
        self.rlimits: list[tuple[str, int, int]] = []
        for index, limit in enumerate(document.get("rlimits", [])):
            field = f"process.rlimits[{index}]"
            rlimits.number(limit.get("type", ""), f"{field}.type")
            self.rlimits.append((limit["type"], _number(limit, "soft", field), _number(limit, "hard", field)))
        self.no_new_privileges = bool(document.get("noNewPrivileges", False))
        self.oom_score_adj: int | None = document.get("oomScoreAdj")


class Mount:
    """One of `mounts`."""

    __slots__ = ("destination", "field", "options", "source", "type")

    def __init__(self, document: dict[str, Any], field: str) -> None:
        _only(document, field, "destination type source options")
        self.field = field
        self.destination: str = document.get("destination", "")
        if not self.destination.startswith("/"):
            raise SpecError(f"{field}.destination", f"{self.destination!r} is not an absolute path")
        self.options: list[str] = _strings(document, "options", field)
        bound = "bind" in self.options or "rbind" in self.options
        self.type: str = "bind" if bound else document.get("type", "bind")
        self.source: str = document.get("source", self.type)


class Namespace:
    """One of `linux.namespaces`: to be made, or to be joined by `path`."""

    __slots__ = ("path", "type")

    def __init__(self, document: dict[str, Any], field: str) -> None:
        _only(document, field, "type path")
        self.type: str = document.get("type", "")
        if self.type in ("user", "time"):
            raise Unsupported(f"{field}.type", f"{self.type} namespaces are not supported yet")
        if self.type not in NAMESPACES:
            raise SpecError(f"{field}.type", f"{self.type!r} is not a namespace")
        self.path: str = document.get("path", "")
        if self.path:
            raise Unsupported(f"{field}.path", "joining a namespace is not supported yet")


class Spec:
    """A whole config.json."""

    __slots__ = (
        "annotations",
        "cgroups_path",
        "domainname",
        "hostname",
        "masked_paths",
        "mounts",
        "namespaces",
        "process",
        "readonly_paths",
        "readonly_root",
        "resources",
        "root",
        "sysctl",
    )

    def __init__(self, document: dict[str, Any]) -> None:
        _only(document, "", "ociVersion process root hostname domainname mounts annotations linux hooks")
        if document.get("hooks"):
            raise Unsupported("hooks", "hooks are not supported yet")
        if not str(document.get("ociVersion", "")).startswith("1."):
            raise SpecError("ociVersion", f"found {document.get('ociVersion')!r}, expected 1.x")
        self.process = Process(document.get("process", {}))
        root = document.get("root", {})
        _only(root, "root", "path readonly")
        self.root: str = root.get("path", "")
        self.readonly_root = bool(root.get("readonly", False))
        self.hostname: str = document.get("hostname", "")
        self.domainname: str = document.get("domainname", "")
        self.mounts = [Mount(mount, f"mounts[{index}]") for index, mount in enumerate(document.get("mounts", []))]
        self.annotations: dict[str, str] = document.get("annotations", {})
        linux = document.get("linux", {})
        _only(linux, "linux", "namespaces maskedPaths readonlyPaths resources cgroupsPath sysctl")
        self.namespaces = [
            Namespace(namespace, f"linux.namespaces[{index}]")
            for index, namespace in enumerate(linux.get("namespaces", []))
        ]
        self.masked_paths: list[str] = _strings(linux, "maskedPaths", "linux")
        self.readonly_paths: list[str] = _strings(linux, "readonlyPaths", "linux")
        self.resources: dict[str, Any] = linux.get("resources", {})
        _only(self.resources, "linux.resources", "devices")
        self.cgroups_path: str = linux.get("cgroupsPath", "")
        self.sysctl: dict[str, str] = linux.get("sysctl", {})
        for key, value in self.sysctl.items():
            _check_sysctl(key, value)

    def makes(self, kind: str) -> bool:
        """Whether a namespace of this kind is to be made."""
        return any(namespace.type == kind for namespace in self.namespaces)


def _check_sysctl(key: str, value: str) -> None:
    field = f"linux.sysctl.{key}"
    if not key or not set(key) <= set("abcdefghijklmnopqrstuvwxyz0123456789_.-") or ".." in key:
        raise SpecError(field, "is not the name of a kernel parameter")
    if not isinstance(value, str) or "\n" in value:
        raise SpecError(field, "the value is not one line of text")


def _only(document: dict[str, Any], field: str, known: str) -> None:
    if not isinstance(document, dict):
        raise SpecError(field or "config.json", f"found {type(document).__name__}, expected an object")
    for key, value in document.items():
        if key not in known.split() and value not in (None, [], {}, "", False):
            raise Unsupported(f"{field}.{key}" if field else key, "is not supported yet")


def _strings(document: dict[str, Any], key: str, field: str) -> list[str]:
    value = document.get(key) or []
    if not isinstance(value, list) or not all(isinstance(item, str) and "\0" not in item for item in value):
        raise SpecError(f"{field}.{key}", "expected a list of strings")
    return value


def _number(document: dict[str, Any], key: str, field: str, default: int = 0) -> int:
    value = document.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise SpecError(f"{field}.{key}", f"found {value!r}, expected a number")
    return value
