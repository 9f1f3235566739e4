"""`specrun version`."""

from __future__ import annotations

from specrun.cli.options import Command, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from specrun.cli.context import Context

COMMAND = Command(
    "version",
    "[OPTIONS]",
    "Print the version.",
    [Option("-f --format", "value", "Print by a Go template, or json")],
    examples=["version", "version -f '{{.Server.Version}}'"],
)


def run(arguments: list[str], context: Context) -> int:
    """Print the version."""
    options = COMMAND.parse(arguments)
    COMMAND.require(options, 0, 0)
    facts = _facts()
    if options.format in ("json", "{{json .}}"):
        import json

        context.out(json.dumps(facts) + "\n")
    elif options.format:
        from specrun.cli.templates import render

        context.out(render(options.format, facts) + "\n")
    else:
        names = ("Version", "Python", "Kernel", "Arch")
        context.out("".join(f"{name + ':':9}{facts[name]}\n" for name in names))
    return 0


def _facts() -> dict[str, Any]:
    """Our own facts, and again as `Client` and `Server`, for those who ask as they ask Docker."""
    import os
    import platform

    from specrun import __version__

    host = os.uname()
    own = {"Version": __version__, "Python": platform.python_version(), "Kernel": host.release, "Arch": host.machine}
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(host.machine, host.machine)
    common = {"Version": __version__, "Os": "linux", "Arch": machine}
    server = {**common, "Platform": {"Name": "specrun"}, "KernelVersion": host.release}
    return {**own, "Client": common, "Server": server}
