"""`specrun inspect`: all about containers, images, networks and volumes, in Docker's shape."""

from __future__ import annotations

from specrun.cli import output
from specrun.cli.options import Command, Option
from specrun.engine import defaults, networking
from specrun.errors import NotFound, SpecrunError, UsageError
from specrun_runtime import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from specrun.cli.context import Context
    from specrun.engine.container import Container
    from specrun.engine.existing import Existing
    from specrun.store.images import Image

COMMAND = Command(
    "inspect",
    "[OPTIONS] NAME|ID [NAME|ID...]",
    "Print all about containers, images, networks and volumes as JSON.",
    [
        Option("-f --format", "value", "Print by a Go template, or json"),
        Option("-s --size", "flag", "Print the sizes of containers too"),
        Option("--type", "value", "container, image, network or volume"),
    ],
    examples=["inspect simple1", "inspect -f '{{.State.Status}}' simple1", "inspect --type volume data"],
)
KINDS = ("container", "image", "network", "volume")
"""In the order in which a name is looked for."""


def run(arguments: list[str], context: Context) -> int:
    """Print what is found; say what is not."""
    options = COMMAND.parse(arguments)
    COMMAND.require(options, 1)
    if options.type not in ("", *KINDS):
        raise UsageError(f'"{options.type}" is not a valid value for --type', hint=f"expected {', '.join(KINDS)}")
    engine = context.existing()
    engine.mend()
    kinds = [options.type] if options.type else KINDS

    def find(name: str) -> dict[str, Any]:
        for kind in kinds:
            try:
                return _FINDERS[kind](name, engine, options.size)
            except NotFound:
                continue
        raise NotFound(f"No such {options.type or 'object'}: {name}")

    return print_documents(options.arguments, find, options.format, context)


def container(arguments: list[str], context: Context) -> int:
    """`container inspect`: containers only."""
    return run(["--type", "container", *arguments], context)


def image(arguments: list[str], context: Context) -> int:
    """`image inspect`: images only."""
    return run(["--type", "image", *arguments], context)


def print_documents(names: list[str], find: Callable[[str], dict[str, Any]], format: str, context: Context) -> int:
    """Print what `find` gives for each name, by `format` or as JSON; 1 when something was not found."""
    template = None
    if format and format != "json":
        from specrun.cli.templates import Template

        template = Template(format)
    found, missing = [], []
    for name in names:
        try:
            found.append(find(name))
        except NotFound as error:
            missing.append(error.message)
    if template:
        context.out("".join(template.render(document) + "\n" for document in found) or "\n")
    elif format:
        import json

        context.out("".join(json.dumps(document, ensure_ascii=False) + "\n" for document in found))
    else:
        context.out(jsontext.pretty(found) + "\n")
    for message in missing:
        context.err(f"Error: {message}\n")
    return 1 if missing else 0


def _container(name: str, engine: Existing, size: bool) -> dict[str, Any]:
    container = engine.get(name)
    document = describe_container(container, engine)
    if size:
        from specrun.engine.volumes import size_of

        own = size_of(f"{container.directory}/upper")
        try:
            below = engine.images.resolve(container.image_id).size
        except NotFound:
            below = 0
        document = {**document, "SizeRw": own, "SizeRootFs": below + own}
    return document


def _image(name: str, engine: Existing, size: bool) -> dict[str, Any]:
    try:
        return describe_image(engine.images.resolve(name))
    except NotFound:
        raise
    except SpecrunError as error:  # no reference can be written so, so there is no such object
        raise NotFound(error.message) from error


def _network(name: str, engine: Existing, size: bool) -> dict[str, Any]:
    from specrun.cli.commands.network import describe

    return describe(engine, engine.networks.get(name))


def _volume(name: str, engine: Existing, size: bool) -> dict[str, Any]:
    from specrun.cli.commands.volume import describe
    from specrun.engine.volumes import VolumeStore

    return describe(VolumeStore(engine.root).get(name))


_FINDERS: dict[str, Callable[[str, Existing, bool], dict[str, Any]]] = {
    "container": _container,
    "image": _image,
    "network": _network,
    "volume": _volume,
}

_HOST_CONFIG: dict[str, Any] = {
    "Binds": None,
    "ContainerIDFile": "",
    "LogConfig": {"Type": "json-file", "Config": {}},
    "NetworkMode": "default",
    "PortBindings": {},
    "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
    "AutoRemove": False,
    "VolumeDriver": "",
    "VolumesFrom": None,
    "CapAdd": None,
    "CapDrop": None,
    "CgroupnsMode": "private",
    "Dns": [],
    "DnsOptions": [],
    "DnsSearch": [],
    "ExtraHosts": None,
    "GroupAdd": None,
    "IpcMode": "private",
    "Cgroup": "",
    "Links": None,
    "OomScoreAdj": 0,
    "PidMode": "",
    "Privileged": False,
    "PublishAllPorts": False,
    "ReadonlyRootfs": False,
    "SecurityOpt": None,
    "UTSMode": "",
    "UsernsMode": "",
    "ShmSize": 67108864,
    "Runtime": "specrun-runtime",
    "ConsoleSize": [0, 0],
    "Isolation": "",
    "CpuShares": 0,
    "Memory": 0,
    "NanoCpus": 0,
    "CgroupParent": "",
    "BlkioWeight": 0,
    "BlkioWeightDevice": [],
    "BlkioDeviceReadBps": None,
    "BlkioDeviceWriteBps": None,
    "BlkioDeviceReadIOps": None,
    "BlkioDeviceWriteIOps": None,
    "CpuPeriod": 0,
    "CpuQuota": 0,
    "CpuRealtimePeriod": 0,
    "CpuRealtimeRuntime": 0,
    "CpusetCpus": "",
    "CpusetMems": "",
    "Devices": [],
    "DeviceCgroupRules": None,
    "DeviceRequests": None,
    "KernelMemory": 0,
    "KernelMemoryTCP": 0,
    "MemoryReservation": 0,
    "MemorySwap": 0,
    "MemorySwappiness": None,
    "OomKillDisable": False,
    "PidsLimit": None,
    "Ulimits": None,
    "CpuCount": 0,
    "CpuPercent": 0,
    "IOMaximumIOps": 0,
    "IOMaximumBandwidth": 0,
    "MaskedPaths": defaults.MASKED_PATHS,
    "ReadonlyPaths": defaults.READONLY_PATHS,
}
"""`HostConfig` of a container that asks for nothing, with Docker's names, types and order."""


_MOUNT = ("Type", "Name", "Source", "Destination", "Driver", "Mode", "RW", "Propagation")


def describe_container(container: Container, engine: Existing) -> dict[str, Any]:
    """A container as `docker inspect` shows it."""
    state, status = container.state, container.status
    where = container.directory
    return {
        "Id": container.id,
        "Created": output.rfc3339(container.created),
        "Path": container.path,
        "Args": container.args,
        "State": {
            "Status": status,
            "Running": state.is_up,
            "Paused": status == "paused",
            "Restarting": status == "restarting",
            "OOMKilled": state.oom_killed,
            "Dead": False,
            "Pid": state.pid,
            "ExitCode": state.exit_code,
            "Error": state.error,
            "StartedAt": output.rfc3339(state.started_at),
            "FinishedAt": output.rfc3339(state.finished_at),
            **({"Health": health} if (health := container.health) else {}),
        },
        "Image": container.image_id,
        "ResolvConfPath": f"{where}/resolv.conf",
        "HostnamePath": f"{where}/hostname",
        "HostsPath": f"{where}/hosts",
        "LogPath": f"{where}/log",
        "Name": f"/{container.name}",
        "RestartCount": state.restarts,
        "Driver": "overlay2",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": None,
        "HostConfig": {**_HOST_CONFIG, **container.host_config},
        "GraphDriver": {
            "Data": {
                "LowerDir": ":".join(_lower(container, engine)),
                "MergedDir": f"{where}/rootfs",
                "UpperDir": f"{where}/upper",
                "WorkDir": f"{where}/work",
            },
            "Name": "overlay2",
        },
        "Mounts": [{key: mount[key] for key in _MOUNT if key in mount} for mount in container.record.mounts],
        "Config": container.config,
        "NetworkSettings": networking.settings_document(container.record, where),
    }


def _lower(container: Container, engine: Existing) -> list[str]:
    try:
        image = engine.images.resolve(container.image_id)
    except NotFound:
        return []
    layers = [f"{engine.root.layers}/{diff_id.partition(':')[2]}/fs" for diff_id in reversed(image.diff_ids)]
    return [f"{engine.root.path}/init", *layers]


def describe_image(image: Image) -> dict[str, Any]:
    """An image as `docker inspect` shows it."""
    from specrun.oci.reference import Reference

    references = [Reference.parse(text) for text in image.references]
    return {
        "Id": image.id,
        "RepoTags": [reference.familiar for reference in references],
        "RepoDigests": sorted({f"{reference.familiar_name}@{image.manifest_digest}" for reference in references}),
        "Parent": image.parent,
        "Comment": (image.config.get("history") or [{}])[-1].get("comment", ""),
        "Created": image.created,
        "Author": image.config.get("author", ""),
        "Config": image.config.get("config", {}),
        "Architecture": image.config.get("architecture", ""),
        "Os": image.config.get("os", ""),
        "Size": image.size,
        "RootFS": {"Type": "layers", "Layers": image.diff_ids},
        "Metadata": {},
    }
