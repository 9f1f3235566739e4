"""`specrun stats`: what containers use, once or again and again."""

from __future__ import annotations

from specrun.cli import output
from specrun.cli.options import Command, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from specrun.cli.context import Context
    from specrun.engine.container import Container
    from specrun.engine.usage import Usage

COMMAND = Command(
    "stats",
    "[OPTIONS] [CONTAINER...]",
    "Display what one or more containers use.",
    [
        Option("-a --all", "flag", "Show all containers, not only running ones"),
        Option("--format", "value", "table, json or a Go template"),
        Option("--no-stream", "flag", "Look once, and end"),
        Option("--no-trunc", "flag", "Don't truncate output"),
    ],
    examples=["stats --no-stream", "stats --no-stream --format '{{.Name}}: {{.MemUsage}}' simple1"],
)
FIELDS = [
    ("CONTAINER ID", "ID"),
    ("NAME", "Name"),
    ("CPU %", "CPUPerc"),
    ("MEM USAGE / LIMIT", "MemUsage"),
    ("MEM %", "MemPerc"),
    ("NET I/O", "NetIO"),
    ("BLOCK I/O", "BlockIO"),
    ("PIDS", "PIDs"),
]


def run(arguments: list[str], context: Context) -> int:
    """Print a table each second, or once."""
    import os

    from specrun.engine.usage import look

    options = COMMAND.parse(arguments)
    engine = context.engine()
    engine.mend()
    clear = "\033[2J\033[H" if not options.no_stream and os.isatty(1) else ""
    while True:
        if options.arguments:
            containers = [engine.get(name) for name in options.arguments]
        else:
            containers = engine.list(all=options.all)
        used = look(containers)
        rows = [_row(one, usage, options.no_trunc) for one, usage in zip(containers, used, strict=True)]
        context.out(clear + output.listing(rows, FIELDS, options.format))
        if options.no_stream:
            return 0


def _row(container: Container, usage: Usage | None, whole: bool) -> dict[str, Any]:
    identity = container.id if whole else container.id[:12]
    row: dict[str, Any] = {"Container": identity, "ID": identity, "Name": container.name}
    if usage is None:
        blank = {"CPUPerc": "--", "MemPerc": "--", "PIDs": "--"}
        return {**row, **blank, "MemUsage": "-- / --", "NetIO": "--", "BlockIO": "--"}
    return {
        **row,
        "CPUPerc": f"{usage.cpu:.2f}%",
        "MemUsage": f"{_binary(usage.memory)} / {_binary(usage.limit)}",
        "MemPerc": f"{usage.memory / usage.limit * 100 if usage.limit else 0:.2f}%",
        "NetIO": f"{output.size(usage.received)} / {output.size(usage.sent)}",
        "BlockIO": f"{output.size(usage.read)} / {output.size(usage.written)}",
        "PIDs": str(usage.pids),
    }


def _binary(count: int) -> str:
    """Bytes in binary units with up to four significant digits: `1.953MiB`."""
    value, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:.4g}{units[0]}"
