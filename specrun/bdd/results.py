"""What a run of features showed, as one JSON document: the configuration, then every scenario with its evidence.

`specrun.report` reads it.
"""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

VERSION = 1


def write(path: str, scenarios: list[dict[str, Any]], engine: str, started: str) -> None:
    """Write the document; scenarios in the order of files and lines, however many workers there were."""
    run = {
        "engine": engine,
        "started": started,
        "configuration": configuration(engine),
        "scenarios": sorted(scenarios, key=lambda item: (item["file"], item["line"], item["id"])),
    }
    document = {"version": VERSION, "runs": [run]}
    Path(path).write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def configuration(engine: str) -> dict[str, str]:
    """What was tested, and on what."""
    from specrun import __version__
    from specrun_runtime.cgroups import hierarchies

    found = hierarchies()
    modes = {True: "version 2", False: "version 1"}
    mode = modes[found[0].unified] if len({item.unified for item in found}) == 1 else "hybrid"
    return {
        "engine": f"{engine} {_version(engine, __version__)}".strip(),
        "specrun": __version__,
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "cgroups": mode,
        "user": "root" if os.geteuid() == 0 else "not root",
        "distribution": _distribution(),
    }


def _version(engine: str, own: str) -> str:
    if engine == "specrun":
        return own
    import subprocess

    field = "Server" if engine == "docker" else "Client"
    command = [engine, "version", "--format", f"{{{{.{field}.Version}}}}"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        return ""
