"""What all prunes share: they warn, ask, remove, and say what went."""

from __future__ import annotations

from specrun.cli import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from specrun.cli.context import Context


def prune(context: Context, force: bool, what: str, title: str, remove: Callable[[], tuple[list[str], int]]) -> int:
    """Remove `what`, unless the answer is no; `remove` gives what went and its bytes."""
    agreed = force or confirmed(context, f"WARNING! This will remove all {what}.\n")
    names, freed = remove() if agreed else ([], 0)
    context.out(listing(title, names) + f"Total reclaimed space: {output.size(freed)}\n")
    return 0


def listing(title: str, names: list[str]) -> str:
    """The names below their title; nothing when there are none."""
    return "".join(f"{line}\n" for line in (f"{title}:", *names, "")) if names else ""


def confirmed(context: Context, warning: str) -> bool:
    """Warn, and ask; anything but `y` is no."""
    import sys

    context.out(f"{warning}Are you sure you want to continue? [y/N] ")
    return sys.stdin.readline().strip().lower() == "y"


def has_label(labels: dict[str, str], text: str) -> bool:
    """Whether the labels have `key`, or `key=value`."""
    name, equals, wanted = text.partition("=")
    return name in labels and (not equals or labels[name] == wanted)
