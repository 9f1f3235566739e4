"""The kinds of the local runtime, a module each, in a table.

To teach specrun a kind, or more of one: write `kinds/<kind>.py` with a class as `kinds.base.Kind` says, and name it
below. A kind that is not named is refused by name when specs are validated, and so is every field that a kind's
`unsupported` gives.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from specrun.reconcile.kinds.base import Kind
from specrun.spec.problems import Problem, SpecProblems, dotted

if TYPE_CHECKING:
    from specrun.spec.loader import Specs

TABLE = {
    "Image": "image:Images",
    "Build": "build:Builds",
    "Container": "process:Containers",
    "Job": "process:Jobs",
    "Network": "network:Networks",
    "Volume": "volume:Volumes",
    "Secret": "files:Secrets",
    "Config": "files:Configs",
    "Registry": "registry:Registries",
    "Push": "push:Pushes",
    "Check": "check:Checks",
}
"""Kind -> module below this package, and the class in it."""

_MADE: dict[str, Kind] = {}


def kind_of(name: str) -> Kind:
    """What knows about the objects of a kind; imported when it is used."""
    if name not in _MADE:
        module, _, cls = TABLE[name].partition(":")
        _MADE[name] = getattr(import_module(f"specrun.reconcile.kinds.{module}"), cls)()
    return _MADE[name]


def check_supported(specs: Specs) -> None:
    """Refuse by name what this version can't do. Raises SpecProblems with all of it."""
    problems = []
    for resource in specs.resources.values():
        if resource.kind not in TABLE:
            message = f"the kind {resource.kind} is not supported yet"
            note = f"this version applies {', '.join(TABLE)}"
            place = resource.place("kind")
            problems.append(Problem(place, message, "not-supported", resource.key, "kind", note))
            continue
        for path in kind_of(resource.kind).unsupported(resource):
            full = ("spec", *path)
            place = resource.place(*full, key=True)
            problems.append(Problem(place, "is not supported yet", "not-supported", resource.key, dotted(full)))
    if problems:
        raise SpecProblems(problems)
