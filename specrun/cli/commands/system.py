"""`specrun system df` and `specrun system prune`: what takes room, and what nobody needs."""

from __future__ import annotations

from specrun.cli import output
from specrun.cli.commands.pruning import confirmed, listing
from specrun.cli.options import Command, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from specrun.cli.context import Context
    from specrun.engine.container import Container
    from specrun.engine.containers import Engine
    from specrun.engine.volumes import Volume
    from specrun.store.images import Image

DF = Command(
    "system df",
    "[OPTIONS]",
    "Show what images, containers and volumes take of the disk.",
    [
        Option("--format", "value", "table, json or a Go template"),
        Option("-v --verbose", "flag", "Show each of them"),
    ],
    examples=["system df", "system df -v"],
)
PRUNE = Command(
    "system prune",
    "[OPTIONS]",
    "Remove stopped containers, unused networks, dangling images and build cache; on demand unused images and volumes.",
    [
        Option("-a --all", "flag", "Remove all images that no container uses, not just dangling ones"),
        Option("--filter", "list", "Filter by until=, label= or label!=", "filter"),
        Option("-f --force", "flag", "Don't ask"),
        Option("--volumes", "flag", "Remove the volumes that no container uses too"),
    ],
    examples=["system prune -f", "system prune -a --volumes"],
)


class _Usage:
    """Everything of one root, with its sizes in bytes."""

    def __init__(self, engine: Engine) -> None:
        from specrun.build.pruning import kept
        from specrun.engine.volumes import VolumeStore, size_of

        self.cache = kept(engine.root)
        store = VolumeStore(engine.root)
        self.containers = [(one, size_of(f"{one.directory}/upper")) for one in engine.list(all=True)]
        self.users: dict[str, int] = {}
        for one, _ in self.containers:
            self.users[one.image_id] = self.users.get(one.image_id, 0) + 1
        self.images = engine.images.all()
        links = store.users()
        self.volumes = [(one, size_of(one.mountpoint), len(links.get(one.name, ()))) for one in store.all()]
        self.layers: dict[str, int] = {}
        self.shared: dict[str, int] = {}
        for image in self.images:
            for layer in engine.images.layers(image):
                self.layers[layer.diff_id] = layer.content_size
                self.shared[layer.diff_id] = self.shared.get(layer.diff_id, 0) + 1

    def shared_by(self, image: Image) -> int:
        """The bytes of an image that other images have too."""
        return sum(self.layers[diff_id] for diff_id in image.diff_ids if self.shared[diff_id] > 1)

    def rows(self) -> list[dict[str, Any]]:
        """The lines of `system df`."""
        total = sum(self.layers.values())
        needed = {diff_id for image in self.images if image.id in self.users for diff_id in image.diff_ids}
        unused = total - sum(self.layers[diff_id] for diff_id in needed)
        running = [one for one, _ in self.containers if one.state.status in ("running", "paused", "restarting")]
        busy = {one.id for one in running}
        written = sum(size for _, size in self.containers)
        idle = sum(size for one, size in self.containers if one.id not in busy)
        held = sum(size for _, size, _ in self.volumes)
        free = sum(size for _, size, links in self.volumes if not links)
        active = sum(image.id in self.users for image in self.images)
        used = sum(links > 0 for _, _, links in self.volumes)
        cached = sum(one.size for one in self.cache)
        return [
            _line("Images", len(self.images), active, total, unused, always=True),
            _line("Containers", len(self.containers), len(running), written, idle),
            _line("Local Volumes", len(self.volumes), used, held, free),
            _line("Build Cache", len(self.cache), 0, cached, cached),
        ]


def df(arguments: list[str], context: Context) -> int:
    """Print the table."""
    options = DF.parse(arguments)
    DF.require(options, 0, 0)
    engine = context.engine()
    engine.mend()
    usage = _Usage(engine)
    if options.verbose and not options.format:
        context.out(_verbose(usage))
        return 0
    fields = [("TYPE", "Type"), ("TOTAL", "TotalCount"), ("ACTIVE", "Active"), ("SIZE", "Size")]
    context.out(output.listing(usage.rows(), [*fields, ("RECLAIMABLE", "Reclaimable")], options.format))
    return 0


def prune(arguments: list[str], context: Context) -> int:
    """Ask, remove, and say what went."""
    options = PRUNE.parse(arguments)
    PRUNE.require(options, 0, 0)
    if not options.force and not confirmed(context, _warning(options.all, options.volumes)):
        return 0
    engine = context.engine()
    engine.mend()
    freed = 0
    from specrun.build.pruning import prune as prune_cache
    from specrun.cli.commands.prune import prune_containers, prune_images
    from specrun.cli.commands.volume import prune_volumes
    from specrun.engine.volumes import VolumeStore

    labels = [text for text in options.filter if text.startswith("label")]
    steps: list[tuple[str, list[str], int]] = [("Deleted Containers", *prune_containers(engine, options.filter))]
    steps.append(("Deleted Networks", _networks(engine), 0))
    if options.volumes:
        steps.append(("Deleted Volumes", *prune_volumes(VolumeStore(engine.root), labels)))
    if not options.filter:
        steps.append(("Deleted Images", *prune_images(engine, [], all=options.all)))
        steps.append(("Deleted build cache objects", *prune_cache(engine.root, all=options.all)))
    for title, names, size in steps:
        freed += size
        context.out(listing(title, names))
    context.out(f"Total reclaimed space: {output.size(freed)}\n")
    return 0


def _networks(engine: Engine) -> list[str]:
    """Remove the networks that no container wants; gives their names."""
    from specrun.engine import connecting
    from specrun.network.creation import prune as prune_networks

    return list(prune_networks(engine.networks, connecting.wanted(engine), lambda network: True))


def _warning(all: bool, volumes: bool) -> str:
    things = ["all stopped containers", "all networks not used by at least one container"]
    if volumes:
        things.append("all volumes not used by at least one container")
    things.append("all images without at least one container associated to them" if all else "all dangling images")
    things.append("all build cache" if all else "all dangling build cache")
    return "WARNING! This will remove:\n" + "".join(f"  - {thing}\n" for thing in things) + "\n"


def _line(kind: str, total: int, active: int, size: int, free: int, *, always: bool = False) -> dict[str, Any]:
    share = f" ({free * 100 // size}%)" if size > 0 else " (0%)" if always and total else ""
    return {
        "Type": kind,
        "TotalCount": str(total),
        "Active": str(active),
        "Size": output.size(size),
        "Reclaimable": f"{output.size(free)}{share}",
    }


def _verbose(usage: _Usage) -> str:
    from specrun.cli.commands.images import rows_of

    images = [["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "SHARED SIZE", "UNIQUE SIZE", "CONTAINERS"]]
    for image in usage.images:
        shared = usage.shared_by(image)
        for row in rows_of(image, image.references):
            sizes = [row["Size"], output.size(shared), output.size(max(0, image.size - shared))]
            count = str(usage.users.get(image.id, 0))
            images.append([row["Repository"], row["Tag"], row["ID"], row["CreatedSince"], *sizes, count])
    containers = [["CONTAINER ID", "IMAGE", "COMMAND", "LOCAL VOLUMES", "SIZE", "CREATED", "STATUS", "NAMES"]]
    containers += [_container(one, size) for one, size in usage.containers]
    volumes = [["VOLUME NAME", "LINKS", "SIZE"]]
    volumes += [_volume(one, size, links) for one, size, links in usage.volumes]
    cache = [["CACHE ID", "CACHE TYPE", "SIZE", "CREATED", "LAST USED", "USAGE", "SHARED"]]
    parts = [
        f"Images space usage:\n\n{output.columns(images)}",
        f"Containers space usage:\n\n{output.columns(containers)}",
    ]
    parts.append(f"Local Volumes space usage:\n\n{output.columns(volumes)}")
    for one in usage.cache:
        cache.append([one.id[:12], one.kind, output.size(one.size), output.ago(one.created), "", "", "false"])
    size = output.size(sum(one.size for one in usage.cache))
    parts.append(f"Build cache usage: {size}\n\n{output.columns(cache)}")
    return "\n".join(parts)


def _container(container: Container, size: int) -> list[str]:
    from specrun.cli.commands.ps import _row

    row = _row(container, False)
    words = [row["ID"], row["Image"], row["Command"], row["LocalVolumes"], output.size(size)]
    return [*words, row["RunningFor"], row["Status"], row["Names"]]


def _volume(volume: Volume, size: int, links: int) -> list[str]:
    return [volume.name, str(links), output.size(size)]
