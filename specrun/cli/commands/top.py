"""`specrun top`: the processes of a container, as the host's ps shows them."""

from __future__ import annotations

from specrun.cli.options import Command
from specrun.errors import HostUnfit, SpecrunError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.cli.context import Context

COMMAND = Command(
    "top",
    "CONTAINER [ps OPTIONS]",
    "Display the running processes of a container.",
    [],
    examples=["top simple1", "top simple1 -o pid,args"],
    interspersed=False,
)


def run(arguments: list[str], context: Context) -> int:
    """Print the lines of ps (default -ef) that are about the container's processes."""
    from specrun.engine import control

    options = COMMAND.parse(arguments)
    COMMAND.require(options, 1)
    engine = context.existing()
    engine.mend()
    container = engine.get(options.arguments[0])
    control.require_running(engine, container)
    heading, *lines = _ps(options.arguments[1:] or ["-ef"])
    titles = heading.split()
    if "PID" not in titles:
        raise SpecrunError("Couldn't find PID field in ps output", hint="add pid to the columns that ps shows")
    place = titles.index("PID")
    pids = {str(pid) for pid in container.cgroup.pids()}
    rows = [titles]
    for line in lines:
        words = line.split(None, len(titles) - 1)
        if len(words) > place and words[place] in pids:
            rows.append(words)
    widths = [max(len(row[index]) if index < len(row) else 0 for row in rows) for index in range(len(titles))]
    for row in rows:
        cells = [cell.ljust(max(width, 17) + 3) for cell, width in zip(row, widths, strict=False)]
        context.out("".join(cells).rstrip() + "\n")
    return 0


def _ps(arguments: list[str]) -> list[str]:
    import subprocess

    try:
        done = subprocess.run(["ps", *arguments], capture_output=True, text=True, errors="surrogateescape", check=False)
    except FileNotFoundError as error:
        raise HostUnfit("top needs the command ps on this host", hint="install the package procps") from error
    if done.returncode or not done.stdout:
        raise SpecrunError(f"Error running ps: {done.stderr.strip() or done.returncode}")
    return done.stdout.splitlines()
