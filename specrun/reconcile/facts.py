"""What the kernel says of a running container, each fact with the place that it was read from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from specrun.reconcile.changes import Fact

if TYPE_CHECKING:
    from specrun.engine.containers import Container
    from specrun.reconcile.kinds.base import View


def of_container(view: View, container: Container) -> tuple[dict[str, Fact], dict[str, Any]]:
    """The facts by field, and what they should be where the engine decided that and not the spec."""
    return {}, {}
