"""`specrun inspect`: all about containers and images, in Docker's shape."""

from __future__ import annotations

import json

from specrun.cli import output
from specrun.cli.options import Command, Option
from specrun.errors import NotFound, SpecrunError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from specrun.cli.context import Context
    from specrun.engine.containers import Container
    from specrun.store.images import Image

COMMAND = Command(
    "inspect",
    "[OPTIONS] NAME|ID [NAME|ID...]",
    "Print low-level information on containers and images.",
    [
        Option("-f --format", "value", "Print by a Go template"),
        Option("--type", "value", "container or image"),
    ],
    examples=["inspect simple1", "inspect -f '{{.State.Status}}' simple1"],
    unsupported="-s --size",
)


def run(arguments: list[str], context: Context) -> int:
    """Print what is found; say what is not."""
    options = COMMAND.parse(arguments)
    COMMAND.require(options, 1)
    if options.type not in ("", "container", "image"):
        raise UsageError(f'"{options.type}" is not a valid value for --type', hint="expected container or image")
    engine = context.engine()
    engine.mend()
    found, missing = [], []
    for name in options.arguments:
        try:
            found.append(_inspect(name, options.type, engine))
        except NotFound:
            missing.append(name)
    if options.format:
        from specrun.cli.templates import Template

        template = Template(options.format)
        context.out("".join(template.render(document) + "\n" for document in found))
    else:
        context.out(json.dumps(found, indent=4, ensure_ascii=False) + "\n")
    kind = options.type or "object"
    for name in missing:
        context.err(f"Error: No such {kind}: {name}\n")
    return 1 if missing else 0


def _inspect(name: str, kind: str, engine: Any) -> dict[str, Any]:
    if kind != "image":
        try:
            return describe_container(engine.get(name), engine)
        except NotFound:
            if kind:
                raise
    try:
        return describe_image(engine.images.resolve(name))
    except NotFound:
        raise
    except SpecrunError as error:  # no reference can be written so, so there is no such object
        raise NotFound(error.message) from error


def describe_container(container: Container, engine: Any) -> dict[str, Any]:
    """A container as `docker inspect` shows it."""
    state = container.state
    where = container.directory
    return {
        "Id": container.id,
        "Created": output.rfc3339(container.created),
        "Path": container.path,
        "Args": container.args,
        "State": {
            "Status": state.status,
            "Running": state.status == "running",
            "Paused": False,
            "Restarting": False,
            "OOMKilled": state.oom_killed,
            "Dead": False,
            "Pid": state.pid,
            "ExitCode": state.exit_code,
            "Error": state.error,
            "StartedAt": output.rfc3339(state.started_at),
            "FinishedAt": output.rfc3339(state.finished_at),
        },
        "Image": container.image_id,
        "ResolvConfPath": f"{where}/resolv.conf",
        "HostnamePath": f"{where}/hostname",
        "HostsPath": f"{where}/hosts",
        "LogPath": f"{where}/log",
        "Name": f"/{container.name}",
        "RestartCount": 0,
        "Driver": "overlay",
        "Platform": "linux",
        "Mounts": [],
        "HostConfig": container.host_config,
        "GraphDriver": {"Name": "overlay", "Data": {"UpperDir": f"{where}/upper", "WorkDir": f"{where}/work"}},
        "Config": container.config,
        "NetworkSettings": {"Ports": {}, "Networks": {container.host_config["NetworkMode"]: {}}},
    }


def describe_image(image: Image) -> dict[str, Any]:
    """An image as `docker inspect` shows it."""
    from specrun.oci.reference import Reference

    references = [Reference.parse(text) for text in image.references]
    return {
        "Id": image.id,
        "RepoTags": [reference.familiar for reference in references],
        "RepoDigests": sorted({f"{reference.familiar_name}@{image.manifest_digest}" for reference in references}),
        "Parent": "",
        "Comment": "",
        "Created": image.created,
        "Author": image.config.get("author", ""),
        "Config": image.config.get("config", {}),
        "Architecture": image.config.get("architecture", ""),
        "Os": image.config.get("os", ""),
        "Size": image.size,
        "RootFS": {"Type": "layers", "Layers": image.diff_ids},
        "Metadata": {},
    }
