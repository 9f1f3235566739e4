"""config.json of the OCI runtime specification 1.2, as values; what cannot be done here is refused by name.

Plain classes instead of dataclasses: the monitor parses one of these at each start, and importing dataclasses
takes longer than all of the container's set-up.
"""

from __future__ import annotations

import os

from specrun_runtime import capabilities, rlimits, schema
from specrun_runtime.errors import SpecError, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VERSION = "1.2.0"

NAMESPACES = ("user", "pid", "network", "mount", "ipc", "uts", "cgroup", "time")

HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


class Mapping:
    """One line of a uid_map or gid_map (user_namespaces(7))."""

    __slots__ = ("container", "host", "size")

    def __init__(self, container: int, host: int, size: int) -> None:
        self.container = container
        self.host = host
        self.size = size

    @classmethod
    def read(cls, documents: list[dict[str, int]] | None) -> list[Mapping]:
        """From `containerID`, `hostID` and `size`."""
        return [cls(item["containerID"], item["hostID"], item["size"]) for item in documents or ()]

    def line(self) -> str:
        """As the kernel reads it."""
        return f"{self.container} {self.host} {self.size}"


def host_id(mappings: list[Mapping], container: int) -> int:
    """What `container`, an id inside, is outside; itself without mappings. Raises ValueError when it has none."""
    if not mappings:
        return container
    for mapping in mappings:
        if mapping.container <= container < mapping.container + mapping.size:
            return mapping.host + container - mapping.container
    raise ValueError(f"the id {container} is not mapped")


class Hook:
    """A program of the host that is run at one moment of a container's life (config.md, "POSIX-platform Hooks")."""

    __slots__ = ("args", "env", "path", "timeout")

    def __init__(self, document: dict[str, Any]) -> None:
        self.path: str = document["path"]
        self.args: list[str] = document.get("args") or [self.path]
        self.env: list[str] = document.get("env") or []
        self.timeout: int | None = document.get("timeout")
        """Seconds; None for no limit."""


class Process:
    """`process`: what runs, as whom and where."""

    __slots__ = (
        "affinity",
        "ambient",
        "args",
        "bounding",
        "console",
        "cwd",
        "effective",
        "env",
        "gid",
        "groups",
        "inheritable",
        "io_priority",
        "no_new_privileges",
        "oom_score_adj",
        "permitted",
        "rlimits",
        "scheduler",
        "terminal",
        "uid",
        "umask",
    )

    def __init__(self, document: dict[str, Any]) -> None:
        schema.check(document, schema.PROCESS, "process")
        self.args: list[str] = document.get("args") or []
        if not self.args:
            raise SpecError("process.args", "is empty, expected a command")
        self.env: list[str] = document.get("env") or []
        self.cwd: str = document["cwd"]
        if not self.cwd.startswith("/"):
            raise SpecError("process.cwd", f"found {self.cwd!r}, expected an absolute path")
        user = document.get("user") or {}
        self.uid: int = user.get("uid") or 0
        self.gid: int = user.get("gid") or 0
        umask = user.get("umask")
        self.umask: int = 0o022 if umask is None else umask
        self.groups: list[int] = list(user.get("additionalGids") or [])
        sets = document.get("capabilities") or {}
        self.bounding, self.effective, self.permitted, self.inheritable, self.ambient = (
            capabilities.mask(sets.get(name) or [], f"process.capabilities.{name}")
            for name in ("bounding", "effective", "permitted", "inheritable", "ambient")
        )
        self.rlimits: list[tuple[str, int, int]] = []
        for index, limit in enumerate(document.get("rlimits") or []):
            field = f"process.rlimits[{index}]"
            rlimits.number(limit["type"], f"{field}.type")
            if any(name == limit["type"] for name, _, _ in self.rlimits):
                raise SpecError(f"{field}.type", f"{limit['type']} is there twice")
            if limit["soft"] > limit["hard"]:
                raise SpecError(f"{field}.soft", f"found {limit['soft']}, expected no more than hard {limit['hard']}")
            self.rlimits.append((limit["type"], limit["soft"], limit["hard"]))
        self.no_new_privileges = bool(document.get("noNewPrivileges"))
        self.oom_score_adj: int | None = document.get("oomScoreAdj")
        self.terminal = bool(document.get("terminal"))
        size = document.get("consoleSize") or {}
        self.console: tuple[int, int] = (size.get("height") or 0, size.get("width") or 0)
        """Rows and columns; 0 where the terminal's own are to stay."""
        self.scheduler: dict[str, Any] | None = document.get("scheduler")
        self.io_priority: dict[str, Any] | None = document.get("ioPriority")
        affinity = document.get("execCPUAffinity") or {}
        self.affinity: tuple[set[int], set[int]] = (
            cpu_set(affinity.get("initial") or "", "process.execCPUAffinity.initial"),
            cpu_set(affinity.get("final") or "", "process.execCPUAffinity.final"),
        )
        """The CPUs to run on before and after joining the control group; empty for no wish."""
        if document.get("apparmorProfile") and not os.path.isdir("/sys/kernel/security/apparmor"):
            raise Unsupported("process.apparmorProfile", "AppArmor is not active on this host")
        if document.get("apparmorProfile"):
            raise Unsupported("process.apparmorProfile", "AppArmor profiles are not supported")
        if document.get("selinuxLabel"):
            raise Unsupported("process.selinuxLabel", "SELinux is not active on this host, or not supported")


class Mount:
    """One of `mounts`."""

    __slots__ = ("destination", "field", "gid_mappings", "options", "source", "type", "uid_mappings")

    def __init__(self, document: dict[str, Any], field: str) -> None:
        self.field = field
        self.destination: str = document["destination"]
        if not self.destination:
            raise SpecError(f"{field}.destination", "is empty, expected an absolute path")
        if not self.destination.startswith("/"):  # as 1.0 allowed: relative to the container's root
            self.destination = f"/{self.destination}"
        self.options: list[str] = document.get("options") or []
        bound = "bind" in self.options or "rbind" in self.options
        self.type: str = "bind" if bound else document.get("type") or "bind"
        self.source: str = document.get("source") or self.type
        self.uid_mappings = Mapping.read(document.get("uidMappings"))
        self.gid_mappings = Mapping.read(document.get("gidMappings"))
        if bool(self.uid_mappings) != bool(self.gid_mappings):
            raise SpecError(field, "uidMappings and gidMappings are only of use together")


class Device:
    """One of `linux.devices`."""

    __slots__ = ("gid", "major", "minor", "mode", "path", "type", "uid")

    def __init__(self, document: dict[str, Any], field: str) -> None:
        self.type: str = document["type"]
        self.path: str = document["path"]
        if not self.path.startswith("/"):
            raise SpecError(f"{field}.path", f"found {self.path!r}, expected an absolute path")
        self.major: int = document.get("major") or 0
        self.minor: int = document.get("minor") or 0
        if self.type != "p" and (document.get("major") is None or document.get("minor") is None):
            raise SpecError(field, "major and minor are missing")
        mode = document.get("fileMode")
        self.mode: int = 0o666 if mode is None else mode & 0o7777
        self.uid: int = document.get("uid") or 0
        self.gid: int = document.get("gid") or 0


class Spec:
    """A whole config.json. Raises SpecError, and Unsupported for what this runtime or this host cannot do."""

    __slots__ = (
        "annotations",
        "cgroups_path",
        "devices",
        "domainname",
        "gid_mappings",
        "hooks",
        "hostname",
        "masked_paths",
        "mounts",
        "namespaces",
        "personality",
        "process",
        "propagation",
        "readonly_paths",
        "readonly_root",
        "resources",
        "root",
        "seccomp",
        "sysctl",
        "time_offsets",
        "uid_mappings",
        "version",
    )

    def __init__(self, document: dict[str, Any]) -> None:
        schema.check(document, schema.CONFIG, "")
        self.version: str = document["ociVersion"]
        if not self.version.startswith("1."):
            raise SpecError("ociVersion", f"found {self.version!r}, expected 1.x")
        for platform in ("solaris", "windows", "vm", "zos", "freebsd"):
            if document.get(platform):
                raise Unsupported(platform, "this is a runtime for Linux")
        if not document.get("root"):
            raise SpecError("root", "is missing")
        if not document.get("process"):
            raise SpecError("process", "is missing")
        self.process = Process(document["process"])
        self.root: str = document["root"]["path"]
        self.readonly_root = bool(document["root"].get("readonly"))
        self.hostname: str = document.get("hostname") or ""
        self.domainname: str = document.get("domainname") or ""
        self.mounts = [Mount(mount, f"mounts[{index}]") for index, mount in enumerate(document.get("mounts") or [])]
        self.annotations: dict[str, str] = document.get("annotations") or {}
        hooks = document.get("hooks") or {}
        self.hooks = {name: [Hook(hook) for hook in hooks.get(name) or ()] for name in HOOKS}
        self._read_linux(document.get("linux") or {})

    def _read_linux(self, linux: dict[str, Any]) -> None:
        self.namespaces: dict[str, str] = {}
        for index, namespace in enumerate(linux.get("namespaces") or []):
            if namespace["type"] in self.namespaces:
                raise SpecError(f"linux.namespaces[{index}]", f"{namespace['type']} is there twice")
            self.namespaces[namespace["type"]] = namespace.get("path") or ""
        self.uid_mappings = Mapping.read(linux.get("uidMappings"))
        self.gid_mappings = Mapping.read(linux.get("gidMappings"))
        if (self.uid_mappings or self.gid_mappings) and "user" not in self.namespaces:
            raise SpecError("linux.uidMappings", "a mapping needs a user namespace in linux.namespaces")
        if self.makes("user") and not (self.uid_mappings and self.gid_mappings):
            raise SpecError("linux.uidMappings", "a new user namespace needs uidMappings and gidMappings")
        self.devices = [
            Device(device, f"linux.devices[{index}]") for index, device in enumerate(linux.get("devices") or [])
        ]
        self.masked_paths = _absolute(linux, "maskedPaths")
        self.readonly_paths = _absolute(linux, "readonlyPaths")
        self.resources: dict[str, Any] = linux.get("resources") or {}
        self.cgroups_path: str = linux.get("cgroupsPath") or ""
        self.propagation: str = linux.get("rootfsPropagation") or ""
        self.seccomp: dict[str, Any] | None = linux.get("seccomp")
        self.personality = personality_of(linux)
        self.time_offsets: dict[str, dict[str, int]] = linux.get("timeOffsets") or {}
        for clock in self.time_offsets:
            if clock not in ("monotonic", "boottime"):
                raise SpecError(f"linux.timeOffsets.{clock}", "expected monotonic or boottime")
        if self.time_offsets and not self.makes("time"):
            raise SpecError("linux.timeOffsets", "an offset needs a new time namespace in linux.namespaces")
        self.sysctl: dict[str, str] = linux.get("sysctl") or {}
        for key in self.sysctl:
            self._check_sysctl(key)
        for name, reason in (
            ("mountLabel", "no security module with labels is active on this host"),
            ("intelRdt", "Intel resource director technology is not supported"),
            ("netDevices", "moving network devices is not supported"),
        ):
            if linux.get(name):
                raise Unsupported(f"linux.{name}", reason)
        for name in ("network", "rdma"):
            if self.resources.get(name):
                raise Unsupported(f"linux.resources.{name}", f"the {name} controllers are not supported")
        memory, cpu = self.resources.get("memory") or {}, self.resources.get("cpu") or {}
        for kind, group, names in (
            ("memory", memory, ("kernel", "kernelTCP")),
            ("cpu", cpu, ("realtimePeriod", "realtimeRuntime")),
        ):
            for name in names:
                if group.get(name):
                    raise Unsupported(f"linux.resources.{kind}.{name}", "is not supported")

    def makes(self, kind: str) -> bool:
        """Whether a namespace of this kind is to be made."""
        return self.namespaces.get(kind) == ""

    def own(self, kind: str) -> bool:
        """Whether the container is in another namespace of this kind than the runtime, made or joined."""
        return kind in self.namespaces

    def _check_sysctl(self, key: str) -> None:
        """Only parameters of a namespace that the container has for itself; others are the host's."""
        field = f"linux.sysctl.{key}"
        normal = key.replace("/", ".")
        letters = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.@")
        if not normal or not set(normal) <= letters or ".." in normal or normal.startswith("."):
            raise SpecError(field, "is not the name of a kernel parameter")
        if "\n" in self.sysctl[key]:
            raise SpecError(field, "the value is not one line of text")
        if normal.startswith("net."):
            needed = "network"
        elif normal.startswith("fs.mqueue.") or normal in _IPC_PARAMETERS:
            needed = "ipc"
        elif normal in ("kernel.domainname", "kernel.hostname"):
            needed = "uts"
        else:
            raise SpecError(field, "is not a parameter of a namespace, it would change the host")
        if not self.own(needed):
            raise SpecError(field, f"belongs to the {needed} namespace, and the container has none of its own")


_IPC_PARAMETERS = frozenset(
    "kernel.msgmax kernel.msgmnb kernel.msgmni kernel.sem kernel.shmall kernel.shmmax kernel.shmmni "
    "kernel.shm_rmid_forced".split()
)


def personality_of(linux: dict[str, Any]) -> int | None:
    """`linux.personality` as personality(2) has it; None where it says nothing. Raises SpecError."""
    document = linux.get("personality")
    if not document:
        return None
    if document.get("flags"):
        raise Unsupported("linux.personality.flags", "the specification defines none")
    if document.get("domain") is None:
        raise SpecError("linux.personality.domain", "is missing")
    return _PERSONALITIES[document["domain"]]


_PERSONALITIES = {"LINUX": 0x0, "LINUX32": 0x8}
"""PER_LINUX and PER_LINUX32."""


def cpu_set(words: str, field: str) -> set[int]:
    """The CPUs of a list such as `0-3,7` (cpuset(7), "List format"). Raises SpecError."""
    found: set[int] = set()
    for part in words.replace(" ", "").split(","):
        first, dash, last = part.partition("-")
        if not part:
            continue
        if not first.isdigit() or (dash and not last.isdigit()) or int(last or first) > 8191:
            raise SpecError(field, f"found {words!r}, expected a list of CPUs such as 0-3,7")
        found.update(range(int(first), int(last or first) + 1))
    return found


def _absolute(linux: dict[str, Any], name: str) -> list[str]:
    paths: list[str] = linux.get(name) or []
    for index, path in enumerate(paths):
        if not path.startswith("/"):
            raise SpecError(f"linux.{name}[{index}]", f"found {path!r}, expected an absolute path")
    return paths
