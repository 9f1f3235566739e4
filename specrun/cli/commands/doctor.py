"""`specrun doctor`: what this host can do, and what to do where it can't."""

from __future__ import annotations

from specrun.cli.options import Command, Option
from specrun.errors import UsageError
from specrun.paths import peek_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.cli.context import Context
    from specrun.paths import Root
    from specrun_runtime.host import Finding

COMMAND = Command(
    "doctor",
    "[OPTIONS]",
    "Examine what this host can do. Exits with 1 when containers can't run here.",
    [Option("--output", "value", "text or json")],
    examples=["doctor", "doctor --output json"],
)


def run(arguments: list[str], context: Context) -> int:
    """Print the findings."""
    from specrun_runtime.host import examine

    options = COMMAND.parse(arguments)
    COMMAND.require(options, 0, 0)
    findings = [*examine(), *_networks(peek_root(context.root_path))]
    failed = any(finding.needed and not finding.ok for finding in findings)
    if options.output == "json":
        import json

        names = ("name", "ok", "needed", "detail", "remedy")
        context.out(json.dumps([{name: getattr(finding, name) for name in names} for finding in findings]) + "\n")
    elif options.output in ("", "text"):
        from tabulate import tabulate

        rows = [[one.name, "ok" if one.ok else "MISSING", one.detail, one.remedy] for one in findings]
        context.out(tabulate(rows, headers=["what", "state", "found", "to do"], tablefmt="plain") + "\n")
    else:
        raise UsageError(f"--output {options.output}: expected text or json")
    return 1 if failed else 0


def _networks(root: Root | None) -> list[Finding]:
    """Whether the host still has what the networks of the root were given."""
    import os

    if root is None or not os.path.exists(root.networks):
        return []
    from specrun.network.observation import troubles
    from specrun_runtime.host import Finding

    found = [Finding("networks", False, what, remedy, needed=False) for what, remedy in troubles(root)]
    return found or [Finding("networks", True, "bridges, addresses, routes and rules as made", "", needed=False)]
