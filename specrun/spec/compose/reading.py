"""A Compose file to specs. Every key that would be ignored is an error at its place."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from specrun.spec import short, units
from specrun.spec.compose.gathering import gather
from specrun.spec.problems import Problem, SpecProblems
from specrun.spec.yamltext import Document, Path

Values = dict[str, Any]

CONDITIONS = {"service_started": "started", "service_healthy": "healthy", "service_completed_successfully": "completed"}
_TOP = frozenset({"version", "name", "services", "networks", "volumes", "secrets", "configs"})
_PLAIN = {
    "hostname": "hostname",
    "domainname": "domainname",
    "working_dir": "workingDir",
    "stop_signal": "stopSignal",
    "cgroup_parent": "cgroupParent",
    "platform": "platform",
    "pid": "pid",
    "ipc": "ipc",
    "uts": "uts",
    "cgroup": "cgroupns",
}
_FLAGS = {"tty": "tty", "stdin_open": "stdinOpen", "init": "init", "oom_kill_disable": "oomKillDisable"}


class _Wrong(Exception):
    """A value that is not what its key takes."""

    def __init__(self, message: str, *path: str | int, code: str = "wrong-type") -> None:
        super().__init__(message)
        self.message, self.path, self.code = message, path, code


def read_compose(
    name: str, text: str, variables: Mapping[str, str], project: str = "", folder: str = ""
) -> list[Values]:
    """The specs that a Compose file comes to, as documents. Raises SpecProblems with all that can't be kept.

    `project` goes over the file's own name; `folder` is taken where there is neither.
    """
    reader = _Reader(gather(name, text, variables), project, folder)
    found = reader.run()
    if reader.problems:
        raise SpecProblems(reader.problems)
    return found


class _Reader:
    def __init__(self, document: Document, project: str, folder: str = "") -> None:
        self.document = document
        self.top: Values = document.value
        self.problems: list[Problem] = []
        given = self.top.get("name")
        self.project = project or (
            given
            if isinstance(given, str) and given
            else re.sub("[^a-z0-9_-]", "", folder.lower()).lstrip("_-") or "project"
        )
        self.used_default = False

    def run(self) -> list[Values]:
        if "apiVersion" in self.top and "services" not in self.top:
            self.wrong(("apiVersion",), "is one of Kubernetes or specrun, not a Compose file", "not-compose")
            return []
        if self.top.get("name"):
            self._guarded(("name",), lambda: _text(self.top["name"]))
        for key in self.top:
            if key not in _TOP and not key.startswith("x-"):
                self.refuse((key,), key)
        if not re.fullmatch("[a-zA-Z0-9][a-zA-Z0-9_-]*", self.project):
            self.wrong(("name",), f"{self.project!r} is not a project name", "bad-name")
        services = self.table("services")
        if not services and "services" in self.top and self.top["services"] is not None and not self.problems:
            self.wrong(("services",), "expected a mapping of services", "wrong-type")
        completed = self._completed(services)
        made = [self._service(name, values, name in completed) for name, values in services.items()]
        networks = self._networks()
        kept = [*networks, *self._volumes(), *self._files("secrets", "Secret"), *self._files("configs", "Config")]
        return [*kept, *(one for part in made for one in part)]

    def table(self, key: str) -> dict[str, Values]:
        """A top-level mapping of mappings; null stands for an empty one."""
        found = self.top.get(key)
        if found is None:
            return {}
        if not isinstance(found, dict):
            self.wrong((key,), "expected a mapping", "wrong-type")
            return {}
        result = {}
        for name, values in found.items():
            if name.startswith("x-"):
                continue
            if values is not None and not isinstance(values, dict):
                self.wrong((key, name), "expected a mapping", "wrong-type")
                continue
            result[name] = values or {}
        return result

    def refuse(self, path: Path, key: str, note: str = "") -> None:
        place = self.document.place(path, key=True)
        message = "has no counterpart in specrun, and would be ignored"
        self.problems.append(Problem(place, message, "not-supported", "", ".".join(map(str, path)) or key, note))

    def wrong(self, path: Path, message: str, code: str) -> None:
        self.problems.append(Problem(self.document.place(path), message, code, "", ".".join(map(str, path))))

    def _completed(self, services: dict[str, Values]) -> set[str]:
        """Services that others wait for to end: jobs."""
        found = set()
        for values in services.values():
            needed = values.get("depends_on")
            for name, how in needed.items() if isinstance(needed, dict) else ():
                if isinstance(how, dict) and how.get("condition") == "service_completed_successfully":
                    found.add(name)
        return found

    def _service(self, name: str, values: Values, job: bool) -> list[Values]:
        service = _Service(self, name, values, job)
        for key in values:
            path = ("services", name, key)
            if key.startswith("x-"):
                continue
            handler: Callable[[Any], None] | None = getattr(service, f"on_{key}", None)
            if key in _PLAIN:
                handler = service.plain(key)
            elif key in _FLAGS:
                handler = service.flag(key)
            if handler is None:
                self.refuse(path, key)
                continue
            try:
                if values[key] is not None:
                    handler(values[key])
            except _Wrong as error:
                self.wrong((*path, *error.path), error.message, error.code)
            except ValueError as error:
                self.wrong(path, str(error) or f"{values[key]!r} is not understood", "bad-value")
        return service.documents()

    def _networks(self) -> list[Values]:
        found = []
        tables = self.table("networks")
        if self.used_default and "default" not in tables:
            tables = {**tables, "default": {}}
        for name, values in tables.items():
            self._check_external("networks", name, values)
            spec: Values = {}
            for key, value in values.items():
                path = ("networks", name, key)
                if value is None or key in ("name", "external") or key.startswith("x-"):
                    continue
                if key in ("driver", "internal", "enable_ipv6", "driver_opts", "labels", "ipam"):
                    self._guarded(path, partial(_network, key, value, spec))
                else:
                    self.refuse(path, key)
            if not values.get("external"):
                labels = spec.pop("labels", {})
                found.append(_document("Network", self.network_name(name), spec, labels))
        return found

    def _volumes(self) -> list[Values]:
        found = []
        for name, values in self.table("volumes").items():
            self._check_external("volumes", name, values)
            spec: Values = {}
            labels: Values = {}
            for key, value in values.items():
                path = ("volumes", name, key)
                if value is None or key in ("name", "external") or key.startswith("x-"):
                    continue
                if key == "driver" and value == "local":
                    spec["driver"] = value
                elif key == "driver_opts" and isinstance(value, dict):
                    spec["options"] = {option: _scalar(text, option) for option, text in value.items()}
                elif key == "labels":
                    self._guarded(path, partial(_update, labels, value))
                else:
                    self.refuse(path, key)
            if not values.get("external"):
                found.append(_document("Volume", self.volume_name(name), spec, labels))
        return found

    def _files(self, table: str, kind: str) -> list[Values]:
        found = []
        for name, values in self.table(table).items():
            spec: Values = {}
            if values.get("external"):
                self.refuse((table, name, "external"), "external", "give file or environment")
                continue
            for key, value in values.items():
                if key in ("file", "environment") or (key == "content" and kind == "Config"):
                    spec[key] = value
                elif key != "name" and not key.startswith("x-"):
                    self.refuse((table, name, key), key)
            if len(spec) != 1:
                self.wrong((table, name), "expected one of file, environment and content", "wrong-type")
            found.append(_document(kind, name, spec, {}))
        return found

    def _check_external(self, table: str, name: str, values: Values) -> None:
        external = values.get("external")
        if isinstance(external, dict):
            self.refuse((table, name, "external"), "external", "write external: true, and name beside it")
        elif external:
            for key in set(values) - {"external", "name"}:
                if not key.startswith("x-"):
                    self.wrong((table, name, key), f"{key} of something external", "not-one")

    def _guarded(self, path: Path, action: Callable[[], Any]) -> None:
        try:
            action()
        except _Wrong as error:
            self.wrong((*path, *error.path), error.message, error.code)

    def network_name(self, name: str) -> str:
        """As Compose calls it on the host."""
        given = self.table("networks").get(name, {}).get("name")
        return given if isinstance(given, str) else f"{self.project}_{name}"

    def volume_name(self, name: str) -> str:
        """As Compose calls it on the host."""
        given = self.table("volumes").get(name, {}).get("name")
        return given if isinstance(given, str) else f"{self.project}_{name}"

    def declared(self, table: str, name: str) -> None:
        """Raises _Wrong for a name that the top level does not have."""
        found = self.top.get(table)
        if not isinstance(found, dict) or name not in found:
            raise _Wrong(f"refers to {table[:-1]} {name}, which is not declared", code="no-such-spec")


class _Service:
    """One service: a handler `on_<key>` for each key that has a counterpart."""

    def __init__(self, reader: _Reader, name: str, values: Values, job: bool) -> None:
        self.reader, self.name, self.values, self.job = reader, name, values, job
        self.spec: Values = {}
        self.labels: Values = {}
        self.metadata: Values = {}
        self.build: Values | None = None

    def documents(self) -> list[Values]:
        """The container or job, and its build before it."""
        name = self.values.get("container_name")
        name = name if isinstance(name, str) else self.name
        image = self.spec.pop("image", "")
        tag = image or f"{self.reader.project}-{self.name}".lower()
        found = []
        if self.build is not None:
            tags = list(dict.fromkeys([tag, *self.build.pop("tags", [])]))
            found.append(_document("Build", self.name, {"tags": tags, **self.build}, {}))
        elif not image:
            path = ("services", self.name)
            self.reader.wrong(path, "has neither an image nor a build context", "missing-field")
        if "network" not in self.spec and "networks" not in self.spec:
            self.reader.used_default = True
            self.spec["networks"] = [{"name": self.reader.network_name("default"), "aliases": [self.name]}]
        document = _document("Job" if self.job else "Container", name, {"image": tag, **self.spec}, self.labels)
        document["metadata"].update(self.metadata)
        return [*found, document]

    def plain(self, key: str) -> Callable[[Any], None]:
        """A text that is the same in both."""
        return lambda value: self.spec.update({_PLAIN[key]: _text(value)})

    def flag(self, key: str) -> Callable[[Any], None]:
        """A truth that is the same in both."""
        return lambda value: self.spec.update({_FLAGS[key]: _truth(value)})

    def put(self, *path: str, value: Any) -> None:
        """Set a field below mappings that are made as they are needed."""
        node = self.spec
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = value

    def on_image(self, value: Any) -> None:
        self.spec["image"] = _text(value)

    def on_container_name(self, value: Any) -> None:
        _text(value)

    def on_build(self, value: Any) -> None:
        if isinstance(value, str):
            self.build = {"context": value}
            return
        if not isinstance(value, dict):
            raise _Wrong("expected a folder or a mapping")
        names = {"context": "context", "dockerfile": "dockerfile", "dockerfile_inline": "dockerfileInline",
                 "target": "target", "network": "network"}  # fmt: skip
        found: Values = {}
        for key, one in value.items():
            if key in names:
                found[names[key]] = _text(one, key)
            elif key == "args":
                found["args"] = {name: text for name, text in _mapping(one, key).items() if text is not None}
            elif key == "labels":
                found["labels"] = {name: text or "" for name, text in _mapping(one, key).items()}
            elif key == "cache_from":
                found["cacheFrom"] = _texts(one, key)
            elif key == "cache_to":
                found["cacheTo"] = _texts(one, key)
            elif key == "no_cache":
                found["noCache"] = _truth(one, key)
            elif key == "pull":
                found["pull"] = _truth(one, key)
            elif key == "extra_hosts":
                found["extraHosts"] = _hosts(one)
            elif key == "shm_size":
                units.size(one)
                found["shmSize"] = one
            elif key == "tags":
                found["tags"] = _texts(one, key)
            elif key == "additional_contexts":
                found["contexts"] = _mapping(one, key)
            elif key == "platforms":
                found["platforms"] = _texts(one, key)
            elif not key.startswith("x-"):
                self.reader.refuse(("services", self.name, "build", key), key)
        if "dockerfile" in found and "dockerfileInline" in found:
            raise _Wrong("dockerfile and dockerfile_inline are both given")
        self.build = found

    def on_command(self, value: Any) -> None:
        self.spec["command"] = shlex.split(value) if isinstance(value, str) else _scalars(value)

    def on_entrypoint(self, value: Any) -> None:
        self.spec["entrypoint"] = shlex.split(value) if isinstance(value, str) else _scalars(value)

    def on_environment(self, value: Any) -> None:
        self.spec["env"] = {name: text for name, text in _mapping(value).items() if text is not None}

    def on_env_file(self, value: Any) -> None:
        files = []
        for index, one in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(one, dict):
                extra = set(one) - {"path", "required"}
                if extra or one.get("required") is False:
                    key = "required" if one.get("required") is False else sorted(extra)[0]
                    self.reader.refuse(("services", self.name, "env_file", index, key), key)
                one = one.get("path")
            files.append(_text(one, index))
        self.spec["envFiles"] = files

    def on_labels(self, value: Any) -> None:
        self.labels = {name: text or "" for name, text in _mapping(value).items()}

    def on_profiles(self, value: Any) -> None:
        self.metadata["profiles"] = _texts(value)

    def on_ports(self, value: Any) -> None:
        found: list[Any] = []
        for index, one in enumerate(_list(value)):
            if isinstance(one, dict):
                found.append(self._port(one, index))
                continue
            text = _scalar(one, index)
            try:
                found += short.ports(text)
            except ValueError as error:
                raise _Wrong(str(error), index, code="bad-port") from error
        self.spec["ports"] = [one for index, one in enumerate(found) if one not in found[:index]]

    def _port(self, one: Values, index: int) -> Values:
        names = {"target": "containerPort", "published": "hostPort", "host_ip": "hostIP", "protocol": "protocol"}
        if "target" not in one:
            raise _Wrong("target is missing", index, code="missing-field")
        for key, value in one.items():
            harmless = key == "mode" and value in ("ingress", "host")
            if key not in names and not harmless and not key.startswith("x-") and key != "name":
                self.reader.refuse(("services", self.name, "ports", index, key), key)
        found = {names[key]: value for key, value in one.items() if key in names}
        for key in ("containerPort", "hostPort"):
            if isinstance(found.get(key), str) and found[key].isdigit():
                found[key] = int(found[key])
        return found

    def on_volumes(self, value: Any) -> None:
        found = []
        for index, one in enumerate(_list(value)):
            mount = self._mount(one, index) if isinstance(one, dict) else self._short_mount(one, index)
            if mount["type"] == "volume" and mount.get("source"):
                try:
                    self.reader.declared("volumes", mount["source"])
                except _Wrong as error:
                    raise _Wrong(error.message, index, code=error.code) from error
                mount["source"] = self.reader.volume_name(mount["source"])
            found.append(mount)
        self.spec["volumes"] = [*self.spec.get("volumes", []), *found]

    def _short_mount(self, one: Any, index: int) -> Values:
        try:
            mount = short.volume(_text(one, index), drives=True)
        except ValueError as error:
            raise _Wrong(str(error), index, code="bad-volume") from error
        if options := mount.pop("options", None):
            raise _Wrong(f"the option {options[0]} has no counterpart", index, code="not-supported")
        if mount["type"] == "bind":
            mount["createHostPath"] = True
        return mount

    def _mount(self, one: Values, index: int) -> Values:
        if one.get("type") not in ("volume", "bind", "tmpfs"):
            raise _Wrong(f"type {one.get('type')!r}: expected volume, bind or tmpfs", index, code="bad-value")
        if not isinstance(one.get("target"), str):
            raise _Wrong("target is missing", index, code="missing-field")
        mount: Values = {"type": one["type"], "target": one["target"]}
        inner = {
            ("bind", "propagation"): "propagation",
            ("bind", "create_host_path"): "createHostPath",
            ("bind", "selinux"): "selinux",
            ("volume", "nocopy"): "noCopy",
            ("tmpfs", "size"): "size",
            ("tmpfs", "mode"): "mode",
        }
        if one["type"] == "bind" and not one.get("source"):
            raise _Wrong("source is missing", index, code="missing-field")
        size = (one.get("tmpfs") or {}).get("size", 0) if isinstance(one.get("tmpfs"), dict) else 0
        if isinstance(size, (bool, float)) or (isinstance(size, int) and size < 0):
            raise _Wrong(f"size {size}: expected bytes", index, code="bad-size")
        for key, value in one.items():
            if key == "source":
                mount["source"] = _text(value, index)
            elif key == "read_only":
                mount["readOnly"] = _truth(value, index)
            elif key in ("bind", "volume", "tmpfs") and isinstance(value, dict):
                for name, setting in value.items():
                    if (key, name) in inner:
                        mount[inner[key, name]] = f"{setting:04o}" if name == "mode" else setting
                    elif not name.startswith("x-"):
                        self.reader.refuse(("services", self.name, "volumes", index, key, name), name)
            elif key not in ("type", "target") and not key.startswith("x-"):
                self.reader.refuse(("services", self.name, "volumes", index, key), key)
        return mount

    def on_tmpfs(self, value: Any) -> None:
        targets = [value] if isinstance(value, str) else _texts(value)
        mounts = []
        for target in targets:
            path, _, options = target.partition(":")
            mount: Values = {"type": "tmpfs", "target": path}
            for option in options.split(",") if options else []:
                name, _, setting = option.partition("=")
                if name not in ("size", "mode"):
                    raise _Wrong(f"the option {option} has no counterpart", code="not-supported")
                mount[name] = setting
            mounts.append(mount)
        self.spec["volumes"] = [*self.spec.get("volumes", []), *mounts]

    def on_networks(self, value: Any) -> None:
        names = {"aliases": "aliases", "ipv4_address": "ipv4Address", "ipv6_address": "ipv6Address",
                 "mac_address": "macAddress"}  # fmt: skip
        tables = value if isinstance(value, dict) else dict.fromkeys(_texts(value))
        found = []
        for name, settings in tables.items():
            if name != "default":
                self.reader.declared("networks", name)
            else:
                self.reader.used_default = True
            attachment: Values = {"name": self.reader.network_name(name), "aliases": [self.name]}
            for key, setting in (settings or {}).items():
                if key == "aliases":
                    attachment["aliases"] = [self.name, *_texts(setting, name)]
                elif key in names:
                    attachment[names[key]] = setting
                elif not key.startswith("x-"):
                    self.reader.refuse(("services", self.name, "networks", name, key), key)
            found.append(attachment)
        if found:
            self.spec["networks"] = found

    def on_network_mode(self, value: Any) -> None:
        mode = _text(value)
        if self.values.get("networks"):
            raise _Wrong("network_mode and networks are both given", code="not-one")
        kind, colon, name = mode.partition(":")
        if kind == "service" and colon:
            mode = f"container:{name}"
        if mode not in ("none", "host", "bridge") and not mode.startswith("container:"):
            raise _Wrong(f"{mode!r} has no counterpart", code="not-supported")
        self.spec["network"] = mode

    def on_depends_on(self, value: Any) -> None:
        needed = value if isinstance(value, dict) else dict.fromkeys(_texts(value), {"condition": "service_started"})
        services = self.reader.table("services")
        jobs = self.reader._completed(services)
        found = []
        for name, how in needed.items():
            if name not in services:
                raise _Wrong(f"depends on {name}, which is not declared", code="no-such-spec")
            condition = (how or {}).get("condition", "service_started")
            if condition not in CONDITIONS:
                raise _Wrong(f"{condition!r} is not a condition", name, code="bad-value")
            for key, setting in (how or {}).items():
                if key not in ("condition",) and (key, setting) not in (("required", True), ("restart", False)):
                    self.reader.refuse(("services", self.name, "depends_on", name, key), key)
            target = services[name].get("container_name") or name
            kind = "job" if name in jobs else "container"
            found.append({kind: target, "condition": "completed" if kind == "job" else CONDITIONS[condition]})
        self.spec["dependsOn"] = found

    def on_restart(self, value: Any) -> None:
        text = "no" if value is False else _text(value)
        if self.job and text != "no":
            raise _Wrong("others wait for its end, so it cannot be restarted", code="not-supported")
        if not self.job:
            self.spec["restart"] = text

    def on_user(self, value: Any) -> None:
        self.put("security", "user", value=_scalar(value))

    def on_group_add(self, value: Any) -> None:
        self.put("security", "groups", value=_scalars(value))

    def on_privileged(self, value: Any) -> None:
        self.put("security", "privileged", value=_truth(value))

    def on_read_only(self, value: Any) -> None:
        self.put("security", "readOnlyRootFilesystem", value=_truth(value))

    def on_cap_add(self, value: Any) -> None:
        self.put("security", "capabilities", "add", value=_texts(value))

    def on_cap_drop(self, value: Any) -> None:
        self.put("security", "capabilities", "drop", value=_texts(value))

    def on_security_opt(self, value: Any) -> None:
        self.put("security", "options", value=[text.replace(":", "=", 1) for text in _texts(value)])

    def on_userns_mode(self, value: Any) -> None:
        self.put("security", "userns", value=_text(value))

    def on_stop_grace_period(self, value: Any) -> None:
        self.spec["stopTimeout"] = int(units.duration(value))

    def on_healthcheck(self, value: Any) -> None:
        if not isinstance(value, dict):
            raise _Wrong("expected a mapping")
        names = {"interval": "interval", "timeout": "timeout", "start_period": "startPeriod",
                 "start_interval": "startInterval"}  # fmt: skip
        found: Values = {}
        for key, one in value.items():
            if key in names:
                units.duration(one)
                found[names[key]] = one
            elif key == "test":
                found["test"] = ["CMD-SHELL", one] if isinstance(one, str) else _texts(one, key)
            elif key == "retries":
                found["retries"] = _number(one, key)
            elif key == "disable":
                found["disable"] = _truth(one, key)
            elif not key.startswith("x-"):
                self.reader.refuse(("services", self.name, "healthcheck", key), key)
        self.spec["healthcheck"] = found

    def on_logging(self, value: Any) -> None:
        if not isinstance(value, dict):
            raise _Wrong("expected a mapping")
        names = {"max-size": ("maxSize", str), "max-file": ("maxFile", int)}
        if value.get("driver") not in (None, "json-file", "local"):
            self.reader.refuse(("services", self.name, "logging", "driver"), "driver")
        for key, one in (value.get("options") or {}).items():
            if key not in names:
                self.reader.refuse(("services", self.name, "logging", "options", key), key)
                continue
            name, kind = names[key]
            self.put("logging", name, value=kind(one))

    def on_extra_hosts(self, value: Any) -> None:
        self.spec["extraHosts"] = _hosts(value)

    def on_dns(self, value: Any) -> None:
        self.put("dns", "servers", value=[value] if isinstance(value, str) else _texts(value))

    def on_dns_search(self, value: Any) -> None:
        self.put("dns", "search", value=[value] if isinstance(value, str) else _texts(value))

    def on_dns_opt(self, value: Any) -> None:
        self.put("dns", "options", value=_texts(value))

    def on_expose(self, value: Any) -> None:
        self.spec["expose"] = _scalars(value)

    def on_sysctls(self, value: Any) -> None:
        self.spec["sysctls"] = _mapping(value)

    def on_ulimits(self, value: Any) -> None:
        if not isinstance(value, dict):
            raise _Wrong("expected a mapping")
        self.spec["ulimits"] = value

    def on_shm_size(self, value: Any) -> None:
        units.size(value)
        self.spec["shmSize"] = value

    def on_devices(self, value: Any) -> None:
        self.spec["devices"] = _texts(value)

    def on_oom_score_adj(self, value: Any) -> None:
        self.spec["oomScoreAdj"] = _number(value)

    def on_mem_limit(self, value: Any) -> None:
        self._limit("memory", value, units.size)

    def on_memswap_limit(self, value: Any) -> None:
        if value != -1:
            self._limit("memorySwap", value, units.size)

    def on_mem_reservation(self, value: Any) -> None:
        units.size(value)
        self.put("resources", "reservations", "memory", value=value)

    def on_cpus(self, value: Any) -> None:
        self._limit("cpus", value, units.number)

    def on_pids_limit(self, value: Any) -> None:
        if _number(value) > 0:
            self.put("resources", "limits", "pids", value=value)

    def on_cpu_shares(self, value: Any) -> None:
        self.put("resources", "cpuShares", value=_number(value))

    def on_cpuset(self, value: Any) -> None:
        self.put("resources", "cpuset", value=_scalar(value))

    def _limit(self, name: str, value: Any, check: Callable[[Any], Any]) -> None:
        check(value)
        self.put("resources", "limits", name, value=value)

    def on_scale(self, value: Any) -> None:
        if _number(value) != 1:
            self.reader.refuse(("services", self.name, "scale"), "scale", "one service is one container")

    def on_pull_policy(self, value: Any) -> None:
        if value not in ("missing", "if_not_present", "never"):
            self.reader.refuse(("services", self.name, "pull_policy"), "pull_policy")

    def on_volumes_from(self, value: Any) -> None:
        self.spec["volumesFrom"] = [text.removeprefix("container:") for text in _texts(value)]

    def on_secrets(self, value: Any) -> None:
        self.spec["secrets"] = [self._given("secrets", one, index) for index, one in enumerate(_list(value))]

    def on_configs(self, value: Any) -> None:
        self.spec["configs"] = [self._given("configs", one, index) for index, one in enumerate(_list(value))]

    def _given(self, table: str, one: Any, index: int) -> Values:
        fields = {"source": one} if isinstance(one, str) else dict(one) if isinstance(one, dict) else {}
        if not isinstance(fields.get("source"), str):
            raise _Wrong("source is missing", index, code="missing-field")
        self.reader.declared(table, fields["source"])
        for key in list(fields):
            if key in ("uid", "gid"):
                fields[key] = int(fields[key])
            elif key == "mode":
                mode = fields[key]
                fields[key] = mode if isinstance(mode, str) else f"{mode:04o}"
            elif key not in ("source", "target"):
                self.reader.refuse(("services", self.name, table, index, key), key)
        return fields

    def on_deploy(self, value: Any) -> None:
        if not isinstance(value, dict):
            raise _Wrong("expected a mapping")
        for key, one in value.items():
            path = ("services", self.name, "deploy", key)
            if key == "replicas" and one == 1:
                continue
            if key == "resources" and isinstance(one, dict):
                self._resources(one)
            elif key == "update_config" and isinstance(one, dict):
                self._update(one)
            elif key == "restart_policy" and isinstance(one, dict):
                self._restart_policy(one)
            elif not key.startswith("x-"):
                self.reader.refuse(path, key)

    def _restart_policy(self, value: Values) -> None:
        condition = value.get("condition", "any")
        names = {"any": "always", "on-failure": "on-failure", "none": "no"}
        if condition not in names:
            raise _Wrong(f"{condition!r} is not a condition", "restart_policy", "condition", code="bad-value")
        tries = value.get("max_attempts") if condition == "on-failure" else None
        self.on_restart(names[condition] if tries is None else f"{names[condition]}:{_scalar(tries)}")
        for key in value:
            if key != "condition" and not (key == "max_attempts" and tries is not None):
                self.reader.refuse(("services", self.name, "deploy", "restart_policy", key), key)

    def _resources(self, value: Values) -> None:
        known = {"limits": ("memory", "cpus", "pids"), "reservations": ("memory",)}
        for part, fields in value.items():
            for key, one in (fields or {}).items():
                if key in known.get(part, ()):
                    self.put("resources", part, key, value=one)
                else:
                    self.reader.refuse(("services", self.name, "deploy", "resources", part, key), key)

    def _update(self, value: Values) -> None:
        names = {"order": "order", "monitor": "monitor", "failure_action": "onFailure"}
        for key, one in value.items():
            if key in names:
                self.put("update", names[key], value=one)
            elif (key, one) != ("parallelism", 1):
                self.reader.refuse(("services", self.name, "deploy", "update_config", key), key)


def _document(kind: str, name: str, spec: Values, labels: Values) -> Values:
    metadata = {"name": name, **({"labels": labels} if labels else {})}
    return {"apiVersion": "specrun/v1", "kind": kind, "metadata": metadata, "spec": spec}


def _network(key: str, value: Any, spec: Values) -> None:
    if key == "driver":
        spec["driver"] = _text(value)
    elif key == "internal":
        spec["internal"] = _truth(value)
    elif key == "enable_ipv6":
        spec["enableIPv6"] = _truth(value)
    elif key == "driver_opts":
        spec["options"] = {name: _scalar(text, name) for name, text in value.items()}
    elif key == "labels":
        spec["labels"] = _mapping(value)
    else:
        names = {"subnet": "subnet", "gateway": "gateway", "ip_range": "ipRange"}
        if (
            not isinstance(value, dict)
            or set(value) - {"config", "driver"}
            or value.get("driver") not in (None, "default")
        ):
            raise _Wrong("only ipam.config has a counterpart", code="not-supported")
        pools = []
        for index, pool in enumerate(value.get("config") or []):
            if unknown := set(pool) - set(names):
                raise _Wrong(f"{sorted(unknown)[0]} has no counterpart", "config", index, code="not-supported")
            pools.append({names[name]: text for name, text in pool.items()})
        spec["ipam"] = {"config": pools}


def _update(labels: Values, value: Any) -> None:
    labels.update({name: text or "" for name, text in _mapping(value).items()})


def _text(value: Any, *path: str | int) -> str:
    if not isinstance(value, str):
        raise _Wrong(f"found {value!r}, expected text", *path)
    return value


def _scalar(value: Any, *path: str | int) -> str:
    """Text, or a number or truth as it is written."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    raise _Wrong(f"found {type(value).__name__}, expected text or a number", *path)


def _truth(value: Any, *path: str | int) -> bool:
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if not isinstance(value, bool):
        raise _Wrong(f"found {value!r}, expected true or false", *path)
    return value


def _number(value: Any, *path: str | int) -> int:
    if isinstance(value, str) and re.fullmatch("-?[0-9]+", value):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _Wrong(f"found {value!r}, expected a whole number", *path)
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _Wrong("expected a list")
    return value


def _texts(value: Any, *path: str | int) -> list[str]:
    if isinstance(value, str) and path:
        return [value]
    if not isinstance(value, list):
        raise _Wrong("expected a list of texts", *path)
    found = [_text(one, *path, index) for index, one in enumerate(value)]
    if len(set(found)) != len(found) and not path:
        raise _Wrong("holds an item twice", *path, code="duplicate-key")
    return found


def _scalars(value: Any) -> list[str]:
    return [_scalar(one, index) for index, one in enumerate(_list(value))]


def _mapping(value: Any, *path: str | int) -> Values:
    """A mapping, or a list of `NAME=value`; a name alone is None."""
    if isinstance(value, list):
        pairs = [_text(one, *path, index).partition("=") for index, one in enumerate(value)]
        return {name: text if equals else None for name, equals, text in pairs}
    if not isinstance(value, dict):
        raise _Wrong("expected a mapping or a list of NAME=value", *path)
    return {name: None if one is None else _scalar(one, *path, name) for name, one in value.items()}


def _hosts(value: Any) -> dict[str, str]:
    pairs = _mapping(value) if isinstance(value, dict) else dict(_host(text) for text in _texts(value))
    return {name: str(address) for name, address in pairs.items()}


def _host(text: str) -> tuple[str, str]:
    name, separator, address = text.partition("=" if "=" in text else ":")
    if not separator or not name or not address:
        raise _Wrong(f"found {text!r}, expected name:address", code="bad-value")
    return name, address.strip("[]")
