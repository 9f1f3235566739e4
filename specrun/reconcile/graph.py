"""What must be there before what: the edges between objects, and an order that respects them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from specrun.errors import SpecrunError
from specrun.oci.reference import canonical
from specrun.spec import models
from specrun.spec.references import needs

if TYPE_CHECKING:
    from specrun.spec.loader import Resource, Specs


class DependencyCircle(SpecrunError):
    """Objects that each need the other to be there first."""

    code = "circle"


@dataclass(frozen=True)
class Graph:
    """The objects of specs, each after what it needs; otherwise as written."""

    order: list[Resource]
    edges: dict[str, dict[str, str]]
    """Object -> what it needs -> the condition: done, started, healthy or completed."""
    makers: dict[str, str]
    """Canonical reference -> the Image or Build that makes it."""

    def maker(self, reference: str) -> str:
        """The key of the object that makes an image; "" for none."""
        return self.makers.get(canonical(reference), "")

    def below(self, keys: list[str]) -> set[str]:
        """These objects and all that they need."""
        found: set[str] = set()
        waiting = list(keys)
        while waiting:
            key = waiting.pop()
            if key not in found:
                found.add(key)
                waiting += self.edges.get(key, {})
        return found


def image_of(resource: Resource) -> str:
    """The image that an object is made of or sends; "" for none."""
    spec = resource.spec
    return spec.image if isinstance(spec, (models.ProcessSpec, models.PushSpec)) else ""


def graph(specs: Specs) -> Graph:
    """The graph of these specs. Raises DependencyCircle."""
    makers = makers_of(specs)
    edges = {key: _edges(resource, specs, makers) for key, resource in specs.resources.items()}
    return Graph(_ordered(specs, edges), edges, makers)


def makers_of(specs: Specs) -> dict[str, str]:
    """Canonical reference -> the key of the Image or Build that makes it."""
    return {
        canonical(tag): resource.key
        for resource in specs.resources.values()
        if isinstance(resource.spec, (models.ImageSpec, models.BuildSpec))
        for tag in resource.spec.tags
    }


def _edges(resource: Resource, specs: Specs, makers: dict[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    image = image_of(resource)
    if image and (maker := makers.get(canonical(image))):
        found[maker] = "done"
    for name in bases_of(resource):
        if (maker := makers.get(_canonical_or_none(name), resource.key)) != resource.key:
            found[maker] = "done"
    for need in needs(resource):
        if need.key in specs.resources:
            found[need.key] = need.condition
    return found


def bases_of(resource: Resource) -> list[str]:
    """The images that a Build takes from, by its Dockerfile; [] for any other object."""
    spec = resource.spec
    if not isinstance(spec, models.BuildSpec):
        return []
    text = spec.dockerfileInline
    if text is None:
        try:
            path = resource.path(os.path.join(spec.context, spec.dockerfile or "Dockerfile"))
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                text = file.read(4 << 20)
        except OSError:
            return []
    from specrun.build.bases import images_of

    named = [
        text.removeprefix("docker-image://") for text in spec.contexts.values() if text.startswith("docker-image://")
    ]
    return [*images_of(text, dict(spec.args)), *named]


def _canonical_or_none(reference: str) -> str:
    try:
        return canonical(reference)
    except SpecrunError:
        return ""


def _ordered(specs: Specs, edges: dict[str, dict[str, str]]) -> list[Resource]:
    """Depth first, without recursion: chains may be long."""
    done: dict[str, Resource] = {}
    for start in specs.resources:
        path: dict[str, list[str]] = {}
        current = start
        while current:
            if current not in done and current not in path:
                path[current] = [key for key in edges[current] if key not in done]
            if current in done or not path[current]:
                if current not in done:
                    done[current] = specs.resources[current]
                    del path[current]
                current = next(reversed(path), "")
                continue
            following = path[current].pop(0)
            if following in path:
                keys = list(path)
                circle = " -> ".join([*keys[keys.index(following) :], following])
                place = specs.resources[following].place("spec", key=True)
                raise DependencyCircle(f"these specs depend on each other: {circle}", place=place)
            current = following
    return list(done.values())
