"""`specrun attach`: the input and output of a running container."""

from __future__ import annotations

from specrun.cli.options import Command, Option
from specrun.cli.starting import DETACH_KEYS, FORWARDED, detach_keys, require_terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.cli.context import Context
    from specrun.engine.container import Container
    from specrun.engine.existing import Existing

COMMAND = Command(
    "attach",
    "[OPTIONS] CONTAINER",
    "Attach the terminal's input, output and errors to a running container.",
    [
        DETACH_KEYS,
        Option("--no-stdin", "flag", "Do not attach STDIN"),
        Option("--sig-proxy", "value", "Pass signals on to the container (default true)", "bool"),
    ],
    examples=["attach simple1", "attach --detach-keys ctrl-x simple1"],
)


def run(arguments: list[str], context: Context) -> int:
    """The exit status is the container's, or 0 when it was left by the detach keys."""
    options = COMMAND.parse(arguments)
    COMMAND.require(options, 1, 1)
    keys = detach_keys(options.detach_keys)
    engine = context.existing()
    container = engine.get(options.arguments[0])
    typing = bool(container.config["OpenStdin"]) and not options.no_stdin
    if container.config["Tty"] and typing:
        require_terminal()
    return join(engine, container, keys, typing=typing, forwarding=options.sig_proxy not in ("false", "0"))


def join(engine: Existing, container: Container, keys: bytes, *, typing: bool, forwarding: bool = True) -> int:
    """Attach our streams to a running container until it ends or is left by `keys`; gives the exit status."""
    from specrun.engine.attaching import Attachment

    attachment = Attachment(container)
    engine.tell(container, "attach")
    if attachment.tty:
        return attachment.relay(keys, typing=typing)
    if forwarding:
        _forward_signals(engine, container)
    return attachment.copy(0 if typing else None)


def _forward_signals(engine: Existing, container: Container) -> None:
    import _signal

    from specrun.errors import SpecrunError

    def forward(number: int, _: object) -> None:
        try:
            engine.kill(container, number)
        except SpecrunError:
            pass  # it has just ended

    for number in FORWARDED:
        try:
            _signal.signal(number, forward)
        except (OSError, ValueError):
            continue
