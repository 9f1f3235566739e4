"""Every command's `--help` says what it does, with an example that the command line takes."""

from __future__ import annotations

import importlib
import pkgutil
import shlex

import pytest

import specrun.cli.commands as package
from specrun.cli.main import GROUPS, LONG_NAMES, VERBS
from specrun.cli.options import Command

COMMANDS = sorted(
    {
        found.name: found
        for module in pkgutil.iter_modules(package.__path__)
        for found in vars(importlib.import_module(f"specrun.cli.commands.{module.name}")).values()
        if isinstance(found, Command)
    }.items()
)


@pytest.mark.parametrize(("name", "command"), COMMANDS)
def test_help_has_examples(name: str, command: Command) -> None:
    text = command.help()
    assert f"specrun {name}" in text and "Examples:" in text
    for example in command.examples:
        words = shlex.split(example.split("|")[0].split(">")[0])
        count = len(name.split())
        if words[:count] == name.split():
            command.parse(words[count:])


def test_every_verb_is_in_one_group_and_has_a_module() -> None:
    grouped = [verb for _, verbs in GROUPS for verb in verbs.split()]
    assert sorted(grouped) == sorted(VERBS)
    for names in LONG_NAMES.values():
        for target in names.values():
            module, _, function = target.partition(":")
            assert hasattr(importlib.import_module(f"specrun.cli.commands.{module}"), function or "run")
