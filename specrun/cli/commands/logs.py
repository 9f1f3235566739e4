"""`specrun logs`: what a container has written, stream by stream."""

from __future__ import annotations

from specrun.cli.options import Command, Option
from specrun.errors import SpecrunError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.cli.context import Context

COMMAND = Command(
    "logs",
    "[OPTIONS] CONTAINER",
    "Print the logs of a container.",
    [
        Option("--details", "flag", "Show the labels and variables that --log-opt chose (there are none)"),
        Option("-f --follow", "flag", "Follow the log as it grows"),
        Option("--since", "value", "Show what was written since a time, or a duration before now (42m)"),
        Option("-n --tail", "value", 'Lines to show from the end (default "all")'),
        Option("-t --timestamps", "flag", "Show time stamps"),
        Option("--until", "value", "Show what was written before a time, or a duration before now (42m)"),
    ],
    examples=["logs simple1", "logs -f --tail 10 simple1", "logs --since 10m simple1"],
)


def run(arguments: list[str], context: Context) -> int:
    """Print the log: stdout to stdout, stderr to stderr."""
    from specrun.engine.logs import read_log

    options = COMMAND.parse(arguments)
    COMMAND.require(options, 1, 1)
    tail = None
    if options.tail not in ("", "all"):
        if not options.tail.isascii() or not options.tail.isdigit():
            raise UsageError(f'invalid value for "--tail": {options.tail}', hint='expected a number or "all"')
        tail = int(options.tail)
    engine = context.existing()
    engine.mend()
    container = engine.get(options.arguments[0])
    if (container.host_config.get("LogConfig") or {}).get("Type") == "none":
        raise SpecrunError(
            "configured logging driver does not support reading", hint="it was run with --log-driver none"
        )
    lines = read_log(
        container.directory,
        follow=options.follow,
        tail=tail,
        since=_stamp(options.since, "since"),
        until=_stamp(options.until, "until"),
        is_running=lambda: engine.is_running(container),
    )
    for stamp, stream, data in lines:
        prefix = f"{stamp} ".encode() if options.timestamps else b""
        context.write(1 if stream == "stdout" else 2, prefix + data)
    return 0


def _stamp(text: str, option: str) -> str:
    """A time as the log has it; "" where none was given."""
    if not text:
        return ""
    from specrun.cli import moments, output

    return output.rfc3339(moments.parse(text, option))
