"""Copies of the package that a test may change, and features run with them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import specrun
import specrun_runtime
from specrun.bdd import workshop
from specrun.bdd.bases import Bases

PACKAGES = [Path(package.__path__[0]) for package in (specrun, specrun_runtime)]


def copy_of(folder: Path) -> Path:
    """The packages as an installation has them, in a folder of their own."""
    for package in PACKAGES:
        shutil.copytree(package, folder / package.name, copy_function=shutil.copy2)
    inside = folder / "specrun" / "workshop"
    shutil.copytree(workshop.features(), inside / "features")
    shutil.copytree(workshop.files(), inside / "specs")
    shutil.copy(workshop.text(), inside / "workshop.md")
    return folder


def replace_once(file: Path, before: str, after: str) -> None:
    """Change one place. Raises AssertionError unless it is there exactly once."""
    text = file.read_text(encoding="utf-8")
    found = text.count(before)
    assert found == 1, f"{file.name} has {before!r} {found} times, expected once"
    file.write_text(text.replace(before, after), encoding="utf-8")


def run_features(
    code: Path, folder: Path, bases: Bases, names: list[str], chosen: str = ""
) -> tuple[int, list[dict[str, Any]], str]:
    """Run features of the workshop with the packages in `code`: all of the files that begin with one of `names`.

    `chosen` is pytest's expression of names. Gives the exit status, what was recorded and what was said.
    """
    results = folder / "results.json"
    features = code / "specrun" / "workshop" / "features"
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", "-o", "addopts="]
    words += ["--rootdir", str(features), "--basetemp", str(folder / "pytest"), "--results", str(results)]
    words += ["-p", "pytest_bdd.plugin", "-p", "specrun.bdd.plugin"]
    words += [str(file) for file in sorted(features.iterdir()) if file.name.startswith(tuple(names))]
    words += ["-k", chosen] if chosen else []
    environment = {**os.environ, "PYTHONPATH": str(code), "SPECRUN_BASES": str(bases.folder)}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # the other plugins take most of the time of a start
    # Not in the checkout, whose packages would go before the copies.
    done = subprocess.run(
        words, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    found = json.loads(results.read_text())["runs"][0]["scenarios"] if results.exists() else []
    return done.returncode, found, done.stdout + done.stderr
