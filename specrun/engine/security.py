"""What a container may do: capabilities, the seccomp filter, namespaces that it shares, and our stricter defaults.

A `SecurityRequest` is what was asked for; `host_config` writes it as Docker does, and what is done about it is read
from there at each start. Each of the choices in which we are stricter than Docker has a name, and can be switched off
for a container by `--security-opt specrun.NAME=off` (docs/differences.md).
"""

from __future__ import annotations

import os

from specrun.engine import defaults
from specrun.errors import SpecrunError, UsageError
from specrun_runtime import capabilities, jsontext, seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

CHOICES = {
    "io-uring": "io_uring_setup(2) and its like are refused",
    "af-vsock": "sockets of the family AF_VSOCK are refused",
    "af-alg": "sockets of the family AF_ALG are refused",
    "pids-limit": "2048 processes and threads at most",
    "cgroup-tmpfs": "the folder above the control groups is read-only",
    "cgroup-namespace": "a cgroup namespace of its own on version 1 too",
    "time-namespace": "a time namespace of its own",
    "tun": "/dev/net/tun (10:200) may not be opened",
    "masked-paths": "/proc/interrupts, powercap and thermal_throttle are masked",
    "nodev": "no devices on the root file system",
}
"""Name of a choice -> what it does."""

PIDS_LIMIT = 2048
_FIRST_ID, _IDS, _RANGES = 2_000_000_000, 65536, 2000
"""The numbers of users of user namespaces: above those that useradd(8) and systemd give away, below 2^31."""


class SecurityRequest:
    """What was asked for; what is left out is the default."""

    __slots__ = (
        "capabilities_added",
        "capabilities_dropped",
        "cgroup_namespace",
        "cgroup_parent",
        "ipc",
        "options",
        "pid",
        "privileged",
        "read_only",
        "user_namespace",
        "uts",
    )

    def __init__(
        self,
        *,
        capabilities_added: list[str] | None = None,
        capabilities_dropped: list[str] | None = None,
        privileged: bool = False,
        options: list[str] | None = None,
        read_only: bool = False,
        pid: str = "",
        ipc: str = "",
        uts: str = "",
        cgroup_namespace: str = "",
        cgroup_parent: str = "",
        user_namespace: str = "",
    ) -> None:
        self.capabilities_added = capabilities_added or []
        self.capabilities_dropped = capabilities_dropped or []
        self.privileged = privileged
        self.options = options or []
        """Docker's `--security-opt`, each."""
        self.read_only = read_only
        self.pid = pid
        """`host`, `container:NAME`, or "" for one of its own."""
        self.ipc = ipc
        """`host`, `none`, `private`, `shareable`, `container:NAME`, or "" for one of its own."""
        self.uts = uts
        """`host`, or "" for one of its own."""
        self.cgroup_namespace = cgroup_namespace
        """`host`, `private`, or "" for the default."""
        self.user_namespace = user_namespace
        """`private` for one of its own, whose root is nobody on the host; `host` or "" for the host's."""
        self.cgroup_parent = cgroup_parent
        """The control group above the container's, with or without a slash in front; "" for the root."""

    def check(self) -> None:
        """Refuse what is not known. Raises UsageError."""
        for field, names in (("CapAdd", self.capabilities_added), ("CapDrop", self.capabilities_dropped)):
            for name in names:
                if _capability(name) not in (*capabilities.NUMBERS, "ALL"):
                    raise UsageError(f'invalid {field}: unknown capability: "{_capability(name)}"')
        for name, value, known in (
            ("pid", self.pid, ("", "host")),
            ("ipc", self.ipc, ("", "host", "none", "private", "shareable")),
            ("uts", self.uts, ("", "host")),
            ("cgroupns", self.cgroup_namespace, ("", "host", "private")),
            ("userns", self.user_namespace, ("", "host", "private")),
        ):
            another = name in ("pid", "ipc")
            if value not in known and not (another and value.startswith("container:") and len(value) > 10):
                words = ", ".join(word for word in known if word)
                hint = f"expected {words} or container:NAME" if another else f"expected {words}"
                raise UsageError(f"--{name}: {value} is not supported", hint=hint)
        if self.user_namespace == "private":
            self._check_user_namespace()
        if ".." in self.cgroup_parent.split("/") or "\0" in self.cgroup_parent:
            raise UsageError(f"--cgroup-parent: {self.cgroup_parent} is not the path of a control group")
        Choices(self.options)

    def _check_user_namespace(self) -> None:
        """Its root has no power over what belongs to the host's, which would be all that others share with it."""
        if self.privileged:
            raise UsageError("privileged mode is incompatible with user namespaces", hint="leave --userns=private out")
        for name, value in (("PID", self.pid), ("IPC", self.ipc), ("UTS", self.uts), ("cgroup", self.cgroup_namespace)):
            if value == "host" or value.startswith("container:"):
                whose = "host's" if value == "host" else "another container's"
                raise UsageError(f"cannot share the {whose} {name} namespace when user namespaces are enabled")

    def host_config(self) -> dict[str, Any]:
        """Its part of `HostConfig`, as `docker inspect` shows it; a profile's file is read now, as Docker does."""
        return {
            "CapAdd": [_capability(name) for name in self.capabilities_added] or None,
            "CapDrop": [_capability(name) for name in self.capabilities_dropped] or None,
            "Privileged": self.privileged,
            "SecurityOpt": [_with_profile(option) for option in self.options] or None,
            "ReadonlyRootfs": self.read_only,
            "PidMode": self.pid,
            "IpcMode": self.ipc or "private",
            "UTSMode": self.uts,
            "CgroupnsMode": self.cgroup_namespace or "private",
            "UsernsMode": self.user_namespace,
            **({"CgroupParent": self.cgroup_parent} if self.cgroup_parent else {}),
        }


class Choices:
    """The options of `--security-opt`, understood. Raises UsageError for one that is not known."""

    __slots__ = ("no_new_privileges", "off", "profile", "unmasked")

    def __init__(self, options: list[str]) -> None:
        self.no_new_privileges = False
        self.off: set[str] = set()
        """The stricter choices that do not hold for this container."""
        self.profile = ""
        """"unconfined", the text or path of a profile, or "" for the default one."""
        self.unmasked = False
        for option in options:
            self._read(option)

    def _read(self, option: str) -> None:
        # As Docker has it, with a colon in the place of the equals sign in older days.
        key, equals, value = option.partition("=") if "=" in option else option.partition(":")
        if key == "no-new-privileges" and (not equals or value in ("true", "false")):
            self.no_new_privileges = value != "false"
        elif key == "seccomp" and value:
            self.profile = "" if value in ("builtin", "default") else value
        elif option in ("systempaths=unconfined", "systempaths:unconfined"):
            self.unmasked = True
        elif option in ("apparmor=unconfined", "apparmor:unconfined", "label=disable", "label:disable"):
            return  # as it is
        elif key.startswith("specrun.") and value in ("on", "off"):
            self._switch(key.removeprefix("specrun."), value == "off")
        else:
            raise UsageError(
                f'invalid --security-opt: "{option}"',
                hint="known are no-new-privileges, seccomp=, systempaths=unconfined and specrun.NAME=off",
            )

    def _switch(self, name: str, off: bool) -> None:
        if name not in (*CHOICES, "all"):
            raise UsageError(
                f'invalid --security-opt: there is no choice "{name}"', hint=f"known are {', '.join(CHOICES)} and all"
            )
        names = set(CHOICES) if name == "all" else {name}
        self.off = self.off | names if off else self.off - names


class Security:
    """What is done for one container, from its `HostConfig`."""

    __slots__ = ("_config", "choices", "privileged")

    def __init__(self, host_config: dict[str, Any]) -> None:
        self._config = host_config
        self.choices = Choices(host_config.get("SecurityOpt") or [])
        self.privileged = bool(host_config.get("Privileged"))

    @property
    def read_only(self) -> bool:
        """Whether nothing may be written to the root file system."""
        return bool(self._config.get("ReadonlyRootfs"))

    @property
    def capabilities(self) -> list[str]:
        """The sets of the first process: Docker's rule for what is added and dropped."""
        if self.privileged:
            return list(capabilities.NUMBERS)
        added, dropped = self._config.get("CapAdd") or [], self._config.get("CapDrop") or []
        if "ALL" in added:
            return [name for name in capabilities.NUMBERS if name not in dropped]
        kept = [] if "ALL" in dropped else [name for name in defaults.CAPABILITIES if name not in dropped]
        return [*kept, *(name for name in added if name not in kept)]

    def seccomp(self) -> dict[str, Any] | None:
        """`linux.seccomp`; None for no filter."""
        profile = self.choices.profile
        if profile == "unconfined" or (self.privileged and not profile):
            return None
        document = jsontext.loads(profile) if profile else self._default_profile()
        host = os.uname()
        return seccomp.resolve(document, frozenset(self.capabilities), host.machine, host.release)

    def _default_profile(self) -> dict[str, Any]:
        profile = seccomp.default_profile()
        more = [rule for name, rules in _RELAXED.items() if name in self.choices.off for rule in rules]
        return {**profile, "syscalls": [*profile["syscalls"], *more]} if more else profile

    def namespaces(self, find: Callable[[str], int]) -> dict[str, str]:
        """Kind -> path, "" for a new one; `find` gives the pid of another container's first process."""
        kinds = dict.fromkeys(defaults.NAMESPACES, "")
        off = self.choices.off
        pid, ipc = self._config.get("PidMode") or "", self._config.get("IpcMode") or ""
        for kind, mode in (("pid", pid), ("ipc", ipc)):
            if mode.startswith("container:"):
                kinds[kind] = f"/proc/{find(mode.removeprefix('container:'))}/ns/{kind}"
        if self.maps_users:
            kinds["user"] = ""
        for kind, shared in (
            ("pid", pid == "host"),
            ("ipc", ipc == "host"),
            ("uts", self._config.get("UTSMode") == "host"),
            ("cgroup", self._config.get("CgroupnsMode") == "host" or "cgroup-namespace" in off),
            ("time", "time-namespace" in off),
        ):
            if shared:
                del kinds[kind]
        return kinds

    @property
    def maps_users(self) -> bool:
        """Whether the container has a user namespace of its own."""
        return bool(self._config.get("UsernsMode") == "private")

    def mappings(self, identity: str) -> dict[str, Any]:
        """`linux.uidMappings` and `gidMappings`: 65,536 numbers that nobody on the host has, others for each container.

        Files keep the owners that they have in the container: its layers and volumes are mounted with the same mapping.
        """
        if not self.maps_users:
            return {}
        first = _FIRST_ID + int(identity[:8], 16) % _RANGES * _IDS
        mapping = [{"containerID": 0, "hostID": first, "size": _IDS}]
        return {"uidMappings": mapping, "gidMappings": mapping}

    def sysctls(self, network: str) -> dict[str, str]:
        """Docker's parameters for a network namespace, made anew where `network` is ""."""
        if self.maps_users and not network:
            return {**defaults.SYSCTLS, "net.ipv4.ping_group_range": f"0 {_IDS - 1}"}
        return defaults.SYSCTLS

    def mounts(self, find: Callable[[str], int]) -> list[dict[str, Any]]:
        """Docker's own mounts, as this container has them; `find` as for `namespaces`."""
        ipc = self._config.get("IpcMode") or ""
        found = []
        for mount in defaults.MOUNTS:
            destination = mount["destination"]
            if destination == "/dev/shm" and ipc == "none":
                continue
            if destination == "/dev/shm" and ipc == "host":  # the queues are the namespace's by themselves
                mount = {**mount, "type": "bind", "source": destination, "options": ["rbind", "nosuid", "noexec"]}
            if destination == "/dev/shm" and ipc.startswith("container:"):
                source = f"/proc/{find(ipc.removeprefix('container:'))}/root/dev/shm"
                mount = {**mount, "type": "bind", "source": source, "options": ["bind", "nosuid", "noexec", "nodev"]}
            if self.privileged and destination in ("/sys", "/sys/fs/cgroup"):
                mount = {**mount, "options": [word for word in mount["options"] if word != "ro"]}
            found.append(mount)
        return found

    def linux(self) -> dict[str, Any]:
        """Masked and read-only paths, the filter, and rules and nodes of devices."""
        bare = self.privileged or self.choices.unmasked
        filter = self.seccomp()
        return {
            "maskedPaths": [] if bare else self._masked(),
            "readonlyPaths": [] if bare else defaults.READONLY_PATHS,
            "devices": host_devices() if self.privileged else [],
            **({"seccomp": filter} if filter else {}),
        }

    def _masked(self) -> list[str]:
        if "masked-paths" not in self.choices.off:
            return [*defaults.MASKED_PATHS, *_throttle_paths()]
        return [path for path in defaults.MASKED_PATHS if path not in defaults.MORE_MASKED_PATHS]

    def device_rules(self) -> list[dict[str, Any]]:
        """`linux.resources.devices`."""
        if self.privileged:
            return [{"allow": True, "access": "rwm"}]
        if "tun" in self.choices.off:
            return [*defaults.DEVICE_RULES, {"allow": True, "type": "c", "major": 10, "minor": 200, "access": "rwm"}]
        return defaults.DEVICE_RULES

    def pids_limit(self) -> int:
        """The most processes and threads; -1 for no limit."""
        asked = self._config.get("PidsLimit")
        if asked is not None:
            return int(asked) or -1
        return -1 if "pids-limit" in self.choices.off else PIDS_LIMIT

    def annotations(self) -> dict[str, str]:
        """What the runtime is told that the specification has no field for."""
        relaxed = sorted({"cgroup-tmpfs", "nodev"} & self.choices.off)
        if self.privileged:
            relaxed = ["cgroup-tmpfs", "nodev"]
        return {"org.specrun.relaxed": ",".join(relaxed)} if relaxed else {}


_RELAXED: dict[str, list[dict[str, Any]]] = {
    "io-uring": [
        {"names": ["io_uring_setup", "io_uring_enter", "io_uring_register"], "action": "SCMP_ACT_ALLOW"},
    ],
    **{
        name: [
            {
                "names": ["socket"],
                "action": "SCMP_ACT_ALLOW",
                "args": [{"index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": 0xFFFFFFFF, "valueTwo": family}],
            }
        ]
        for name, family in (("af-alg", 38), ("af-vsock", 40))
    },
}
"""Rules that take a stricter choice back."""


def _capability(name: str) -> str:
    """`CAP_NET_ADMIN` of `net_admin`; ALL stays."""
    name = name.upper()
    return name if name == "ALL" or name.startswith("CAP_") else f"CAP_{name}"


def _with_profile(option: str) -> str:
    """The content of a profile in the place of its path."""
    key, _, value = option.partition("=")
    if key != "seccomp" or value in ("unconfined", "builtin", "default") or value.startswith("{"):
        return option
    try:
        with open(value, encoding="utf-8") as file:
            text = file.read(1 << 20)
    except OSError as error:
        raise SpecrunError(f"opening seccomp profile ({value}) failed: {error.strerror}") from error
    try:
        host = os.uname()
        seccomp.resolve(jsontext.loads(text), frozenset(), host.machine, host.release)
    except ValueError as error:
        raise SpecrunError(f"the seccomp profile {value} is not one: {error}") from error
    return f"seccomp={text}"


def _throttle_paths() -> list[str]:
    """Where the processors tell how hot they get, of each one."""
    folder = "/sys/devices/system/cpu"
    if not os.path.isdir(f"{folder}/cpu0/thermal_throttle"):
        return []
    names = [name for name in os.listdir(folder) if name.startswith("cpu") and name[3:].isdigit()]
    return [f"{folder}/{name}/thermal_throttle" for name in sorted(names)]


def host_devices(folder: str = "/dev") -> list[dict[str, Any]]:
    """The nodes of the host's /dev, for a privileged container; what it has of its own is left out."""
    found: list[dict[str, Any]] = []
    for entry in sorted(os.scandir(folder), key=lambda item: item.path):
        if entry.is_dir(follow_symlinks=False):
            if entry.name not in ("fd", "mqueue", "pts", "shm"):
                found += host_devices(entry.path)
            continue
        info = entry.stat(follow_symlinks=False)
        kind = {0o020000: "c", 0o060000: "b"}.get(info.st_mode & 0o170000)
        if kind and entry.name != "console":
            found.append(
                {
                    "type": kind,
                    "path": entry.path,
                    "major": os.major(info.st_rdev),
                    "minor": os.minor(info.st_rdev),
                    "fileMode": info.st_mode & 0o7777,
                    "uid": info.st_uid,
                    "gid": info.st_gid,
                }
            )
    return found
