"""The same command scripts on real Docker and on specrun: the same exit status and the same normalised output.

A file of `scripts/` is one area; its paragraphs are the scripts. Both engines run a script at the same time, each in a
folder of its own; containers and volumes that it leaves are removed before the next one. Where the two differ on
purpose, docs/differences.md says why, and the script is not here.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from difflib import unified_diff
from pathlib import Path

import pytest

from specrun.bdd.bases import Bases
from specrun.bdd.engines import BY_NAME, Engine
from specrun.bdd.scene import scene
from specrun.bdd.world import Done, World

pytestmark = pytest.mark.oracle

FOLDER = Path(__file__).parent / "scripts"
EMPTY = (
    "docker ps -aq --no-trunc | xargs -r docker rm -fv >/dev/null; "
    "docker volume ls -q | xargs -r docker volume rm -f >/dev/null"
)


def paragraphs(text: str) -> list[str]:
    """The scripts of a file, without remarks."""
    kept = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    return [part.strip() for part in re.split(r"\n\s*\n", kept) if part.strip()]


SCRIPTS = [
    pytest.param(script, id=f"{file.stem}-{number}")
    for file in sorted(FOLDER.glob("*.txt"))
    for number, script in enumerate(paragraphs(file.read_text(encoding="utf-8")), 1)
]


@pytest.fixture(scope="module")
def engines(bases: Bases) -> Iterator[list[Engine]]:
    """Both engines, with busybox, for all scripts of the run."""
    if "DOCKER_HOST" not in os.environ:
        pytest.skip("run by ./dev compare, which starts a private Docker")
    with ExitStack() as stack:
        made = []
        for name in ("docker", "specrun"):
            engine = BY_NAME[name](stack.enter_context(scene()), bases)
            stack.callback(engine.close)
            engine.image("busybox")
            engine.environment["none"] = "--network none"
            made.append(engine)
        yield made


@pytest.mark.parametrize("script", SCRIPTS)
def test_both_do_the_same(script: str, engines: list[Engine]) -> None:
    with ThreadPoolExecutor(2) as pool:
        docker, specrun = pool.map(lambda engine: _run(engine, script), engines)
    mine, theirs = _normalised(specrun), _normalised(docker)
    if mine != theirs:
        difference = "\n".join(unified_diff(_lines(theirs), _lines(mine), "docker", "specrun", lineterm=""))
        pytest.fail(f"{script}\n{difference}\n--- errors of specrun\n{specrun.errors}", pytrace=False)


def _run(engine: Engine, script: str) -> Done:
    folder = engine.folder / "work"
    if folder.exists():
        subprocess.run(["rm", "-rf", str(folder)], check=True)
    world = World(engine)
    try:
        return world.run(script, timeout=60)
    finally:
        world.run(EMPTY)


def _lines(result: tuple[int, str, str]) -> list[str]:
    status, output, errors = result
    return [f"exit status {status}", *output.splitlines(), errors]


def _normalised(done: Done) -> tuple[int, str, str]:
    """Without what differs by nature: ids, folders, times, and who says what is wrong.

    What a script sends to 2>&1 is compared as text; of other errors only that there are some.
    """
    output = re.sub(r"\b[0-9a-f]{12,64}\b", "<ID>", done.output)
    output = re.sub(r"/tmp/srf-\w+", "<FOLDER>", output)
    output = re.sub(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?( ?[-+Z]\S*)?( UTC)?", "<TIME>", output)
    lines = []
    for line in output.splitlines():
        if line.startswith(("  hint: ", "See 'docker", "Run 'docker")):
            continue
        line = re.sub(r"^(specrun|docker|Error response from daemon): ", "", line)
        line = re.sub(r"^(Error response from daemon|Error): ", "", line)
        lines.append(re.sub(r"( \[[a-z-]+\]|\.)$", "", line))
    while lines and not lines[-1]:
        lines.pop()
    return done.status, "\n".join(lines), "errors" if done.errors else ""
