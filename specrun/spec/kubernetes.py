"""Specs to Kubernetes objects: a Pod for each container, a batch Job for each job, ConfigMaps, Secrets and claims.

What Kubernetes has no counterpart of is an error that names it.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from specrun.spec.compose.writing import Loss
from specrun.spec.loader import Resource, Specs
from specrun.spec.models import ConfigSpec, ContainerSpec, ProcessSpec, SecretSpec
from specrun.spec.models.process import FileMount

Values = dict[str, Any]

_DROPPED = frozenset({"image", "labels", "update", "onUnhealthy", "dependsOn"})
"""Fields that are said elsewhere, or that are about specrun's own ways."""
_RESTART = {None: "Never", "no": "Never", "always": "Always", "unless-stopped": "Always", "on-failure": "OnFailure"}


@dataclass(frozen=True)
class _Output:
    """What comes of specs beside the objects of their own, and how it is made."""

    loss: Loss
    objects: list[Values]
    is_own: Callable[[str, str], bool]


def _secrets_only(image: str, folder: str) -> bool:
    """Of an image that nobody has looked at."""
    return folder == "/run/secrets"


def to_kubernetes(specs: Specs, is_own: Callable[[str, str], bool] = _secrets_only) -> list[Values]:
    """The objects of these specs. Raises SpecProblems that names all that would be lost.

    `is_own` says of an image and a folder that the image has no files there, so that a volume hides none.
    """
    loss = Loss("Kubernetes")
    found: list[Values] = []
    output = _Output(loss, found, is_own)
    for resource in specs.resources.values():
        if isinstance(resource.spec, ProcessSpec):
            found.append(_process(resource, resource.spec, specs, output))
        elif isinstance(resource.spec, (SecretSpec, ConfigSpec)):
            found.append(_content(resource))
        elif resource.kind == "Volume":
            claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
            found.append({"apiVersion": "v1", "kind": "PersistentVolumeClaim", **_metadata(resource), "spec": claim})
            for key in resource.values:
                if key not in ("keep", "labels"):
                    loss.add(resource, key)
        elif resource.kind not in ("Image", "Build"):  # these make images, which a cluster pulls
            loss.add(resource)
    loss.settle()
    found.sort(key=lambda one: one["kind"] in ("Pod", "Job"))  # some tools want to know first what these name
    return found


def _metadata(resource: Resource) -> Values:
    labels = {"app": resource.metadata.name, **resource.metadata.labels}
    return {"metadata": {"name": _name(resource.metadata.name), "labels": labels}}


def _name(text: str) -> str:
    """A DNS label: what names of Kubernetes may be."""
    return text.lower().replace("_", "-").replace(".", "-")


def _process(resource: Resource, spec: ProcessSpec, all: Specs, output: _Output) -> Values:
    pod = _pod(resource, spec, all, output)
    if isinstance(spec, ContainerSpec):
        restart = (spec.restart or "no").partition(":")[0]
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            **_metadata(resource),
            "spec": {**pod, "restartPolicy": _RESTART[restart]},
        }
    template = {"metadata": {"labels": {"app": resource.metadata.name}}, "spec": {**pod, "restartPolicy": "Never"}}
    timeout = resource.values.get("timeout")
    limit = {"activeDeadlineSeconds": max(1, int(timeout))} if timeout else {}
    return {"apiVersion": "batch/v1", "kind": "Job", **_metadata(resource),
            "spec": {"backoffLimit": 0, **limit, "template": template}}  # fmt: skip


def _pod(resource: Resource, spec: ProcessSpec, all: Specs, output: _Output) -> Values:
    loss = output.loss
    container: Values = {"name": _name(resource.metadata.name), "image": spec.image}
    pod: Values = {"containers": [container]}
    mounts: list[Values] = []
    volumes: list[Values] = []
    for key, value in resource.values.items():
        if key == "command":
            container["args"] = [_escaped(text, spec.env) for text in value]
        elif key == "entrypoint":
            container["command"] = [_escaped(text, spec.env) for text in value]
        elif key == "workingDir":
            container["workingDir"] = value
        elif key == "env":
            container["env"] = [{"name": name, "value": _escaped(text, spec.env)} for name, text in value.items()]
        elif key == "hostname":
            pod["hostname"] = value
        elif key == "network" and value in ("host", "bridge"):
            pod.update({"hostNetwork": True} if value == "host" else {})
        elif key == "pid" and value == "host":
            pod["hostPID"] = True
        elif key == "ipc" and value == "host":
            pod["hostIPC"] = True
        elif key == "tty":
            container["tty"] = value
        elif key == "stdinOpen":
            container["stdin"] = value
        elif key == "stopTimeout":
            pod["terminationGracePeriodSeconds"] = value
        elif key == "ports":
            container["ports"] = [_port(resource, index, port, loss) for index, port in enumerate(value)]
        elif key == "volumes":
            _volumes(resource, value, mounts, volumes, loss)
        elif key in ("secrets", "configs"):
            continue  # below
        elif key == "resources":
            container["resources"] = _resources(resource, value, loss)
        elif key == "security":
            _security(resource, value, container, pod, loss)
        elif key == "healthcheck":
            _healthcheck(resource, value, container, loss)
        elif key == "extraHosts":
            pod["hostAliases"] = [{"ip": address, "hostnames": [name]} for name, address in value.items()]
        elif key == "dns":
            options = [_option(text) for text in value.get("options", [])]
            pod["dnsConfig"] = {
                **({"nameservers": value["servers"]} if value.get("servers") else {}),
                **({"searches": value["search"]} if value.get("search") else {}),
                **({"options": options} if options else {}),
            }
        elif key not in _DROPPED and key not in ("restart", "timeout"):
            loss.add(resource, key)
    mounts_of_files, volumes_of_files = _given(resource, spec, all, output)
    if mounts or mounts_of_files:
        container["volumeMounts"] = mounts + mounts_of_files
        pod["volumes"] = volumes + volumes_of_files
    return pod


def _option(text: str) -> Values:
    name, colon, value = text.partition(":")
    return {"name": name, **({"value": value} if colon else {})}


def _escaped(text: str, variables: dict[str, str]) -> str:
    """$(NAME) would be filled in, if there is such a variable; anything else stays as it is."""
    for name in variables:
        text = text.replace(f"$({name})", f"$$({name})")
    return text


def _port(resource: Resource, index: int, port: Values, loss: Loss) -> Values:
    if isinstance(port["containerPort"], str) or isinstance(port.get("hostPort"), str):
        loss.add(resource, "ports", index)
        return {}
    found = {key: port[key] for key in ("containerPort", "hostPort", "hostIP") if port.get(key)}
    return {**found, "protocol": port.get("protocol", "tcp").upper()}


def _volumes(resource: Resource, values: list[Values], mounts: list[Values], volumes: list[Values], loss: Loss) -> None:
    for index, mount in enumerate(values):
        name = f"volume-{index}"
        kind = mount.get("type", "volume")
        mounts.append(
            {"name": name, "mountPath": mount["target"], **({"readOnly": True} if mount.get("readOnly") else {})}
        )
        if kind == "bind":
            volumes.append({"name": name, "hostPath": {"path": resource.path(mount["source"])}})
        elif kind == "tmpfs":
            size = {"sizeLimit": str(mount["size"])} if mount.get("size") else {}
            volumes.append({"name": name, "emptyDir": {"medium": "Memory", **size}})
        elif mount.get("source"):
            volumes.append({"name": name, "persistentVolumeClaim": {"claimName": _name(mount["source"])}})
        else:
            volumes.append({"name": name, "emptyDir": {}})
        for key in ("propagation", "mode"):
            if mount.get(key):
                loss.add(resource, "volumes", index, key)


def _given(resource: Resource, spec: ProcessSpec, all: Specs, output: _Output) -> tuple[list[Values], list[Values]]:
    """Mounts and volumes of secrets and configs. Where a folder holds nothing else it is mounted as a whole.

    A file alone, by `subPath`, is what `podman kube play` took for a folder before 4.4; it is for folders with others.
    """
    mounts: list[Values] = []
    volumes: list[Values] = []
    folders: dict[tuple[str, str], list[tuple[str, FileMount]]] = {}
    targets = [mount.target for mount in spec.volumes]
    for table, files in (("secrets", spec.secrets), ("configs", spec.configs)):
        for index, one in enumerate(files):
            for key in ("uid", "gid"):
                if getattr(one, key) is not None:
                    output.loss.add(resource, table, index, key)
            target = one.target or one.source
            path = (
                target if target.startswith("/") else f"/run/secrets/{target}" if table == "secrets" else f"/{target}"
            )
            targets.append(path)
            folders.setdefault((table, os.path.dirname(path)), []).append((os.path.basename(path), one))
    for (table, folder), named in folders.items():
        within = [target for target in targets if target == folder or target.startswith(f"{folder.rstrip('/')}/")]
        if len(within) == len(named) and output.is_own(spec.image, folder):
            name = f"{table[:-1]}-{len(volumes)}"
            mounts.append({"name": name, "mountPath": folder, "readOnly": True})
            volumes.append({"name": name, **_folder(resource, table, named, all, output, name)})
            continue
        for base, one in named:
            name = f"{table[:-1]}-{len(volumes)}"
            path = os.path.join(folder, base)
            mounts.append({"name": name, "mountPath": path, "subPath": one.source, "readOnly": True})
            volumes.append({"name": name, **_source(table, _name(one.source), [], one.mode)})
    return mounts, volumes


def _folder(
    resource: Resource, table: str, named: list[tuple[str, FileMount]], all: Specs, output: _Output, volume: str
) -> Values:
    """The volume of a folder of such files; several have an object of their own, as a volume is of one object."""
    base, one = named[0]
    if len(named) == 1 and (table == "configs" or base == one.source):
        items = [{"key": one.source, "path": base}] if base != one.source else []
        return _source(table, _name(one.source), items, one.mode)
    name = f"{_name(resource.metadata.name)}-{volume}"
    contents = {base: _content_of(all.resources[f"{table[:-1]}/{one.source}"]) for base, one in named}
    kind = "Secret" if table == "secrets" else "ConfigMap"
    metadata = {"metadata": {"name": name, "labels": {"app": resource.metadata.name}}}
    output.objects.append(_object(kind, metadata, contents))
    modes = {one.mode for _, one in named}
    items = [{"key": base, "path": base, **_mode("mode", one.mode)} for base, one in named] if len(modes) > 1 else []
    return _source(table, name, items, modes.pop() if len(modes) == 1 else None)


def _source(table: str, name: str, items: list[Values], mode: str | None) -> Values:
    more = {"optional": False, **({"items": items} if items else {}), **_mode("defaultMode", mode)}
    if table == "secrets":
        return {"secret": {"secretName": name, **more}}
    return {"configMap": {"name": name, **more}}


def _mode(key: str, mode: str | None) -> Values:
    return {key: int(mode, 8)} if mode else {}


def _resources(resource: Resource, values: Values, loss: Loss) -> Values:
    found: Values = {}
    for part, fields in values.items():
        if part not in ("limits", "reservations"):
            loss.add(resource, "resources", part)
            continue
        for key, one in fields.items():
            target = found.setdefault("limits" if part == "limits" else "requests", {})
            if key == "memory":
                target["memory"] = str(one)
            elif key == "cpus":
                target["cpu"] = f"{int(one * 1000)}m"
            else:
                loss.add(resource, "resources", part, key)
    return found


def _security(resource: Resource, values: Values, container: Values, pod: Values, loss: Loss) -> None:
    context: Values = {}
    for key, value in values.items():
        if key == "user" and all(part.isdigit() for part in value.split(":")):
            user, _, group = value.partition(":")
            context["runAsUser"] = int(user)
            if group:
                context["runAsGroup"] = int(group)
        elif key == "groups" and all(group.isdigit() for group in value):
            pod["securityContext"] = {"supplementalGroups": [int(group) for group in value]}
        elif key == "privileged" or key == "readOnlyRootFilesystem":
            context[key] = value
        elif key == "noNewPrivileges":
            context["allowPrivilegeEscalation"] = not value
        elif key == "capabilities":
            context["capabilities"] = {
                part: [name.removeprefix("CAP_") for name in names] for part, names in value.items()
            }
        elif key == "seccomp" and value == "unconfined":
            context["seccompProfile"] = {"type": "Unconfined"}
        else:
            loss.add(resource, "security", key)
    if context:
        container["securityContext"] = context


def _healthcheck(resource: Resource, value: Values, container: Values, loss: Loss) -> None:
    test = value.get("test")
    if value.get("disable") or not test or test == ["NONE"]:
        return
    if isinstance(test, str):
        test = ["CMD-SHELL", test]
    command = test[1:] if test[0] == "CMD" else ["/bin/sh", "-c", test[1]]
    names = {"interval": "periodSeconds", "timeout": "timeoutSeconds", "startPeriod": "initialDelaySeconds"}
    probe: Values = {"exec": {"command": command}}
    for key, one in value.items():
        if key in names:
            probe[names[key]] = max(1, round(one))
        elif key == "retries":
            probe["failureThreshold"] = one
        elif key == "startInterval":
            loss.add(resource, "healthcheck", key)
    container["livenessProbe"] = probe


def _content(resource: Resource) -> Values:
    kind = "Secret" if resource.kind == "Secret" else "ConfigMap"
    return _object(kind, _metadata(resource), {resource.metadata.name: _content_of(resource)})


def _content_of(resource: Resource) -> bytes:
    spec = resource.spec
    assert isinstance(spec, (SecretSpec, ConfigSpec))  # noqa: S101 - by its kind
    if spec.content is not None:
        return spec.content.encode()
    if spec.file is not None:
        with open(resource.path(spec.file), "rb") as file:
            return file.read(1 << 20)
    return os.environb.get(os.fsencode(spec.environment or ""), b"")


def _object(kind: str, metadata: Values, contents: dict[str, bytes]) -> Values:
    """A Secret or ConfigMap; text of the latter stays readable."""
    head = {"apiVersion": "v1", "kind": kind, **metadata}
    encoded = {name: base64.b64encode(data).decode() for name, data in contents.items()}
    if kind == "Secret":
        return {**head, "type": "Opaque", "data": encoded}
    try:
        return {**head, "data": {name: data.decode() for name, data in contents.items()}}
    except UnicodeDecodeError:
        return {**head, "binaryData": encoded}
