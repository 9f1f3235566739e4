"""Which images a Dockerfile takes from, found without building: a plan orders builds by it."""

from __future__ import annotations

from specrun.build.evaluation import Platform, Scope
from specrun.build.instructions import Copy, read
from specrun.build.parser import parse
from specrun.build.stages import Graph
from specrun.errors import SpecrunError


def images_of(text: str, arguments: dict[str, str]) -> list[str]:
    """The names of base images and of `COPY --from` that are no stages; [] for a Dockerfile that cannot be read."""
    try:
        program = read(parse(text))
        platform = Platform("linux/amd64")
        found = Graph(program, Scope(program, arguments, platform, platform))
    except SpecrunError:
        return []  # the build says what is wrong, with its place
    names = []
    for stage in program.stages:
        sources = [one.source for one in stage.instructions if isinstance(one, Copy) and one.source]
        for name in [found.bases[stage.number], *sources]:
            if name != "scratch" and found.stage(name) is None:
                names.append(name)
    return names
