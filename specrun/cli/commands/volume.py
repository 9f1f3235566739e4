"""`specrun volume create|inspect|ls|prune|rm`."""

from __future__ import annotations

from specrun.cli import output
from specrun.cli.commands import pruning
from specrun.cli.commands.each import for_each
from specrun.cli.options import Command, Option
from specrun.errors import NotFound, SpecrunError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from specrun.cli.context import Context
    from specrun.engine.volumes import Volume, VolumeStore

CREATE = Command(
    "volume create",
    "[OPTIONS] [VOLUME]",
    "Create a volume.",
    [
        Option("-d --driver", "value", "Volume driver: local"),
        Option("--label", "list", "Set meta data on the volume"),
        Option("--name", "value", "Name of the volume"),
        Option("-o --opt", "list", "Options of the driver: type=none o=bind device=/a/folder", "map"),
    ],
    examples=["volume create data", "volume create --label use=tests"],
)
INSPECT = Command(
    "volume inspect",
    "[OPTIONS] VOLUME [VOLUME...]",
    "Print all about volumes as JSON.",
    [Option("-f --format", "value", "Print by a Go template, or json")],
    examples=["volume inspect data", "volume inspect -f '{{.Mountpoint}}' data"],
)
LS = Command(
    "volume ls",
    "[OPTIONS]",
    "List volumes.",
    [
        Option("-f --filter", "list", "Filter by dangling= driver= label= name=", "filter"),
        Option("--format", "value", "table, json or a Go template"),
        Option("-q --quiet", "flag", "Only show names"),
    ],
    examples=["volume ls", "volume ls -qf dangling=true"],
)
PRUNE = Command(
    "volume prune",
    "[OPTIONS]",
    "Remove the volumes that no container uses.",
    [
        Option("-a --all", "flag", "Remove named ones too (they are removed anyway, as Docker 20.10 does)"),
        Option("--filter", "list", "Filter by label= or label!=", "filter"),
        Option("-f --force", "flag", "Don't ask"),
    ],
    examples=["volume prune -f"],
)
RM = Command(
    "volume rm",
    "[OPTIONS] VOLUME [VOLUME...]",
    "Remove volumes that no container uses.",
    [Option("-f --force", "flag", "Don't complain about volumes that are not there")],
    examples=["volume rm data"],
)
FILTERS = ("dangling", "driver", "label", "name")


def create(arguments: list[str], context: Context) -> int:
    """Create a volume and print its name."""
    from specrun.cli.commands.run import pair

    options = CREATE.parse(arguments)
    CREATE.require(options, 0, 1)
    if options.name and options.arguments:
        raise UsageError("conflicting options: either specify --name or provide positional arg, not both")
    name = options.arguments[0] if options.arguments else options.name
    store = _store(context)
    try:
        volume = store.create(
            name,
            labels=dict(map(pair, options.label)),
            options=dict(map(pair, options.opt)),
            driver=options.driver,
        )
    except UsageError as error:
        error.exit_status = 1
        raise
    context.out(f"{volume.name}\n")
    return 0


def inspect(arguments: list[str], context: Context) -> int:
    """Print the volumes that are found; say which are not."""
    from specrun.cli.commands.inspect import print_documents

    options = INSPECT.parse(arguments)
    INSPECT.require(options, 1)
    store = _store(context)
    return print_documents(options.arguments, lambda name: describe(store.get(name)), options.format, context)


def describe(volume: Volume) -> dict[str, Any]:
    """A volume as `docker volume inspect` shows it."""
    labels, options = (None if given is None else dict(sorted(given.items())) for given in volume.given)
    return {
        "CreatedAt": output.rfc3339(float(int(volume.created))).replace(".000000000", ""),
        "Driver": "local",
        "Labels": labels,
        "Mountpoint": volume.mountpoint,
        "Name": volume.name,
        "Options": options,
        "Scope": "local",
    }


def ls(arguments: list[str], context: Context) -> int:
    """List the volumes."""
    options = LS.parse(arguments)
    LS.require(options, 0, 0)
    filters = [_filter(text) for text in options.filter]
    store = _store(context)
    users = store.users() if any(key == "dangling" for key, _ in filters) else {}
    volumes = [volume for volume in store.all() if _passes(volume, filters, users)]
    if options.quiet and not options.format:
        context.out("".join(f"{volume.name}\n" for volume in volumes))
        return 0
    rows = [_row(volume) for volume in volumes]
    if options.format and options.format not in ("table", "json"):
        for row, volume in zip(rows, volumes, strict=True):
            row["Label"] = lambda name, labels=volume.labels: labels.get(name, "")
    context.out(output.listing(rows, [("DRIVER", "Driver"), ("VOLUME NAME", "Name")], options.format))
    return 0


def prune(arguments: list[str], context: Context) -> int:
    """Remove what nobody uses."""
    options = PRUNE.parse(arguments)
    PRUNE.require(options, 0, 0)
    what = "local volumes not used by at least one container"
    return pruning.prune(
        context, options.force, what, "Deleted Volumes", lambda: prune_volumes(_store(context), options.filter)
    )


def rm(arguments: list[str], context: Context) -> int:
    """Remove the volumes."""
    options = RM.parse(arguments)
    RM.require(options, 1)
    store = _store(context)

    def remove(name: str) -> str:
        try:
            store.remove(name)
        except NotFound:
            if not options.force:
                raise
        return name

    return for_each(options.arguments, context, remove)


def prune_volumes(store: VolumeStore, filters: list[str]) -> tuple[list[str], int]:
    """Remove the volumes that no container uses and all filters let pass; gives their names and bytes."""
    from specrun.engine.volumes import size_of

    tests = []
    for text in filters:
        key, equals, value = text.partition("=")
        if key not in ("label", "label!") or not equals:
            raise UsageError(f"Invalid filter '{key}'", hint="expected label=KEY[=VALUE] or label!=KEY[=VALUE]")
        tests.append((key == "label", value))
    freed = 0

    def wanted(volume: Volume) -> bool:
        nonlocal freed
        if all(pruning.has_label(volume.labels, value) is positive for positive, value in tests):
            freed += size_of(volume.mountpoint)
            return True
        return False

    return [volume.name for volume in store.remove_unused(wanted)], freed


def _store(context: Context) -> VolumeStore:
    from specrun.engine.volumes import VolumeStore

    return VolumeStore(context.root())


def _row(volume: Volume) -> dict[str, Any]:
    return {
        "Availability": "N/A",
        "Driver": "local",
        "Group": "N/A",
        "Labels": ",".join(f"{key}={value}" for key, value in volume.labels.items()),
        "Links": "N/A",
        "Mountpoint": volume.mountpoint,
        "Name": volume.name,
        "Scope": "local",
        "Size": "N/A",
        "Status": "N/A",
    }


def _filter(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    wrong = ""
    if not equals:
        wrong = f"bad format of filter (expected name=value): {text}"
    elif key not in FILTERS:
        wrong = f"Invalid filter '{key}'"
    elif key == "dangling" and value.lower() not in ("true", "false", "1", "0"):
        wrong = f"Invalid filter 'dangling=[{value}]'"
    if wrong:
        error = SpecrunError(wrong, hint=f"expected one of {', '.join(f'{key}=' for key in FILTERS)}")
        error.code = "usage"
        raise error
    return key, value


def _passes(volume: Volume, filters: list[tuple[str, str]], users: dict[str, list[str]]) -> bool:
    for key in {key for key, _ in filters}:
        tests = [_holds(volume, key, value, users) for other, value in filters if other == key]
        if not (all(tests) if key == "label" else any(tests)):
            return False
    return True


def _holds(volume: Volume, key: str, value: str, users: dict[str, list[str]]) -> bool:
    if key == "dangling":
        return (volume.name not in users) == (value.lower() in ("true", "1"))
    if key == "driver":
        return value == "local"
    if key == "name":
        return value in volume.name
    return pruning.has_label(volume.labels, value)
