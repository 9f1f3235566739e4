"""Specs to a Compose file. What Compose has no counterpart of is an error that names it."""

from __future__ import annotations

from typing import Any

from specrun.spec.loader import Resource, Specs
from specrun.spec.models import ProcessSpec
from specrun.spec.problems import Problem, SpecProblems, dotted
from specrun.spec.yamltext import Path

Values = dict[str, Any]

_PLAIN = {
    "command": "command",
    "entrypoint": "entrypoint",
    "workingDir": "working_dir",
    "env": "environment",
    "envFiles": "env_file",
    "hostname": "hostname",
    "domainname": "domainname",
    "network": "network_mode",
    "expose": "expose",
    "extraHosts": "extra_hosts",
    "volumesFrom": "volumes_from",
    "sysctls": "sysctls",
    "ulimits": "ulimits",
    "shmSize": "shm_size",
    "pid": "pid",
    "ipc": "ipc",
    "uts": "uts",
    "cgroupns": "cgroup",
    "cgroupParent": "cgroup_parent",
    "oomScoreAdj": "oom_score_adj",
    "oomKillDisable": "oom_kill_disable",
    "init": "init",
    "tty": "tty",
    "stdinOpen": "stdin_open",
    "stopSignal": "stop_signal",
    "platform": "platform",
    "restart": "restart",
    "labels": "labels",
}
_NESTED: dict[tuple[str, ...], str] = {
    ("security", "user"): "user",
    ("security", "groups"): "group_add",
    ("security", "privileged"): "privileged",
    ("security", "readOnlyRootFilesystem"): "read_only",
    ("security", "capabilities", "add"): "cap_add",
    ("security", "capabilities", "drop"): "cap_drop",
    ("security", "options"): "security_opt",
    ("resources", "limits", "memory"): "mem_limit",
    ("resources", "limits", "memorySwap"): "memswap_limit",
    ("resources", "limits", "cpus"): "cpus",
    ("resources", "limits", "pids"): "pids_limit",
    ("resources", "reservations", "memory"): "mem_reservation",
    ("resources", "cpuShares"): "cpu_shares",
    ("resources", "cpuset"): "cpuset",
    ("dns", "servers"): "dns",
    ("dns", "search"): "dns_search",
    ("dns", "options"): "dns_opt",
}
_CONDITIONS = {"started": "service_started", "healthy": "service_healthy"}


class Loss:
    """What can't be said in the other format, collected so that all is seen at once."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.problems: list[Problem] = []

    def add(self, resource: Resource, *path: str | int) -> None:
        """A field that would be lost."""
        full: Path = ("spec", *path) if path else ("kind",)
        what = dotted(full)
        place = resource.place(*full, key=True)
        message = f"has no counterpart in {self.target}, and would be lost"
        self.problems.append(Problem(place, message, "not-supported", resource.key, what))

    def settle(self) -> None:
        """Raises SpecProblems when there was any."""
        if self.problems:
            raise SpecProblems(self.problems)


def to_compose(specs: Specs) -> Values:
    """One Compose file of these specs. Raises SpecProblems that names all that would be lost."""
    loss = Loss("Compose")
    found: Values = {"services": {}}
    for resource in specs.resources.values():
        name, values = resource.metadata.name, resource.values
        if isinstance(resource.spec, ProcessSpec):
            found["services"][name] = {**found["services"].get(name, {}), **_service(resource, specs, loss)}
        elif resource.kind == "Network":
            found.setdefault("networks", {})[name] = {"name": name, **_network(resource, loss)}
        elif resource.kind == "Volume":
            options = {"driver_opts": values["options"]} if values.get("options") else {}
            found.setdefault("volumes", {})[name] = {"name": name, **options}
        elif resource.kind in ("Secret", "Config"):
            _file(resource, found, loss)
        elif resource.kind == "Image":
            pass  # it must be in the engine's store: Compose pulls what is not
        elif resource.kind == "Build":
            pass  # beside the service that uses it
        else:
            loss.add(resource)
    loss.settle()
    return found


def _service(resource: Resource, specs: Specs, loss: Loss) -> Values:
    spec = resource.spec
    assert isinstance(spec, ProcessSpec)  # noqa: S101 - the caller has looked
    service: Values = {"image": spec.image, "container_name": resource.metadata.name}
    for build in specs.resources.values():
        if build.kind == "Build" and spec.image in getattr(build.spec, "tags", ()):
            service["build"] = _build(build, spec.image, loss)
    for key, value in resource.values.items():
        if key in _PLAIN:
            service[_PLAIN[key]] = value
        elif key in ("security", "resources", "dns"):
            _nested(resource, (key,), value, service, loss)
        elif key == "ports":
            service["ports"] = [_port(port) for port in value]
        elif key == "volumes":
            service["volumes"] = [_mount(resource, mount) for mount in value]
        elif key == "networks":
            service["networks"] = {one["name"]: _attachment(one) for one in value}
        elif key == "dependsOn":
            service["depends_on"] = _dependencies(resource, value, loss)
        elif key == "stopTimeout":
            service["stop_grace_period"] = f"{value}s"
        elif key == "healthcheck":
            service["healthcheck"] = _healthcheck(value)
        elif key in ("secrets", "configs"):
            service[key] = [_given(one) for one in value]
        elif key == "logging":
            options = {"max-size": str(value.get("maxSize", "")), "max-file": str(value.get("maxFile", ""))}
            service["logging"] = {"driver": "json-file", "options": {name: one for name, one in options.items() if one}}
        elif key == "devices":
            service["devices"] = [f"{one['source']}:{one['target'] or one['source']}" for one in value]
        elif key != "image":
            loss.add(resource, key)
    found: Values = _escaped(service)
    return found


def _nested(resource: Resource, path: tuple[str, ...], value: Any, service: Values, loss: Loss) -> None:
    if path in _NESTED:
        service[_NESTED[path]] = value
    elif isinstance(value, dict):
        for key, one in value.items():
            _nested(resource, (*path, key), one, service, loss)
    elif path == ("security", "noNewPrivileges"):
        service.setdefault("security_opt", []).append(f"no-new-privileges:{'true' if value else 'false'}")
    elif path == ("security", "seccomp"):
        service.setdefault("security_opt", []).append(f"seccomp:{value}")
    else:
        loss.add(resource, *path)


def _port(port: Values) -> str:
    address = f"{port['hostIP']}:" if port.get("hostIP") else ""
    outer = f"{port['hostPort']}:" if port.get("hostPort") else ":" if address else ""
    return f"{address}{outer}{port['containerPort']}/{port.get('protocol', 'tcp')}"


def _mount(resource: Resource, mount: Values) -> Any:
    kind = mount.get("type", "volume")
    source = resource.path(mount["source"]) if kind == "bind" else mount.get("source")
    found: Values = {"type": kind, "target": mount["target"], **({"source": source} if source else {})}
    if mount.get("readOnly"):
        found["read_only"] = True
    if mount.get("propagation"):
        found["bind"] = {"propagation": mount["propagation"]}
    if mount.get("noCopy"):
        found["volume"] = {"nocopy": True}
    if mount.get("size"):
        found["tmpfs"] = {"size": mount["size"]}
    return found


def _attachment(one: Values) -> Any:
    names = {"aliases": "aliases", "ipv4Address": "ipv4_address", "ipv6Address": "ipv6_address"}
    return {names[key]: value for key, value in one.items() if key in names} or None


def _dependencies(resource: Resource, needed: list[Values], loss: Loss) -> Values:
    found: Values = {}
    for index, one in enumerate(needed):
        kind = next(key for key in one if key != "condition")
        if kind == "job":
            found[one[kind]] = {"condition": "service_completed_successfully"}
        elif kind == "container":
            found[one[kind]] = {"condition": _CONDITIONS[one.get("condition", "started")]}
        elif kind not in ("image", "build"):
            loss.add(resource, "dependsOn", index)
    return found


def _healthcheck(value: Values) -> Values:
    names = {"interval": "interval", "timeout": "timeout", "startPeriod": "start_period",
             "startInterval": "start_interval"}  # fmt: skip
    found = {names[key]: f"{one:g}s" for key, one in value.items() if key in names}
    return {**found, **{key: value[key] for key in ("test", "retries", "disable") if key in value}}


def _given(one: Values) -> Any:
    found = {key: one[key] for key in ("source", "target") if one.get(key)}
    found.update({key: str(one[key]) for key in ("uid", "gid") if one.get(key) is not None})
    return {**found, **({"mode": int(one["mode"], 8)} if one.get("mode") else {})}


_BUILD = {
    "dockerfile": "dockerfile", "dockerfileInline": "dockerfile_inline", "args": "args", "target": "target",
    "labels": "labels", "network": "network", "cacheFrom": "cache_from", "cacheTo": "cache_to", "noCache": "no_cache",
    "pull": "pull", "platforms": "platforms", "extraHosts": "extra_hosts", "shmSize": "shm_size",
}  # fmt: skip


def _build(build: Resource, image: str, loss: Loss) -> Values:
    values = build.values
    for key in values:
        if key not in _BUILD and key not in ("tags", "context", "contexts"):
            loss.add(build, key)
    found: Values = {"context": build.path(values.get("context", "."))}
    found.update({_BUILD[key]: value for key, value in values.items() if key in _BUILD})
    if others := [tag for tag in values["tags"] if tag != image]:
        found["tags"] = others
    if contexts := values.get("contexts"):
        found["additional_contexts"] = {
            name: text if "://" in text else build.path(text) for name, text in contexts.items()
        }
    return found


def _network(resource: Resource, loss: Loss) -> Values:
    values = resource.values
    names = {"driver": "driver", "internal": "internal", "enableIPv6": "enable_ipv6", "options": "driver_opts",
             "labels": "labels"}  # fmt: skip
    found = {names[key]: value for key, value in values.items() if key in names}
    if "ipam" in values:
        fields = {"subnet": "subnet", "gateway": "gateway", "ipRange": "ip_range"}
        pools = values["ipam"].get("config", [])
        found["ipam"] = {"config": [{fields[key]: one for key, one in pool.items() if one} for pool in pools]}
    if "mtu" in values:
        found.setdefault("driver_opts", {})["com.docker.network.driver.mtu"] = str(values["mtu"])
    return found


def _file(resource: Resource, found: Values, loss: Loss) -> None:
    spec = resource.spec
    table = found.setdefault(f"{resource.kind.lower()}s", {})
    path, variable = getattr(spec, "file", None), getattr(spec, "environment", None)
    if path:
        table[resource.metadata.name] = {"file": resource.path(path)}
    elif variable and resource.kind == "Secret":
        table[resource.metadata.name] = {"environment": variable}
    else:
        loss.add(resource, "content" if not variable else "environment")


def _escaped(value: Any) -> Any:
    """`$` as Compose wants it."""
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, dict):
        return {key: _escaped(one) for key, one in value.items()}
    return [_escaped(one) for one in value] if isinstance(value, list) else value
