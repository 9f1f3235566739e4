"""`specrun builder prune`: what builds keep for later ones goes."""

from __future__ import annotations

from specrun.cli.commands.pruning import prune as ask_and_remove
from specrun.cli.options import Command, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.cli.context import Context

PRUNE = Command(
    "builder prune",
    "[OPTIONS]",
    "Remove the layers of steps that no image has, and the folders of RUN --mount=type=cache.",
    [
        Option("-a --all", "flag", "Forget the steps that images are made of too: the next builds make all anew"),
        Option("-f --force", "flag", "Don't ask"),
    ],
    examples=["builder prune -f", "builder prune -af"],
)


def prune(arguments: list[str], context: Context) -> int:
    """Ask, remove, and say what went."""
    from specrun.build.pruning import prune as prune_cache

    options = PRUNE.parse(arguments)
    PRUNE.require(options, 0, 0)
    return ask_and_remove(
        context,
        options.force,
        "build cache" if options.all else "dangling build cache",
        "Deleted build cache objects",
        lambda: prune_cache(context.root(), all=options.all),
    )
