"""`specrun run`: a container from an image, in the foreground or detached."""

from __future__ import annotations

import _signal
import os

from specrun.cli.commands.limits import LIFE_OPTIONS, life_of
from specrun.cli.commands.networking import NETWORK_OPTIONS, network_of
from specrun.cli.commands.security import SECURITY_OPTIONS, security_of
from specrun.cli.options import Command, Option
from specrun.cli.starting import (
    DETACH_KEYS,
    FORWARDED,
    cannot_start,
    detach_keys,
    environment,
    require_terminal,
    window_size,
    with_output,
)
from specrun.errors import SpecrunError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    Made = TypeVar("Made")

    from specrun.cli.context import Context
    from specrun.cli.options import Parsed
    from specrun.engine.mountspec import MountRequest
    from specrun.engine.process import Running
    from specrun.engine.request import ContainerRequest

OPTIONS = [
    Option("-a --attach", "list", "Attach to STDIN, STDOUT or STDERR"),
    Option("--cidfile", "value", "Write the container's id to this file"),
    Option("--entrypoint", "value", "Overwrite the default ENTRYPOINT of the image"),
    Option("-e --env", "list", "Set environment variables"),
    Option("--env-file", "list", "Read in a file of environment variables"),
    Option("-h --hostname", "value", "Container host name"),
    Option("-i --interactive", "flag", "Keep STDIN open"),
    Option("-l --label", "list", "Set meta data on a container"),
    Option("--mount", "list", "Attach a filesystem mount: type=bind|volume|tmpfs,source=,target=,...", "mount"),
    Option("--name", "value", "Assign a name to the container"),
    *NETWORK_OPTIONS,
    *LIFE_OPTIONS,
    Option("--pull", "value", "Pull image before running (always|missing|never)"),
    Option("-q --quiet", "flag", "Suppress the output of the pull"),
    Option("--rm", "flag", "Automatically remove the container when it exits"),
    *SECURITY_OPTIONS,
    Option("--stop-signal", "value", "Signal to stop the container (default SIGTERM)"),
    Option("--stop-timeout", "number", "Seconds to wait before the container is killed"),
    DETACH_KEYS,
    Option("-t --tty", "flag", "Allocate a terminal"),
    Option("--tmpfs", "list", "Mount a tmpfs folder: TARGET[:OPTIONS]"),
    Option("-u --user", "value", "Username or UID (format: <name|uid>[:<group|gid>])"),
    Option("-v --volume", "list", "Bind mount a volume or a host's folder: [SOURCE:]TARGET[:MODE]"),
    Option("--volumes-from", "list", "Mount the volumes of another container: CONTAINER[:ro|rw]"),
    Option("-w --workdir", "value", "Working directory inside the container"),
]
UNSUPPORTED = (
    "--cpu-rt-period --cpu-rt-runtime --gpus --isolation --kernel-memory --link --link-local-ip --storage-opt"
    " --use-api-socket --volume-driver"
)
COMMAND = Command(
    "run",
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Create a container from an image and start it.",
    [
        Option("-d --detach", "flag", "Run in the background and print the container's id"),
        Option("--sig-proxy", "value", "Pass signals on to the container (default true)", "bool"),
        *OPTIONS,
    ],
    examples=[
        'run busybox echo "hello world"',
        "run --rm -e HELLO=world busybox env",
        "run -d --name simple1 busybox sleep 60",
    ],
    interspersed=False,
    unsupported=UNSUPPORTED,
)


def run(arguments: list[str], context: Context) -> int:
    """Run a container; the exit status is its own, or 125 to 127 when it never ran."""
    options = COMMAND.parse(arguments)
    COMMAND.require(options, 1)
    if options.detach and options.attach:
        raise UsageError("Conflicting options: -a and -d")
    keys = detach_keys(options.detach_keys)
    in_terminal = options.tty and not options.detach
    if in_terminal and options.interactive:
        require_terminal()
    prepare_cidfile(options.cidfile)
    try:
        return _run_in_terminal(options, keys, context) if in_terminal else _run(options, context)
    except SpecrunError as error:
        # Like Docker's: what prevents a run is 125, whatever it would be elsewhere.
        error.exit_status = max(error.exit_status, 125)
        raise


def _run(options: Parsed, context: Context) -> int:
    from specrun.engine.ahead import Ahead, attached_streams

    streams = attached_streams(options.detach, [name.lower() for name in options.attach], options.interactive)
    stdin = 0 if "stdin" in streams else None
    stdout, stderr = (1 if "stdout" in streams else None), (2 if "stderr" in streams else None)
    # First of all, so that its interpreter gets ready while this one loads the rest.
    ahead = [Ahead(context.root(), stdin is not None or options.interactive and not options.tty, stdout, stderr)]
    try:
        from specrun_runtime.errors import StartFailed

        request = _request_to_run(options)
        engine = context.engine()
        forwarder = Forwarder()
        if options.sig_proxy not in ("false", "0") and not request.detached:
            forwarder.install()
        try:
            running = with_image(
                request.image, options, context,
                lambda: engine.run(
                    request, stdin=stdin, stdout=stdout, stderr=stderr,
                    ahead=ahead.pop() if ahead else None,
                ),
            )  # fmt: skip
        except StartFailed as failure:
            raise cannot_start(failure) from failure
    finally:
        if ahead:
            ahead.pop().drop()
    write_cidfile(options.cidfile, running.container_id)
    if request.detached:
        running.detach()
        engine.mend()
        context.out(f"{running.container_id}\n")
        return 0
    if stdout is None and stderr is None:
        context.out(f"{running.container_id}\n")
    forwarder.begin(running)
    engine.mend()  # while the container runs, so that nobody waits for it
    return running.wait(stdin)


def _run_in_terminal(options: Parsed, keys: bytes, context: Context) -> int:
    request = _request_to_run(options)
    request.console = window_size()
    engine = context.engine()

    def start(output: int) -> Running:
        return with_image(request.image, options, context, lambda: engine.run(request, stdout=output))

    running, output = with_output(start)
    write_cidfile(options.cidfile, running.container_id)
    engine.mend()
    return running.relay(output, keys, typing=request.interactive)


def with_image(image: str, options: Parsed, context: Context, make: Callable[[], Made]) -> Made:
    """What `make` gives, with the image pulled before if it is missing, or always, as `--pull` says."""
    if options.pull == "always":
        _pull(image, context, "", quiet=options.quiet)
    try:
        return make()
    except SpecrunError as error:
        if error.code != "no-such-image":
            raise
        if not options.quiet:
            context.err(f"Unable to find image '{familiar(image)}' locally\n")
        if options.pull == "never":
            raise
        _pull(image, context, error.hint, quiet=options.quiet)
    return make()


def _pull(image: str, context: Context, hint: str, *, quiet: bool) -> None:
    from specrun.cli.commands.pull import fetch
    from specrun.oci.reference import Reference

    try:
        fetch(Reference.parse(image), context, quiet=quiet, descriptor=2)
    except SpecrunError as error:
        error.hint = hint or error.hint
        raise


class Forwarder:
    """Signals that this command gets and the container shall have; kept until there is a container."""

    def __init__(self) -> None:
        self._running: Running | None = None
        self._early: list[int] = []

    def install(self) -> None:
        """Take the signals over."""
        for number in FORWARDED:
            try:
                _signal.signal(number, self._handle)
            except (OSError, ValueError):
                continue

    def begin(self, running: Running) -> None:
        """From now on to this container, first what came before."""
        self._running = running
        for number in self._early:
            running.forward(number)

    def _handle(self, number: int, _: object) -> None:
        if self._running is None:
            self._early.append(number)
        else:
            self._running.forward(number)


def _request_to_run(options: Parsed) -> ContainerRequest:
    request = request_of(options)
    request.auto_remove, request.detached = options.rm, options.detach
    return request


def request_of(options: Parsed) -> ContainerRequest:
    """The request that the options of `run` and `create` describe."""
    from specrun.engine.request import ContainerRequest

    if options.pull not in ("", "always", "missing", "never"):
        raise UsageError(f"--pull {options.pull}: expected always, missing or never")
    image, *command = options.arguments
    return ContainerRequest(
        image,
        name=options.name.removeprefix("/"),
        command=command or None,
        entrypoint=[options.entrypoint] if options.entrypoint else [] if "entrypoint" in options.given else None,
        env=environment(options.env_file, options.env),
        workdir=options.workdir,
        user=options.user,
        hostname=options.hostname,
        labels=dict(pair(text) for text in [*_lines_of(options.label_file), *options.label]),
        interactive=options.interactive,
        tty=options.tty,
        attach=[stream.lower() for stream in options.attach],
        network=network_of(options),
        stop_signal=options.stop_signal,
        stop_timeout=options.stop_timeout,
        mounts=_mounts(options),
        volumes_from=options.volumes_from,
        security=security_of(options),
        **life_of(options),
    )


def _lines_of(files: list[str]) -> list[str]:
    """The lines of files of labels, as Docker reads them: without those that have no value. Raises UsageError."""
    lines: list[str] = []
    for path in files:
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                lines += [line.strip() for line in file]
        except OSError as error:
            raise UsageError(f"cannot read the file of labels {path}: {error.strerror}") from error
    return [line for line in lines if "=" in line and not line.startswith("#")]


def _mounts(options: Parsed) -> list[MountRequest]:
    if not (options.volume or options.mount or options.tmpfs):
        return []
    from specrun.engine import mountspec

    return [
        *map(mountspec.parse_volume, options.volume),
        *map(mountspec.parse_mount, options.mount),
        *map(mountspec.parse_tmpfs, options.tmpfs),
    ]


def pair(text: str) -> tuple[str, str]:
    """A label: `key=value` or `key`."""
    key, _, value = text.partition("=")
    if not key:
        raise UsageError(f"invalid label {text!r}", hint="expected key=value")
    return key, value


def familiar(image: str) -> str:
    """The image as Docker's message names it, with its tag."""
    from specrun.oci.reference import Reference

    return Reference.parse(image).familiar


def prepare_cidfile(path: str) -> None:
    """Refuse one that exists, before anything is made."""
    if path and os.path.lexists(path):
        raise UsageError(f"Container ID file found, make sure the other container isn't running or delete {path}")


def write_cidfile(path: str, identity: str) -> None:
    """Write the id, without a newline, as Docker does."""
    if path:
        with open(path, "x", encoding="ascii") as file:
            file.write(identity)
