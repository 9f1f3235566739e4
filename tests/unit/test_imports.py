"""What a start of a container may not load, because loading it takes longer than the start."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = set("argparse dataclasses typing pathlib subprocess yaml pydantic tabulate pyroute2 shutil".split())
FORMATTING = {"json", "contextlib"}


def modules_after(statement: str) -> set[str]:
    code = f"{statement}; import sys; print(*sys.modules)"
    # -S: what site loads is the installation's business, not ours.
    path = [entry for entry in sys.path if entry]
    prelude = f"import sys; sys.path[:] = {path!r}; "
    done = subprocess.run([sys.executable, "-S", "-c", prelude + code], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize(
    "module",
    ["run", "create", "start", "stop", "kill", "ps", "rm", "logs", "images", "inspect", "wait"],
)
def test_a_verb_of_docker_s_is_light(module: str) -> None:
    loaded = modules_after(
        f"import specrun.cli.main, specrun.cli.context, specrun.cli.commands.{module}, specrun.engine.containers"
    )
    formats = {"ps", "images", "inspect"}  # their templates and JSON for people may load json
    assert loaded & (HEAVY if module in formats else HEAVY | FORMATTING) == set()


def test_networks_are_made_and_joined_without_heavy_libraries() -> None:
    parts = ("joining", "mending", "creation", "names")
    loaded = modules_after("import " + ", ".join(f"specrun.network.{part}" for part in parts))
    assert loaded & (HEAVY | FORMATTING) == set()


def test_a_push_is_on_its_way_soon() -> None:
    loaded = modules_after(
        "import specrun.cli.main, specrun.cli.commands.push, specrun.cli.progress, specrun.registry.push"
    )
    assert loaded & (HEAVY | {"concurrent", "logging", "asyncio", "aiohttp", "urllib3", "ctypes"}) == set()


def test_help_loads_nothing_of_ours_but_itself() -> None:
    loaded = modules_after("import specrun.cli.main")
    assert loaded & (HEAVY | FORMATTING | {"ctypes", "re"}) == set()


def test_the_monitor_is_light() -> None:
    loaded = modules_after("import specrun_runtime.supervise, specrun_runtime.monitor")
    assert loaded & (HEAVY | FORMATTING | {"re", "enum", "collections"}) == set()


@pytest.mark.parametrize(
    "modules",
    [
        "specrun.cli.commands.exec, specrun.engine.execution",
        "specrun.cli.commands.ps, specrun.network.mending",
        "specrun.cli.commands.rm",
    ],
)
def test_who_only_looks_or_asks_speaks_no_ctypes(modules: str) -> None:
    loaded = modules_after(f"import specrun.cli.main, specrun.cli.context, specrun.engine.existing, {modules}")
    assert loaded & (HEAVY | FORMATTING | {"ctypes", "re", "enum", "collections"}) == set()
