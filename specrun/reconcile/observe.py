"""What is there: read from the store and from the containers' own records; writes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

from specrun.engine.containers import Container, Engine
from specrun.paths import Root
from specrun.reconcile.project import TOKEN
from specrun_runtime import state


@dataclass(frozen=True)
class ObservedImage:
    """What a reference stands for."""

    id: str
    assembled: str
    """The fingerprint of the request that it was assembled by; "" for another image."""


@dataclass(frozen=True)
class ObservedContainer:
    """A container: `token` says whose it is."""

    id: str
    image_id: str
    status: str
    exit_code: int
    token: str
    started_at: float = 0.0


@dataclass(frozen=True)
class Observed:
    """All that a plan needs to know: images by canonical reference, containers by name."""

    images: dict[str, ObservedImage] = field(default_factory=dict)
    containers: dict[str, ObservedContainer] = field(default_factory=dict)


def observe(root: Root | None) -> Observed:
    """Look at the root; where there is none yet, nothing is there."""
    if root is None:
        return Observed()
    engine = Engine(root)
    images = {
        reference: ObservedImage(image.id, image.assembled)
        for image in engine.images.all()
        for reference in image.references
    }
    return Observed(images, {one.name: _container(one) for one in engine.list(all=True)})


def _container(container: Container) -> ObservedContainer:
    status, code = container.state.status, container.state.exit_code
    if status == state.RUNNING and not state.is_owned(container.directory):
        status, code = state.EXITED, 137  # its monitor was killed; the next change makes that official
    token = (container.config.get("Labels") or {}).get(TOKEN, "")
    return ObservedContainer(container.id, container.image_id, status, code, token, container.state.started_at)
