"""`specrun version`."""

from __future__ import annotations

from specrun.cli.options import Command, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.cli.context import Context

COMMAND = Command(
    "version", "[OPTIONS]", "Print the version.", [Option("-f --format", "value", "Print by a Go template, or json")]
)


def run(arguments: list[str], context: Context) -> int:
    """Print the version."""
    import os
    import platform

    from specrun import __version__

    options = COMMAND.parse(arguments)
    COMMAND.require(options, 0, 0)
    host = os.uname()
    facts = {"Version": __version__, "Python": platform.python_version(), "Kernel": host.release, "Arch": host.machine}
    if options.format == "json":
        import json

        context.out(json.dumps(facts) + "\n")
    elif options.format:
        from specrun.cli.templates import render

        context.out(render(options.format, facts) + "\n")
    else:
        context.out("".join(f"{key + ':':9}{value}\n" for key, value in facts.items()))
    return 0
