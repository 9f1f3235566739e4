"""Verbs that do one thing to each of several containers, and go on when one fails."""

from __future__ import annotations

from specrun.errors import SpecrunError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from specrun.cli.context import Context


def for_each(names: list[str], context: Context, action: Callable[[str], str]) -> int:
    """Do `action` for each name and print what it gives; 1 when one failed."""
    from specrun.cli.main import describe

    status = 0
    for name in names:
        try:
            context.out(f"{action(name)}\n")
        except SpecrunError as error:
            context.err(describe(error) + "\n")
            status = 1
    return status
