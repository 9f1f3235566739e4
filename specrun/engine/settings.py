"""What a container is to be: what was asked for, over what the image says, over the defaults."""

from __future__ import annotations

import os
import time

from specrun.engine import bundle, mounting, networking, policies
from specrun.engine.record import Record
from specrun.engine.signals import signal_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from specrun.engine.request import ContainerRequest
    from specrun.store.images import Image


def record_of(request: ContainerRequest, image: Image, identity: str) -> Record:
    """The record of a new container. Raises SpecrunError when there is no command or the signal is none."""
    base: dict[str, Any] = image.config.get("config") or {}
    command = bundle.command_of(request.entrypoint, request.command, base)
    if request.stop_signal:
        signal_number(request.stop_signal)
    shared = "host" in (request.network.mode, request.security.uts)
    hostname = request.hostname or (os.uname().nodename if shared else identity[:12])
    streams = request.attached_streams()
    return Record(
        id=identity,
        name=request.name,
        image=request.image,
        image_id=image.id,
        created=time.time(),
        path=command[0],
        args=command[1:],
        auto_remove=request.auto_remove,
        transient=request.transient,
        config={
            "Hostname": hostname,
            "Domainname": request.domainname,
            "User": request.user or base.get("User") or "",
            "AttachStdin": "stdin" in streams,
            "AttachStdout": "stdout" in streams,
            "AttachStderr": "stderr" in streams,
            "Tty": request.tty,
            "OpenStdin": request.interactive,
            "StdinOnce": request.interactive and "stdin" in streams,
            **({"ExposedPorts": ports} if (ports := networking.exposed_ports(request.network, base)) else {}),
            "Env": bundle.environment_of(base.get("Env") or [], request.env),
            "Cmd": request.command if request.command else (base.get("Cmd") if request.entrypoint is None else None),
            "Image": request.image,
            "Volumes": _volumes(request, base),
            "WorkingDir": request.workdir or _absolute(base.get("WorkingDir") or ""),
            "Entrypoint": base.get("Entrypoint") if request.entrypoint is None else request.entrypoint or None,
            "OnBuild": None,
            "Labels": dict(sorted({**(base.get("Labels") or {}), **request.labels}.items())),
            **({"StopSignal": signal} if (signal := request.stop_signal or base.get("StopSignal")) else {}),
            **({} if request.stop_timeout is None else {"StopTimeout": request.stop_timeout}),
            **({"Healthcheck": health} if (health := request.health.over(base.get("Healthcheck") or {})) else {}),
        },
        host_config={
            **networking.host_config(request.network),
            "AutoRemove": request.auto_remove,
            **request.security.host_config(),
            "ConsoleSize": list(request.console),
            **mounting.host_config(request),
            **request.resources.host_config(),
            "RestartPolicy": policies.parse_restart(request.restart),
            "LogConfig": policies.log_config(request.log_driver, request.log_options),
            **({"Sysctls": request.sysctls} if request.sysctls else {}),
            **({"Annotations": request.annotations} if request.annotations else {}),
            **({"GroupAdd": request.groups} if request.groups else {}),
            **({"Init": True} if request.init else {}),
        },
        mounts=[],
    )


def _volumes(request: ContainerRequest, base: dict[str, Any]) -> dict[str, Any] | None:
    """`Config.Volumes`: where a volume is mounted that nobody has named."""
    own = [wanted.target for wanted in request.mounts if wanted.text and wanted.kind == "volume" and not wanted.source]
    return {target: {} for target in [*(base.get("Volumes") or {}), *own]} or None


def _absolute(path: str) -> str:
    return path if not path or path.startswith("/") else f"/{path}"
