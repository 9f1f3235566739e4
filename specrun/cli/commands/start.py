"""`specrun start`: containers that are not running."""

from __future__ import annotations

from specrun.cli.commands.each import for_each
from specrun.cli.commands.run import Forwarder
from specrun.cli.options import Command, Option
from specrun.cli.starting import DETACH_KEYS, cannot_start, detach_keys, require_terminal, with_output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.cli.context import Context
    from specrun.cli.options import Parsed
    from specrun.engine.containers import Engine

COMMAND = Command(
    "start",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Start one or more containers that are not running.",
    [
        Option("-a --attach", "flag", "Attach STDOUT and STDERR, forward signals, and exit as the container does"),
        DETACH_KEYS,
        Option("--restored", "flag", "After a reboot: start what its restart policy says should run"),
        Option("-i --interactive", "flag", "Attach the container's STDIN"),
    ],
    examples=["start simple1", "start -ai shell1"],
    unsupported="--checkpoint --checkpoint-dir",
)


def run(arguments: list[str], context: Context) -> int:
    """Start the containers."""
    options = COMMAND.parse(arguments)
    attach = options.attach or options.interactive
    if options.restored:
        return _restore(options.arguments, context)
    COMMAND.require(options, 1, 1 if attach else None)
    engine = context.engine()
    engine.mend()
    if not attach:

        def start(name: str) -> str:
            from specrun_runtime.errors import StartFailed

            try:
                running = engine.start(engine.get(name))
            except StartFailed as failure:
                raise cannot_start(failure) from failure
            if running:
                running.detach()
            return name

        return for_each(options.arguments, context, start)
    return _start_attached(engine, options)


def _start_attached(engine: Engine, options: Parsed) -> int:
    """Start one and stay with it; one that runs already is attached to."""
    from specrun.cli.commands.attach import join
    from specrun_runtime.errors import StartFailed

    keys = detach_keys(options.detach_keys)
    container = engine.get(options.arguments[0])
    typing = options.interactive and bool(container.config["OpenStdin"])
    if container.config["Tty"]:
        if typing:
            require_terminal()
        running, output = with_output(lambda shown: engine.start(container, stdout=shown))
        return running.relay(output, keys, typing=typing) if running else join(engine, container, keys, typing=typing)
    forwarder = Forwarder()
    forwarder.install()
    stdin = 0 if typing else None
    try:
        running = engine.start(container, stdin=stdin, stdout=1, stderr=2)
    except StartFailed as failure:
        raise cannot_start(failure) from failure
    if running is None:
        return join(engine, container, keys, typing=typing)
    forwarder.begin(running)
    return running.wait(stdin)


def _restore(arguments: list[str], context: Context) -> int:
    """Start what should run; the names of what is started are printed, and one that cannot start stops no other."""
    from specrun.engine import control

    if arguments:
        raise COMMAND.wrong("--restored takes no containers: their restart policies say which are started")
    engine = context.engine()
    engine.mend()
    by_name = {container.name: container for container in control.restored(engine)}

    def start(name: str) -> str:
        from specrun_runtime.errors import StartFailed

        try:
            running = engine.start(by_name[name])
        except StartFailed as failure:
            raise cannot_start(failure) from failure
        if running:
            running.detach()
        return name

    return for_each(list(by_name), context, start)
