"""`specrun workshop`: the workshop's sections, shown, checked against what you have done, and begun anew."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

from specrun.cli.context import Context
from specrun.cli.options import Command
from specrun.errors import NotFound, SpecrunError

if TYPE_CHECKING:
    from specrun.bdd.workshop import Section

COMMAND = Command(
    "workshop",
    "[list | show N | check N | reset N]",
    "Work through Docker's workshop: list its sections, show one, check what you have done, begin one anew.",
    [],
    examples=["workshop", "workshop show 2", "workshop check 2"],
)


def run(arguments: list[str], context: Context) -> int:
    """Exit with 0 when there was nothing to find fault with."""
    options = COMMAND.parse(arguments)
    verb, *rest = options.arguments or ["list"]
    actions = {"show": _show, "check": _check, "reset": _reset}
    if verb == "list" and not rest:
        return _list(context)
    if verb in actions and not rest:
        raise COMMAND.wrong(f"{verb} needs the number of a section; specrun workshop lists them")
    if verb not in actions or len(rest) != 1:
        raise COMMAND.wrong(f"found {' '.join(options.arguments)!r}, expected list, show N, check N or reset N")
    return actions[verb](_section(rest[0]), context)


def _section(text: str) -> Section:
    from specrun.bdd.workshop import sections

    found = sections()
    for section in found:
        if text.isascii() and text.isdigit() and int(text) == section.number:
            return section
    raise NotFound(f"there is no section {text}", hint=f"there are {found[0].number} to {found[-1].number}")


def _list(context: Context) -> int:
    from specrun.bdd.workshop import sections

    for section in sections():
        count = len(re.findall(r"^\s*Scenario", section.feature.read_text(encoding="utf-8"), re.MULTILINE))
        context.out(f"{section.number:>3}  {section.name:<45}{_count(len(section.commands), 'command')}, ")
        context.out(f"{_count(count, 'scenario')}\n")
    context.out("\nspecrun workshop show N prints a section; do what it says, then: specrun workshop check N\n")
    return 0


def _count(number: int, what: str) -> str:
    return f"{number:>2} {what}{'' if number == 1 else 's'}"


def _show(section: Section, context: Context) -> int:
    context.out(f"{section.name}\n{'=' * len(section.name)}\n\n{section.text}\n")
    return 0


def _check(section: Section, context: Context) -> int:
    """Look at what is there of the section; what fails is shown with what the section says."""
    text = section.feature.read_text(encoding="utf-8")
    if "@learner" not in text:
        context.out(f"Section {section.number} leaves nothing behind that could be looked at.\n")
        return 0
    from specrun.bdd.scene import run_folder

    with run_folder() as folder:
        words = [sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", "--rootdir", str(section.feature.parent)]
        words += ["-p", "no:cacheprovider", "-o", "addopts=", "--basetemp", f"{folder}/pytest"]
        words += ["--learner", context.root().path, str(section.feature)]
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        context.out(f"Section {section.number}, {section.name}: done.\n")
        return 0
    if done.returncode != 1:
        raise SpecrunError(f"pytest ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
    context.out(f"Section {section.number}, {section.name}: not yet.\n\n{_stories(done.stdout)}\n")
    context.out("The section says:\n" + "".join(f"  $ {line}\n" for line in section.commands))
    return 1


def _stories(output: str) -> str:
    kept = [line for line in output.splitlines() if line.startswith(("  ok", "  NO", "   -", "        "))]
    return "\n".join(kept)


def _reset(section: Section, context: Context) -> int:
    """Remove the containers and tags that the section's commands name."""
    from specrun.engine.removal import remove_image
    from specrun.oci.reference import Reference

    engine = context.engine()
    names = {name for line in section.commands for name in re.findall(r"--name[= ](\S+)", line)}
    tags = {tag for line in section.commands for tag in re.findall(r"docker (?:build .*-t|tag \S+) (\S+)", line)}
    removed = False
    for name in sorted(names):
        try:
            engine.remove(engine.get(name), force=True, volumes=True)
        except NotFound:
            continue
        removed = True
        context.out(f"removed the container {name}\n")
    for tag in sorted(tags):
        try:
            engine.images.resolve(Reference.parse(tag).canonical)
        except NotFound:
            continue
        remove_image(engine, tag, force=True)
        removed = True
        context.out(f"removed the image {tag}\n")
    if not removed:
        context.out(f"Nothing that section {section.number} gives a name to is there.\n")
    engine.mend()
    return 0
