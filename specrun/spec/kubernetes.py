"""Specs to Kubernetes objects: a Pod for each container, a batch Job for each job, ConfigMaps, Secrets and claims.

What Kubernetes has no counterpart of is an error that names it.
"""

from __future__ import annotations

import base64
import os
from typing import Any

from specrun.spec.compose.writing import Loss
from specrun.spec.loader import Resource, Specs
from specrun.spec.models import ConfigSpec, ContainerSpec, ProcessSpec, SecretSpec

Values = dict[str, Any]

_DROPPED = frozenset({"image", "labels", "update", "onUnhealthy", "dependsOn"})
"""Fields that are said elsewhere, or that are about specrun's own ways."""
_RESTART = {None: "Never", "no": "Never", "always": "Always", "unless-stopped": "Always", "on-failure": "OnFailure"}


def to_kubernetes(specs: Specs) -> list[Values]:
    """The objects of these specs. Raises SpecProblems that names all that would be lost."""
    loss = Loss("Kubernetes")
    found: list[Values] = []
    for resource in specs.resources.values():
        if isinstance(resource.spec, ProcessSpec):
            found.append(_process(resource, resource.spec, loss))
        elif isinstance(resource.spec, (SecretSpec, ConfigSpec)):
            found.append(_content(resource, resource.spec))
        elif resource.kind == "Volume":
            claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
            found.append({"apiVersion": "v1", "kind": "PersistentVolumeClaim", **_metadata(resource), "spec": claim})
            for key in resource.values:
                if key not in ("keep", "labels"):
                    loss.add(resource, key)
        elif resource.kind not in ("Image", "Build"):  # these make images, which a cluster pulls
            loss.add(resource)
    loss.settle()
    return found


def _metadata(resource: Resource) -> Values:
    labels = {"app": resource.metadata.name, **resource.metadata.labels}
    return {"metadata": {"name": _name(resource.metadata.name), "labels": labels}}


def _name(text: str) -> str:
    """A DNS label: what names of Kubernetes may be."""
    return text.lower().replace("_", "-").replace(".", "-")


def _process(resource: Resource, spec: ProcessSpec, loss: Loss) -> Values:
    pod = _pod(resource, spec, loss)
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


def _pod(resource: Resource, spec: ProcessSpec, loss: Loss) -> Values:
    container: Values = {"name": _name(resource.metadata.name), "image": spec.image}
    pod: Values = {"containers": [container]}
    mounts: list[Values] = []
    volumes: list[Values] = []
    for key, value in resource.values.items():
        if key == "command":
            container["args"] = [_escaped(text) for text in value]
        elif key == "entrypoint":
            container["command"] = [_escaped(text) for text in value]
        elif key == "workingDir":
            container["workingDir"] = value
        elif key == "env":
            container["env"] = [{"name": name, "value": _escaped(text)} for name, text in value.items()]
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
            _given(key, value, mounts, volumes)
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
    if mounts:
        container["volumeMounts"] = mounts
        pod["volumes"] = volumes
    return pod


def _option(text: str) -> Values:
    name, colon, value = text.partition(":")
    return {"name": name, **({"value": value} if colon else {})}


def _escaped(text: str) -> str:
    """$(NAME) would be filled in."""
    return text.replace("$(", "$$(")


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


def _given(table: str, values: list[Values], mounts: list[Values], volumes: list[Values]) -> None:
    for index, one in enumerate(values):
        name = f"{table[:-1]}-{index}"
        target = one.get("target") or one["source"]
        path = target if target.startswith("/") else f"/run/secrets/{target}" if table == "secrets" else f"/{target}"
        mounts.append({"name": name, "mountPath": path, "subPath": "content", "readOnly": True})
        mode = {"defaultMode": int(one["mode"], 8)} if one.get("mode") else {}
        source = _name(one["source"])
        volumes.append(
            {"name": name, "secret": {"secretName": source, **mode}}
            if table == "secrets"
            else {"name": name, "configMap": {"name": source, **mode}}
        )


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


def _content(resource: Resource, spec: SecretSpec | ConfigSpec) -> Values:
    if spec.content is not None:
        data = spec.content.encode()
    elif spec.file is not None:
        with open(resource.path(spec.file), "rb") as file:
            data = file.read(1 << 20)
    else:
        data = os.environb.get(os.fsencode(spec.environment or ""), b"")
    if isinstance(spec, SecretSpec):
        body: Values = {"type": "Opaque", "data": {"content": base64.b64encode(data).decode()}}
        return {"apiVersion": "v1", "kind": "Secret", **_metadata(resource), **body}
    try:
        body = {"data": {"content": data.decode()}}
    except UnicodeDecodeError:
        body = {"binaryData": {"content": base64.b64encode(data).decode()}}
    return {"apiVersion": "v1", "kind": "ConfigMap", **_metadata(resource), **body}
