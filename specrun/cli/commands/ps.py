"""`specrun ps`: the containers of this root."""

from __future__ import annotations

from specrun.cli import output
from specrun.cli.options import Command, Option
from specrun.engine import networking
from specrun.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from specrun.cli.context import Context
    from specrun.engine.container import Container
    from specrun.engine.existing import Existing

COMMAND = Command(
    "ps",
    "[OPTIONS]",
    "List containers.",
    [
        Option("-a --all", "flag", "Show all containers, not only running ones"),
        Option(
            "-f --filter",
            "list",
            "Filter by id= name= status= label= ancestor= exited= before= since= volume= health= network=",
            "filter",
        ),
        Option("--format", "value", "table, json or a Go template"),
        Option("-n --last", "number", "Show the n containers created last"),
        Option("-l --latest", "flag", "Show the container created last"),
        Option("--no-trunc", "flag", "Don't truncate output"),
        Option("-q --quiet", "flag", "Only show ids"),
        Option("-s --size", "flag", "Show the sizes of the files that the containers have written"),
    ],
    examples=["ps", "ps -a", "ps -aq", "ps --format '{{.Names}}: {{.Status}}'"],
)
FIELDS = [
    ("CONTAINER ID", "ID"),
    ("IMAGE", "Image"),
    ("COMMAND", "Command"),
    ("CREATED", "RunningFor"),
    ("STATUS", "Status"),
    ("PORTS", "Ports"),
    ("NAMES", "Names"),
]
FILTERS = ("id", "name", "status", "label", "ancestor", "exited", "before", "since", "volume", "health", "network")
STATUSES = ("created", "restarting", "running", "removing", "paused", "exited", "dead")


def run(arguments: list[str], context: Context) -> int:
    """List the containers."""
    options = COMMAND.parse(arguments)
    COMMAND.require(options, 0, 0)
    filters = [_filter(text) for text in options.filter]
    engine = context.existing()
    engine.mend()
    last = 1 if options.latest else options.last
    chosen = engine.list(all=options.all or last is not None or any(key in ("status", "exited") for key, _ in filters))
    everything = engine.list(all=True) if any(key in ("before", "since") for key, _ in filters) else chosen
    containers = [one for one in chosen if _passes(one, filters, everything)]
    if last is not None and last >= 0:
        containers = containers[:last]
    if options.quiet:
        context.out("".join(f"{one.id if options.no_trunc else one.id[:12]}\n" for one in containers))
        return 0
    rows = [_row(one, options.no_trunc) for one in containers]
    fields = FIELDS
    if options.size or "Size" in options.format:
        fields = [*FIELDS, ("SIZE", "Size")]
        for row, one in zip(rows, containers, strict=True):
            row["Size"] = _size(one, engine)
    if options.format and options.format not in ("table", "json"):
        for row, one in zip(rows, containers, strict=True):
            labels = one.config.get("Labels") or {}
            row["Label"] = lambda name, labels=labels: labels.get(name, "")
    context.out(output.listing(rows, fields, options.format))
    return 0


def _size(container: Container, engine: Existing) -> str:
    """What the container has written, and with its image's files."""
    from specrun.engine.volumes import size_of
    from specrun.errors import NotFound
    from specrun.store.images import ImageStore

    own = size_of(f"{container.directory}/upper")
    try:
        below = ImageStore(engine.root).resolve(container.image_id).size
    except NotFound:
        below = 0
    return f"{output.size(own)} (virtual {output.size(own + below)})"


_HEALTH = {"starting": "health: starting", "healthy": "healthy", "unhealthy": "unhealthy"}


def status(container: Container) -> str:
    """`Up 2 seconds`, `Exited (0) 3 minutes ago` or `Created`."""
    state = container.state
    if state.status == "restarting":
        return f"Restarting ({state.exit_code}) {output.ago(state.finished_at)}"
    if state.status == "running":
        up = f"Up {output.duration(max(0.0, _now() - state.started_at))}"
        if container.is_paused:
            return f"{up} (Paused)"
        return f"{up} ({_HEALTH[health['Status']]})" if (health := container.health) else up
    if state.status == "exited":
        return f"Exited ({state.exit_code}) {output.ago(state.finished_at)}"
    return state.status.capitalize()


def _now() -> float:
    import time

    return time.time()


def _row(container: Container, whole: bool) -> dict[str, Any]:
    command = " ".join([container.path, *(f"'{word}'" if " " in word else word for word in container.args)])
    if not whole and len(command) > 20:
        command = command[:19] + "…"
    labels = container.config.get("Labels") or {}
    return {
        "ID": container.id if whole else container.id[:12],
        "Image": container.image,
        "Command": f'"{_visible(command)}"',
        "CreatedAt": output.local_time(container.created),
        "RunningFor": output.ago(container.created),
        "Status": status(container),
        "State": container.status,
        "Ports": networking.ports_column(container.record, container.directory),
        "Names": container.name,
        "Labels": ",".join(f"{key}={value}" for key, value in labels.items()),
        "Mounts": ",".join(_mount(mount, whole) for mount in container.record.mounts),
        "Networks": ",".join(networking.network_names(container.record, container.directory)),
        "LocalVolumes": str(sum(mount["Type"] == "volume" for mount in container.record.mounts)),
        "Size": "0B",
    }


def _mount(mount: dict[str, Any], whole: bool) -> str:
    """What is mounted, by the name of the volume or the host's path."""
    text: str = mount.get("Name") or mount["Source"]
    return text if whole or len(text) <= 15 else f"{text[:14]}…"


def _visible(text: str) -> str:
    """Control characters as escapes: a container's command line must not drive the terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _filter(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if key not in FILTERS or not equals:
        raise _no_filter(text, ", ".join(f"{key}=" for key in FILTERS))
    if key == "status" and value not in STATUSES:
        raise _no_filter(text, ", ".join(STATUSES))
    return key, value


def _no_filter(text: str, expected: str) -> UsageError:
    error = UsageError(f"Invalid filter '{text}'", hint=f"expected one of {expected}")
    error.exit_status = 1
    return error


def _passes(container: Container, filters: list[tuple[str, str]], everything: list[Container]) -> bool:
    """Values of one key are alternatives, different keys must all hold; labels must hold each."""
    for key in {key for key, _ in filters}:
        values = [value for other, value in filters if other == key]
        tests = [_holds(container, key, value, everything) for value in values]
        if not (all(tests) if key == "label" else any(tests)):
            return False
    return True


def _holds(container: Container, key: str, value: str, everything: list[Container]) -> bool:
    if key == "id":
        return container.id.startswith(value)
    if key == "name":
        import re

        return re.search(value, container.name) is not None
    if key == "status":
        return container.status == value
    if key == "health":
        return str((container.health or {"Status": "none"})["Status"]) == value
    if key == "network":
        return value in networking.network_names(container.record, container.directory)
    if key == "exited":
        return container.state.status == "exited" and str(container.state.exit_code) == value
    if key == "ancestor":
        from specrun.oci.reference import Reference

        return container.image_id.startswith((value, f"sha256:{value}")) or (
            Reference.parse(container.image).canonical == Reference.parse(value).canonical
        )
    if key == "label":
        name, equals, wanted = value.partition("=")
        labels = container.config.get("Labels") or {}
        return name in labels and (not equals or labels[name] == wanted)
    if key == "volume":
        return any(value in (mount.get("Name"), mount["Destination"]) for mount in container.record.mounts)
    marks = [one.created for one in everything if value in (one.name, one.id) or one.id.startswith(value)]
    if not marks:
        raise UsageError(f"No such container: {value}")
    return container.created < marks[0] if key == "before" else container.created > marks[0]
