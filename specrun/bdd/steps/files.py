"""Files of the scenario's folder."""

from __future__ import annotations

import shutil
import stat
import sys
from pathlib import Path

from specrun.bdd.sentences import expect, given, then
from specrun.bdd.world import World


@given('a file "{name}" with')
def _(world: World, name: str, docstring: str) -> None:
    _write(world, name, docstring, 0o644)


@given('an executable file "{name}" with')
def _(world: World, name: str, docstring: str) -> None:
    _write(world, name, docstring, 0o755)


@given("the files beside this feature")
def _(world: World) -> None:
    """Copies all that is in the feature's folder, but for reports, hidden files and other features."""
    expect(world.source, "the feature is in no folder")
    ignored = shutil.ignore_patterns(".*", "*.feature", "reports", "__pycache__")
    shutil.copytree(str(world.source), world.folder, ignore=ignored, symlinks=True, dirs_exist_ok=True)


@given("Python on the host")
def _(world: World) -> None:
    """The command `python`, which not every distribution has by this name."""
    world.engine.command("python", sys.executable)


@given("the workshop's files")
def _(world: World) -> None:
    """The folder `docker` that the workshop's command lines build from."""
    from specrun.bdd.workshop import files

    shutil.copytree(files() / "docker", world.folder / "docker")


@given('the workshop\'s spec "{name}"')
def _(world: World, name: str) -> None:
    """One of specs/workshop, with the files that it builds from."""
    from specrun.bdd.workshop import files

    shutil.copy(files() / name, world.folder / name)
    if (files() / "docker").is_dir() and not (world.folder / "docker").exists():
        shutil.copytree(files() / "docker", world.folder / "docker")


@then('the file "{name}" contains "{text}"')
def _(world: World, name: str, text: str) -> None:
    expect(text, "every file contains nothing: this claim can't fail")
    found = _existing(world, name).read_text(encoding="utf-8", errors="replace")
    expect(text in found, f"expected {text!r} in {name}, which is:\n{found[:2000]}")


@then('there is no file "{name}"')
def _(world: World, name: str) -> None:
    expect(not world.path(name).exists(), f"there is a file {name}")


@then('the file "{name}" has the mode {mode:d}')
def _(world: World, name: str, mode: int) -> None:
    found = stat.S_IMODE(_existing(world, name).lstat().st_mode)
    expect(found == int(str(mode), 8), f"{name} has the mode {found:04o}, expected {int(str(mode), 8):04o}")


def _write(world: World, name: str, text: str, mode: int) -> None:
    path = world.path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text if text.endswith("\n") else f"{text}\n", encoding="utf-8")
    path.chmod(mode)


def _existing(world: World, name: str) -> Path:
    path = world.path(name)
    expect(path.exists(), f"there is no file {name}")
    return path
