"""`specrun convert`: from Compose files, and to Compose files and Kubernetes objects."""

from __future__ import annotations

import os
from typing import Any

from specrun.cli.commands.specs import OPTIONS, call_of, guarded, specs_of
from specrun.cli.context import Context
from specrun.cli.options import Command, Option, Parsed
from specrun.errors import SpecrunError, UsageError
from specrun.paths import Root, peek_root
from specrun.spec import writing

SOURCES, TARGETS = ("compose",), ("compose", "kubernetes")
COMMAND = Command(
    "convert",
    "--from compose FILE | --to compose|kubernetes FILE|FOLDER ...",
    "Convert a Compose file to specs, or specs to a Compose file or Kubernetes objects. "
    "What would be lost is an error that names it.",
    [
        Option("--from", "value", "The format of FILE: compose", "format"),
        Option("--to", "value", "The format to print: compose or kubernetes", "format"),
        *OPTIONS,
    ],
    examples=["convert --from compose compose.yaml > web.yaml", "convert --to kubernetes web.yaml"],
)


def run(arguments: list[str], context: Context) -> int:
    """Print the converted documents."""

    def action(options: Parsed, quiet: bool) -> tuple[int, dict[str, Any]]:
        source, target = options.values["from"], options.to
        if bool(source) == bool(target):
            raise UsageError("one of --from and --to is needed" + (", not both" if source else ""))
        if source not in ("", *SOURCES) or target not in ("", *TARGETS):
            raise UsageError(
                f"unknown format {source or target}", hint=f"--from {SOURCES[0]}, --to {' or '.join(TARGETS)}"
            )
        documents = _from_compose(options) if source else _to(target, options, peek_root(context.root_path))
        if not quiet:
            context.out(writing.dump(documents))
        return 0, {"documents": documents}

    return guarded(COMMAND, arguments, context, action)


def _from_compose(options: Parsed) -> list[dict[str, Any]]:
    from specrun.reconcile.graph import graph
    from specrun.spec.compose.reading import read_compose
    from specrun.spec.loader import from_values
    from specrun.spec.sources import Options, variables
    from specrun.spec.sources import variables_of as settings
    from specrun.spec.yamltext import read

    if len(options.arguments) != 1:
        raise UsageError("--from compose takes one file")
    path = options.arguments[0]
    found = variables([path], Options(settings(options.set), env_files=options.env_file))
    name, text = read(path)
    folder = os.path.basename(os.path.dirname(os.path.abspath(path))) if path != "-" else ""
    project = options.project or found.get("COMPOSE_PROJECT_NAME", "")
    documents = read_compose(name, text, found, project, folder)
    graph(from_values(documents, name, options.project or "project"))  # what was made must itself be right
    converted: list[dict[str, Any]] = writing.escaped(documents)
    return converted


def _to(target: str, options: Parsed, root: Root | None) -> list[dict[str, Any]]:
    specs = specs_of(call_of(options))
    if target == "compose":
        from specrun.spec.compose.writing import to_compose

        return [to_compose(specs)]
    from specrun.spec.kubernetes import to_kubernetes

    return to_kubernetes(specs, lambda image, folder: folder == "/run/secrets" or _is_empty(root, image, folder))


def _is_empty(root: Root | None, image: str, folder: str) -> bool:
    """Whether an image of the store has nothing in a folder. Of one that is not there nobody knows."""
    from specrun.store.images import ImageStore

    if root is None or folder == "/":
        return False
    try:
        store = ImageStore(root)
        layers = store.lower_directories(store.resolve(image))
    except SpecrunError:
        return False
    return not any(os.path.lexists(f"{layer}{folder}") for layer in layers)
