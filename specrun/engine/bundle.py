"""From a record to what the runtime is given: config.json, the files of /etc, and the layers."""

from __future__ import annotations

import os

from specrun.engine import defaults, groups, mounting, networking, resources
from specrun.engine.security import Security
from specrun.errors import SpecrunError
from specrun.files import write_atomic
from specrun_runtime import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from specrun.engine.networking import Network
    from specrun.engine.record import Record
    from specrun.paths import Root


def command_of(entrypoint: list[str] | None, command: list[str] | None, image: dict[str, Any]) -> list[str]:
    """Docker's rule: a new entrypoint forgets the image's command. Raises SpecrunError when nothing is left."""
    if entrypoint is None:
        entry = image.get("Entrypoint") or []
        arguments = command if command else image.get("Cmd") or []
    else:
        entry, arguments = [part for part in entrypoint if part], command or []
    if not [*entry, *arguments]:
        error = SpecrunError("No command specified", hint="give one after the image, or use an image that has one")
        error.exit_status = 125
        raise error
    return [*entry, *arguments]


def environment_of(image: list[str], extra: list[str]) -> list[str]:
    """`extra`, then those of the image's variables that it lacks. An image's entry without `=` would name a host's."""
    merged: dict[str, str] = {entry.partition("=")[0]: entry for entry in extra}
    for entry in [*(item for item in image if "=" in item[1:]), f"PATH={defaults.PATH}"]:
        merged.setdefault(entry.partition("=")[0], entry)
    return list(merged.values())


def write(root: Root, record: Record, directory: str, network: Network, find: Callable[[str], int]) -> None:
    """Write config.json and the files of /etc; they are made anew at each start, so a power cut may take them.

    `find` gives the pid of another container's first process.
    """
    hostname = record.config["Hostname"]
    hosts = networking.hosts_file(record, network)
    resolv = networking.resolver_file(record, network)
    write_atomic(f"{directory}/hosts", hosts, mode=0o644, durable=False)
    write_atomic(f"{directory}/hostname", f"{hostname}\n".encode(), mode=0o644, durable=False)
    write_atomic(f"{directory}/resolv.conf", resolv, mode=0o644, durable=False)
    document = resources.limited(configuration(root, record, directory, network, find), record.host_config)
    config = jsontext.dumps(document)
    write_atomic(f"{directory}/config.json", config.encode(), durable=False)


def renew_limits(record: Record, directory: str) -> None:
    """Write the record's limits into the config.json of a container that runs: its restart policy starts it by that."""
    path = f"{directory}/config.json"
    with open(path, "rb") as file:
        document = jsontext.loads(file.read())
    linux = document["linux"]
    others = {key: value for key, value in linux["resources"].items() if key not in ("memory", "cpu", "blockIO")}
    pids = {"limit": Security(record.host_config).pids_limit()}
    linux["resources"] = {**others, "pids": pids, **resources.runtime_resources(record.host_config)}
    write_atomic(path, jsontext.dumps(document).encode(), durable=False)


def configuration(
    root: Root, record: Record, directory: str, network: Network, find: Callable[[str], int]
) -> dict[str, Any]:
    """config.json of the OCI runtime specification for this container."""
    own_network = record.host_config["NetworkMode"] != "host"
    security = Security(record.host_config)
    namespaces = security.namespaces(find)
    if own_network:
        namespaces["network"] = network.namespace
    else:
        del namespaces["network"]
    environment = {entry.partition("=")[0]: entry for entry in record.config["Env"]}
    first = {
        "PATH": environment.pop("PATH", f"PATH={defaults.PATH}"),
        "HOSTNAME": environment.pop("HOSTNAME", f"HOSTNAME={record.config['Hostname']}"),
    }
    if record.config["Tty"]:
        first["TERM"] = environment.pop("TERM", "TERM=xterm")
    etc = network.borrowed or directory
    sets = ("bounding", "effective", "permitted")
    mounts = _mounts(root, record, etc, security, find)
    shared = any(word.endswith("shared") for mount in mounts for word in mount["options"])
    return {
        "ociVersion": "1.2.0",
        "process": {
            "args": [record.path, *record.args],
            "env": [*first.values(), *environment.values()],
            "cwd": record.config["WorkingDir"] or "/",
            "user": {"uid": 0, "gid": 0},
            **_terminal(record),
            "capabilities": dict.fromkeys(sets, security.capabilities),
            "noNewPrivileges": security.choices.no_new_privileges,
        },
        # Where it is mounted only the container's first process sees, and nobody's root may not enter our folders.
        "root": {"path": "/run" if security.maps_users else f"{directory}/rootfs", "readonly": security.read_only},
        **({"hostname": record.config["Hostname"]} if "uts" in namespaces else {}),
        **({"domainname": domain} if (domain := record.config["Domainname"]) else {}),
        "mounts": mounts,
        "annotations": {**record.host_config.get("Annotations", {}), **security.annotations()},
        "linux": {
            "namespaces": [{"type": kind, **({"path": path} if path else {})} for kind, path in namespaces.items()],
            "sysctl": security.sysctls(network.namespace) if own_network else {},
            "resources": {"devices": security.device_rules(), "pids": {"limit": security.pids_limit()}},
            "cgroupsPath": f"/{groups.name_of(root, record)}",
            **({"rootfsPropagation": "shared"} if shared else {}),
            **security.mappings(record.id),
            **security.linux(),
        },
    }


def _terminal(record: Record) -> dict[str, Any]:
    if not record.config["Tty"]:
        return {}
    rows, columns = record.host_config.get("ConsoleSize") or (0, 0)
    return {"terminal": True, "consoleSize": {"height": rows, "width": columns}}


_BIND = ["rbind", "rprivate"]


def _mounts(
    root: Root, record: Record, directory: str, security: Security, find: Callable[[str], int]
) -> list[dict[str, Any]]:
    """Docker's own first, but for those that the user's replace; then the user's and the files of /etc."""
    asked = mounting.runtime_mounts(root, record, mapped=security.maps_users)
    taken = {mount["destination"] for mount in asked}
    options = [*_BIND, *(["ro"] if security.read_only else []), *(["idmap"] if security.maps_users else [])]
    files = [
        {"destination": f"/etc/{name}", "type": "bind", "source": f"{directory}/{name}", "options": options}
        for name in ("resolv.conf", "hostname", "hosts")
    ]
    own = [mount for mount in security.mounts(find) if mount["destination"] not in taken]
    if "/dev" in taken:
        own = [mount for mount in own if not str(mount["destination"]).startswith("/dev/")]
    return [*own, *mounting.in_order([*asked, *(file for file in files if file["destination"] not in taken)])]


def init_layer(root: Root) -> str:
    """The topmost layer of every container, made on first use: real folders and files where we mount.

    They hide whatever an image has there, a symbolic link to somewhere else above all.
    """
    path = f"{root.path}/init"
    if os.path.exists(path):
        return path
    draft = f"{path}.{os.urandom(6).hex()}"
    umask = os.umask(0)
    try:
        for folder, mode in (
            ("", 0o755),
            ("/dev", 0o755),
            ("/dev/pts", 0o755),
            ("/dev/shm", 0o1777),
            ("/dev/mqueue", 0o1777),
            ("/proc", 0o555),
            ("/sys", 0o555),
            ("/etc", 0o755),
        ):
            os.mkdir(draft + folder, mode)
        for file, mode in (
            ("/.dockerenv", 0o755),
            ("/etc/hosts", 0o755),
            ("/etc/hostname", 0o755),
            ("/etc/resolv.conf", 0o755),
            ("/dev/console", 0o755),
        ):
            os.close(os.open(draft + file, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, mode))
        os.symlink("/proc/mounts", f"{draft}/etc/mtab")
    finally:
        os.umask(umask)
    try:
        os.rename(draft, path)
    except OSError:
        if not os.path.exists(path):  # another command made it first, or this one cannot
            raise
        from specrun.files import remove_tree

        remove_tree(draft)
    return path
