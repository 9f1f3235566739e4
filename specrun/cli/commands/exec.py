"""`specrun exec`: one command more in a running container."""

from __future__ import annotations

from specrun.cli.options import Command, Option
from specrun.cli.starting import DETACH_KEYS, cannot_start, detach_keys, environment, require_terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.cli.context import Context

COMMAND = Command(
    "exec",
    "[OPTIONS] CONTAINER COMMAND [ARG...]",
    "Run a command in a running container.",
    [
        Option("-d --detach", "flag", "Run it in the background"),
        DETACH_KEYS,
        Option("-e --env", "list", "Set environment variables"),
        Option("--env-file", "list", "Read in a file of environment variables"),
        Option("-i --interactive", "flag", "Keep STDIN open even if not attached"),
        Option("--privileged", "flag", "Give it all capabilities that this host has"),
        Option("-t --tty", "flag", "Allocate a terminal"),
        Option("-u --user", "value", "Username or UID (format: <name|uid>[:<group|gid>])"),
        Option("-w --workdir", "value", "Working directory inside the container"),
    ],
    examples=["exec -ti simple1 /bin/sh", "exec -e HELLO=world simple1 env"],
    interspersed=False,
)


def run(arguments: list[str], context: Context) -> int:
    """The exit status is the command's, or 126 and 127 when it could not be executed."""
    from specrun.engine.execution import ExecRequest, Execution
    from specrun_runtime.errors import StartFailed

    options = COMMAND.parse(arguments)
    COMMAND.require(options, 2)
    keys = detach_keys(options.detach_keys) if options.tty or options.detach_keys else b""
    attached = not options.detach
    if options.tty and options.interactive and attached:
        require_terminal()
    name, *command = options.arguments
    engine = context.existing()
    container = engine.get(name)
    request = ExecRequest(
        command,
        env=environment(options.env_file, options.env),
        workdir=options.workdir,
        user=options.user,
        interactive=options.interactive and attached,
        tty=options.tty,
        detached=options.detach,
        privileged=options.privileged,
    )
    try:
        execution = Execution(engine, container, request)
    except StartFailed as failure:
        raise cannot_start(failure) from failure
    if options.detach:
        execution.close()
        return 0
    if options.tty:
        status = execution.relay(keys if options.interactive else b"", typing=options.interactive)
        return 0 if status is None else status
    return execution.wait(0 if options.interactive else None)
