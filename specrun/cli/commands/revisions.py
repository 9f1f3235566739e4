"""`specrun revisions`: what a project has been."""

from __future__ import annotations

import json
import os
import time

from specrun.cli.context import Context
from specrun.cli.options import Command, Option
from specrun.paths import peek_root
from specrun.reconcile import revisions
from specrun.spec.naming import project_name

COMMAND = Command(
    "revisions",
    "[OPTIONS] PROJECT|FILE|FOLDER",
    "List the revisions of a project: one for each apply that changed something.",
    [Option("--output", "value", "text or json")],
    examples=["revisions web.yaml"],
)


def run(arguments: list[str], context: Context) -> int:
    """Print a table, the newest first."""
    options = COMMAND.parse(arguments)
    COMMAND.require(options, 1, 1)
    found = revisions.listed(peek_root(context.root_path), project_of(options.arguments[0]))
    if options.output == "json":
        context.out(json.dumps(found) + "\n")
        return 0
    from tabulate import tabulate

    rows = [
        {
            "revision": one["number"],
            "applied": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one["at"])),
            "changes": one["changes"],
            "objects": ", ".join(f"{doc['kind'].lower()}/{doc['metadata']['name']}" for doc in one["documents"])[:80],
        }
        for one in found
    ]
    context.out((tabulate(rows, headers="keys", tablefmt="plain") if rows else "no revisions") + "\n")
    return 0


def project_of(text: str) -> str:
    """The project of a file or folder, or the one that is called so."""
    return project_name([text], "") if os.path.exists(text) else project_name([], text)
