"""The pages of docs/ that are made from the code: `python -m specrun.cli.reference docs` writes them (`./dev docs`).

The kinds are described by their models, the commands by their parsers, the steps by their table.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import BaseModel

    from specrun.cli.options import Command, Option

EXAMPLES = Path(__file__).parents[2] / "specs" / "reference"
"""A spec of each kind, called like it; together they are one project."""
_MADE = "<!-- Made by `./dev docs`; change {source} instead. -->\n"


def pages() -> dict[str, str]:
    """Path below docs/ -> the page."""
    from specrun.bdd import reference
    from specrun.spec.models import KINDS
    from specrun.spec.schema import schema

    return {
        "steps.md": reference.page(),
        "specrun.schema.json": json.dumps(schema(), indent=2) + "\n",
        "reference/README.md": _index(list(KINDS)),
        "reference/commands.md": _commands(),
        **{f"reference/{name.lower()}.md": _kind(name, model) for name, model in KINDS.items()},
    }


def commands() -> dict[str, Command]:
    """All command lines, by name."""
    import specrun.cli.commands as package
    from specrun.cli.options import Command

    modules = [
        importlib.import_module(f"{package.__name__}.{one.name}") for one in pkgutil.iter_modules(package.__path__)
    ]
    found = [value for module in modules for value in vars(module).values() if isinstance(value, Command)]
    return {command.name: command for command in sorted(found, key=lambda command: command.name)}


def write(folder: Path) -> list[Path]:
    """Write what is not there, or not so; gives those files, and removes pages of kinds that are no more."""
    wanted = pages()
    for stale in folder.glob("reference/*.md"):
        if str(stale.relative_to(folder)) not in wanted:
            stale.unlink()
    changed = []
    for name, text in wanted.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            changed.append(path)
    return changed


def _index(kinds: list[str]) -> str:
    lines = ["# Reference", "", _MADE.format(source="specrun/cli/reference.py"), "Kinds of specs:", ""]
    lines += [f"- [{kind}]({kind.lower()}.md)" for kind in kinds]
    lines += ["", "Besides: [all commands](commands.md), [the steps of features](../steps.md),"]
    lines += [
        "[the checks of Dockerfiles](../build-checks.md), and [the JSON Schema of specs](../specrun.schema.json)."
    ]
    return "\n".join(lines) + "\n"


def _commands() -> str:
    from specrun.cli.main import GROUPS, VERBS

    known = commands()
    lines = ["# Commands", "", _MADE.format(source="the verb's module in specrun/cli/commands")]
    lines += ["`specrun [--root DIR] [--debug] COMMAND`. `--root` is the state folder (`$SPECRUN_ROOT`, or"]
    lines += [
        "`/var/lib/specrun`); `--debug` shows where an error comes from. `specrun COMMAND --help` prints what is here.",
        "",
    ]
    for title, verbs in GROUPS:
        lines += [f"## {title}", ""]
        for verb in verbs.split():
            names = [name for name in known if name == verb or name.startswith(f"{verb} ")]
            for name in names:
                lines += _command(known[name])
            if not names:
                lines += [f"### {verb}", "", f"{VERBS[verb][:1].upper()}{VERBS[verb][1:]}.", ""]
            lines += _long_names(verb)
    return "\n".join(lines).rstrip() + "\n"


def _command(command: Command) -> list[str]:
    lines = [
        f"### {command.name}",
        "",
        command.summary,
        "",
        "```",
        f"specrun {command.name} {command.usage}".rstrip(),
        "```",
        "",
    ]
    if command.options:
        lines += ["| option | |", "| --- | --- |", *map(_option, command.options), ""]
    if command.examples:
        lines += ["```console", *(f"# specrun {example}" for example in command.examples), "```", ""]
    if command.unsupported:
        lines += ["Refused by name: " + ", ".join(f"`{name}`" for name in sorted(command.unsupported)) + ".", ""]
    return lines


def _option(option: Option) -> str:
    value = "" if option.kind == "flag" else f" {option.meta}"
    names = ", ".join(f"`{name}`" for name in option.names[:-1] + [f"{option.names[-1]}{value}"])
    return f"| {names} | {_cell(option.help)} |"


def _long_names(group: str) -> list[str]:
    """What the words of a group stand for, where they are other verbs' second names."""
    from specrun.cli.main import LONG_NAMES

    others = {word: target for word, target in LONG_NAMES.get(group, {}).items() if ":" not in target}
    if not others:
        return []
    pairs = [f"`{group} {word}` is `{target}`" for word, target in sorted(others.items())]
    return [f"{'; '.join(pairs)}.", ""]


def _kind(name: str, model: type[BaseModel]) -> str:
    lines = [f"# {name}", "", _MADE.format(source="specrun/spec/models"), _note(model), ""]
    example = EXAMPLES / f"{name.lower()}.yaml"
    lines += ["```yaml", example.read_text(encoding="utf-8").strip(), "```", ""]
    lines += [f"`specrun explain {name}` prints the fields; [specs.md](../specs.md) says how specs are applied.", ""]
    pending: list[tuple[str, type[BaseModel]]] = [("spec", model)]
    seen: set[type[BaseModel]] = set()
    while pending:
        path, one = pending.pop(0)
        if one in seen:
            continue
        seen.add(one)
        lines += [f"## {path}", ""]
        lines += [_note(one), ""] if one is not model else []
        rows, inner = _fields(path, one)
        lines += ["| field | type | |", "| --- | --- | --- |", *rows, ""]
        lines += _rules(one)
        pending = inner + pending
    return "\n".join(lines).rstrip() + "\n"


def _fields(path: str, model: type[BaseModel]) -> tuple[list[str], list[tuple[str, type[BaseModel]]]]:
    """The rows of a mapping's fields, and the mappings that they hold, each with its path."""
    from specrun.spec.schema import type_of
    from specrun.spec.understand import model_of

    rows, inner = [], []
    for name, info in model.model_fields.items():
        key = info.alias or name
        about = _cell(info.description or "")
        if info.is_required():
            about = f"Required. {about}"
        elif isinstance(info.default, (str, int, float)) and info.default not in ("", False):
            about += f" Default: `{info.default}`."
        rows.append(f"| `{key}` | {_cell(type_of(model, name))} | {about} |")
        if found := model_of(model, name):
            inner.append((f"{path}.{key}", found))
    return rows, inner


def _rules(model: type[BaseModel]) -> list[str]:
    found = []
    for attribute, words in (("ONE_OF", "Exactly one"), ("AT_MOST_ONE_OF", "At most one")):
        if fields := getattr(model, attribute, ()):
            found += [f"{words} of " + ", ".join(f"`{field}`" for field in fields) + ".", ""]
    return found


def _note(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split())


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    for path in write(Path(sys.argv[1])):
        print(f"wrote {path}")
