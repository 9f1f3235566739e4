"""From the fields of a Container or Job to what the engine is asked for, and what the kernel should then say.

A field whose counterpart the engine's ContainerRequest does not have is refused by name at validation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from specrun.engine.mountspec import MountRequest
from specrun.engine.networking import NetworkRequest
from specrun.engine.policies import Health, parse_restart, restart_text
from specrun.engine.request import ContainerRequest
from specrun.engine.resources import Resources
from specrun.engine.security import PIDS_LIMIT, SecurityRequest
from specrun.network.joining import Wish
from specrun.network.ports import parse_publish
from specrun.reconcile.kinds import given
from specrun.reconcile.kinds.files import read_file
from specrun.reconcile.project import TOKEN
from specrun.spec import dotenv, models

if TYPE_CHECKING:
    from specrun.reconcile.kinds.base import Task
    from specrun.spec.loader import Resource
    from specrun.spec.models.process import Attachment, Mount
    from specrun.spec.yamltext import Path

OURS = frozenset(
    "image command entrypoint env envFiles dependsOn onUnhealthy update reload timeout network secrets configs".split()
)
"""Fields that need nothing of the engine beyond what it always had."""

SLOTS: dict[str, str] = {
    "workingDir": "workdir",
    "hostname": "hostname",
    "security.user": "user",
    "security.privileged": "security",
    "security.capabilities": "security",
    "security.readOnlyRootFilesystem": "security",
    "security.noNewPrivileges": "security",
    "security.seccomp": "security",
    "security.options": "security",
    "pid": "security",
    "ipc": "security",
    "uts": "security",
    "cgroupns": "security",
    "cgroupParent": "security",
    "security.userns": "security",
    "stopSignal": "stop_signal",
    "stopTimeout": "stop_timeout",
    "domainname": "domainname",
    "restart": "restart",
    "healthcheck": "health",
    "logging": "log_options",
    "sysctls": "sysctls",
    "init": "init",
    "tty": "tty",
    "stdinOpen": "interactive",
    "security.groups": "groups",
    "resources.limits": "resources",
    "resources.reservations": "resources",
    "resources.cpuShares": "resources",
    "resources.cpuset": "resources",
    "ulimits": "resources",
    "shmSize": "resources",
    "devices": "resources",
    "oomScoreAdj": "resources",
    "oomKillDisable": "resources",
    "volumes": "mounts",
    "volumesFrom": "volumes_from",
    "networks": "network",
    "ports": "network",
    "expose": "network",
    "extraHosts": "network",
    "dns": "network",
}
"""Field -> the engine's name of it."""


def unsupported(spec: models.ProcessSpec) -> list[Path]:
    """The fields of this spec that the engine can't be asked for."""
    known = frozenset(ContainerRequest.__slots__)
    found: list[Path] = []
    for name in sorted(spec.model_fields_set):
        value = getattr(spec, name)
        if name in OURS or not value:
            continue
        if name in ("security", "resources"):
            found += _unsupported_within(name, value, known)
        elif SLOTS.get(name) not in known:
            found.append((name,))
    found += [("ports", index, "protocol") for index, port in enumerate(spec.ports) if port.protocol == "sctp"]
    return found


def _unsupported_within(name: str, value: Any, known: frozenset[str]) -> list[Path]:
    set_here = value.model_dump(exclude_defaults=True)
    return [(name, part) for part in set_here if SLOTS.get(f"{name}.{part}") not in known]


def of(task: Task) -> ContainerRequest:
    """The request for the object's container; writes the files that it is given."""
    request = without_files(task)
    spec = task.resource.spec
    assert isinstance(spec, models.ProcessSpec)  # noqa: S101 - the table says so
    request.mounts += given.mounts(task.view, task.resource, spec, task.entry.token)
    return request


def without_files(task: Task) -> ContainerRequest:
    """The request but for its secrets and configs, for a container that has them."""
    resource = task.resource
    spec = resource.spec
    assert isinstance(spec, models.ProcessSpec)  # noqa: S101 - the table says so
    return ContainerRequest(
        spec.image,
        name=resource.metadata.name,
        command=spec.command,
        entrypoint=spec.entrypoint,
        env=[f"{key}={value}" for key, value in {**_env_files(resource, spec), **spec.env}.items()],
        workdir=spec.workingDir or "",
        user=spec.security.user or "",
        hostname=spec.hostname or "",
        labels={**resource.metadata.labels, TOKEN: task.entry.token},
        detached=True,
        network=network_of(spec),
        stop_signal=spec.stopSignal or "",
        stop_timeout=spec.stopTimeout,
        mounts=[_mount(resource, volume) for volume in spec.volumes],
        volumes_from=spec.volumesFrom,
        security=security_of(resource, spec),
        resources=resources_of(spec),
        groups=spec.security.groups,
        domainname=spec.domainname or "",
        sysctls=spec.sysctls,
        init=spec.init,
        tty=spec.tty,
        interactive=spec.stdinOpen,
        log_options=_log_options(spec),
        **_keeping(spec),
    )


def _keeping(spec: models.ProcessSpec) -> dict[str, Any]:
    """How a container is kept running, and found well."""
    if not isinstance(spec, models.ContainerSpec):
        return {}
    found: dict[str, Any] = {"restart": spec.restart or ""}
    if check := spec.healthcheck:
        test = ["CMD-SHELL", check.test] if isinstance(check.test, str) else check.test
        found["health"] = Health(
            ["NONE"] if check.disable else test,
            interval=check.interval or 0.0,
            timeout=check.timeout or 0.0,
            start_period=check.startPeriod or 0.0,
            start_interval=check.startInterval or 0.0,
            retries=check.retries or 0,
        )
    return found


def _log_options(spec: models.ProcessSpec) -> dict[str, str]:
    values = {"max-size": spec.logging.maxSize, "max-file": spec.logging.maxFile}
    return {name: str(value) for name, value in values.items() if value is not None}


def resources_of(spec: models.ProcessSpec) -> Resources:
    """Its limits, as the engine takes them."""
    limits = spec.resources.limits
    return Resources(
        memory=limits.memory or 0,
        memory_swap=limits.memorySwap or 0,
        memory_reservation=spec.resources.reservations.memory or 0,
        cpus=limits.cpus or 0.0,
        cpu_shares=spec.resources.cpuShares or 0,
        cpuset_cpus=spec.resources.cpuset or "",
        pids_limit=limits.pids or 0,
        oom_kill_disable=spec.oomKillDisable,
        oom_score_adj=spec.oomScoreAdj or 0,
        shm_size=spec.shmSize or 0,
        ulimits=[f"{name}={limit.soft}:{limit.hard}" for name, limit in spec.ulimits.items()],
        devices=[f"{one.source}:{one.target or one.source}:{one.permissions}" for one in spec.devices],
    )


def security_of(resource: Resource, spec: models.ProcessSpec) -> SecurityRequest:
    """What it may do, in the words of Docker's options."""
    security = spec.security
    options = list(security.options)
    if security.noNewPrivileges is not None:
        options.append(f"no-new-privileges={'true' if security.noNewPrivileges else 'false'}")
    if security.seccomp:
        profile = security.seccomp
        options.append(f"seccomp={profile if profile == 'unconfined' else resource.path(profile)}")
    return SecurityRequest(
        capabilities_added=security.capabilities.add,
        capabilities_dropped=security.capabilities.drop,
        privileged=security.privileged,
        options=options,
        read_only=security.readOnlyRootFilesystem,
        pid=spec.pid or "",
        ipc=spec.ipc or "",
        uts=spec.uts or "",
        cgroup_namespace=spec.cgroupns or "",
        cgroup_parent=spec.cgroupParent or "",
        user_namespace=spec.security.userns or "",
    )


def network_of(spec: models.ProcessSpec) -> NetworkRequest:
    """The networks that it joins, and what it publishes there."""
    first = spec.networks[0] if spec.networks else None
    return NetworkRequest(
        first.name if first else spec.network or "default",
        aliases=first.aliases if first else None,
        ip=(first.ipv4Address or "") if first else "",
        ip6=(first.ipv6Address or "") if first else "",
        mac=(first.macAddress or "") if first else "",
        others=[wish_of(one) for one in spec.networks[1:]],
        ports=ports_of(spec),
        exposed=[port if "/" in port else f"{port}/tcp" for port in spec.expose],
        extra_hosts=[f"{name}:{address}" for name, address in spec.extraHosts.items()],
        dns=list(spec.dns.servers),
        dns_search=spec.dns.search,
        dns_options=spec.dns.options,
    )


def wish_of(attachment: Attachment) -> Wish:
    """One network besides the first."""
    return Wish(
        attachment.name,
        aliases=attachment.aliases,
        ip=attachment.ipv4Address or "",
        ip6=attachment.ipv6Address or "",
        mac=attachment.macAddress or "",
    )


def ports_of(spec: models.ProcessSpec) -> dict[str, list[dict[str, str]]]:
    """`port/protocol` -> where it is published, as HostConfig.PortBindings."""
    found: dict[str, list[dict[str, str]]] = {}
    for port in spec.ports:
        address = f"[{port.hostIP}]" if port.hostIP and ":" in port.hostIP else port.hostIP or ""
        outer = "" if port.hostPort in (None, 0) else str(port.hostPort)
        front = f"{address}:{outer}:" if address else f"{outer}:" if outer else ""
        for key, binding in parse_publish(f"{front}{port.containerPort}/{port.protocol}"):
            found.setdefault(key, []).append(binding)
    return found


def _env_files(resource: Resource, spec: models.ProcessSpec) -> dict[str, str]:
    found: dict[str, str] = {}
    for index, name in enumerate(spec.envFiles):
        data = read_file(resource, name, "envFiles", index)
        found.update(dotenv.parse(data.decode("utf-8", "surrogateescape")))
    return found


def _mount(resource: Resource, mount: Mount) -> MountRequest:
    source = mount.source or ""
    size = [f"size={mount.size}"] if mount.size is not None else []
    mode = [f"mode={mount.mode}"] if mount.mode is not None else []
    return MountRequest(
        mount.type,
        resource.path(source) if mount.type == "bind" else source,
        mount.target,
        read_only=mount.readOnly,
        propagation=mount.propagation or "",
        no_copy=mount.noCopy,
        tmpfs_options=[*size, *mode],
        create=mount.createHostPath,
    )


def wanted_facts(spec: models.ProcessSpec) -> dict[str, Any]:
    """What the kernel should say of the fields that the spec decides alone; None for no limit."""
    limits = spec.resources.limits
    wanted: dict[str, Any] = {
        "resources.cpuShares": spec.resources.cpuShares,
        "resources.cpuset": spec.resources.cpuset,
        "oomScoreAdj": spec.oomScoreAdj,
        **{f"ulimits.{name}": [limit.soft, limit.hard] for name, limit in spec.ulimits.items()},
    }
    wanted = {name: value for name, value in wanted.items() if value is not None}
    wanted["resources.limits.memory"] = limits.memory
    wanted["resources.limits.cpus"] = limits.cpus
    wanted["resources.reservations.memory"] = spec.resources.reservations.memory
    if limits.pids or not any(option.startswith("specrun.") for option in spec.security.options):
        wanted["resources.limits.pids"] = limits.pids or PIDS_LIMIT
    if isinstance(spec, models.ContainerSpec):
        wanted["restart"] = restart_text(parse_restart(spec.restart or ""))
    return wanted
