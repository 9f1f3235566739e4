"""`specrun build`: an image from a Dockerfile."""

from __future__ import annotations

import _signal  # the module signal would load enum
import os
import stat
import sys

from specrun.cli.commands.limits import LIMITS, RESOURCE_OPTIONS, SHM_SIZE, ULIMIT, resources_of
from specrun.cli.options import Command, Option
from specrun.errors import SpecrunError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from specrun.build.exchange import Place
    from specrun.build.executor import Result
    from specrun.build.progress import Progress
    from specrun.build.request import BuildRequest, Secrets
    from specrun.cli.context import Context
    from specrun.cli.options import Parsed

FORMS = ("auto", "plain", "tty", "quiet")
COMMAND = Command(
    "build",
    "[OPTIONS] PATH | -",
    "Build an image from a Dockerfile.",
    [
        Option("--add-host", "list", "Add a custom host-to-IP mapping for RUN steps (host:ip)"),
        Option("--build-arg", "list", "Set build-time variables"),
        Option("--build-context", "list", "Additional contexts (NAME=FOLDER or NAME=docker-image://IMAGE)"),
        Option(
            "--cache-from", "list", "Caches to take steps from (FOLDER, IMAGE, type=local,src=, type=registry,ref=)"
        ),
        Option(
            "--cache-to",
            "list",
            "Where to export the cache to (FOLDER, IMAGE, type=local,dest=, type=registry,ref=; type=inline)",
        ),
        Option("--cgroup-parent", "value", "Parent of the control groups of RUN steps", "group"),
        Option("--check", "flag", "Only check the Dockerfile"),
        Option("--explain", "flag", "Say for each step why it was found in the cache or not"),
        Option("-f --file", "value", "Name of the Dockerfile (default PATH/Dockerfile)"),
        Option("--force-rm", "flag", "Accepted: intermediate containers are always removed"),
        Option("--iidfile", "value", "Write the image ID to the file"),
        Option("--label", "list", "Set metadata for an image"),
        Option("--metadata-file", "value", "Write the build's result as JSON to the file"),
        Option("--network", "value", "Network of RUN steps: default, none, host or a network's name"),
        Option("--no-cache", "flag", "Do not use the cache"),
        Option("--on-error", "value", "What to do where a RUN step fails: shell opens one there"),
        Option("--platform", "value", "Platform to build for; only this machine's"),
        Option("--progress", "value", "Form of the output: auto, plain, tty or quiet ($BUILDKIT_PROGRESS)"),
        Option("--pull", "flag", "Always attempt to pull newer versions of the images that are built upon"),
        Option("-q --quiet", "flag", "Suppress the build output and print the image ID on success"),
        Option("--rm", "flag", "Accepted: intermediate containers are always removed"),
        Option("--secret", "list", "Secret for the build (id=NAME[,src=FILE|,env=VARIABLE])"),
        Option("--ssh", "list", "SSH agent for the build (default or NAME[=SOCKET])"),
        Option("-t --tag", "list", "Name and optionally a tag (name:tag)"),
        Option("--target", "value", "Set the target build stage to build"),
        Option("--verify", "flag", "Build twice without the cache and compare"),
        *RESOURCE_OPTIONS,
        SHM_SIZE,
        ULIMIT,
    ],
    examples=["build -t hello .", "build --build-arg=VERSION=2 -t app:2 -f Dockerfile.app .", "build --check ."],
    unsupported="--compress --disable-content-trust --isolation --security-opt --squash -o --output --load --push "
    "--builder --attest --sbom --provenance --allow --no-cache-filter",
)


def run(arguments: list[str], context: Context) -> int:
    """Build an image; the exit status of a failed RUN step is its command's own."""
    options = COMMAND.parse(arguments)
    COMMAND.require(options, 1, 1)
    if options.on_error not in ("", "shell"):
        raise UsageError(f"--on-error {options.on_error} is not supported", hint="shell")
    _form(options)
    request = request_of(options)
    if options.check:
        from specrun.build.lint import check_request

        return check_request(request, context.out)
    if options.verify:
        from specrun.build.verify import verify

        return verify(context.root(), request, context.out)
    from specrun.build.executor import Build

    _check_files(options)
    build = Build(context.root(), request, _progress(options, context))
    build.shell_on_error = options.on_error == "shell"
    _end_tidily()
    result = build.run()
    if options.quiet:
        context.out(f"{result.id}\n")
    elif _form(options) != "quiet":
        _tell(result, context)
    _write_files(options, result)
    return 0


def _form(options: Parsed) -> str:
    """The form of the output: plain, tty or quiet."""
    form = options.progress or os.environ.get("BUILDKIT_PROGRESS") or "auto"
    if form not in FORMS:
        raise UsageError(f"--progress {form} is not supported", hint=f"one of {', '.join(FORMS)}")
    if form == "tty" and not os.isatty(1):
        raise UsageError("--progress tty needs a terminal to write to", hint="--progress plain")
    if options.quiet:
        return "quiet"
    if options.on_error:
        return "plain"  # the shell wants the terminal for itself
    if form == "auto":
        return "tty" if os.isatty(1) and os.environ.get("TERM", "dumb") != "dumb" else "plain"
    return form


def _progress(options: Parsed, context: Context) -> Progress:
    form = _form(options)
    if form == "quiet":
        from specrun.build.progress import Quiet

        return Quiet(lambda data: context.write(2, data))

    def write(data: bytes) -> None:
        context.write(1, data)

    if form == "tty":
        from specrun.build.live import Live, terminal_size

        color = not os.environ.get("NO_COLOR")
        return Live(write, lambda: terminal_size(1), color=color, explain=options.explain)
    from specrun.build.progress import Progress

    return Progress(write, explain=options.explain)


def _end_tidily() -> None:
    """Let a signal that asks us to end be an exception: what is in the making is then removed."""

    def end(number: int, _: object) -> NoReturn:
        raise SystemExit(128 + number)

    for number in (_signal.SIGTERM, _signal.SIGHUP):
        if _signal.getsignal(number) == _signal.SIG_DFL:  # nohup(1) has the second ignored
            _signal.signal(number, end)


def _tell(result: Result, context: Context) -> None:
    if result.unused_arguments:
        context.out(f"[Warning] One or more build-args [{' '.join(result.unused_arguments)}] were not consumed\n")
    context.out(f"Successfully built {result.id.removeprefix('sha256:')[:12]}\n")
    for reference in result.references:
        context.out(f"Successfully tagged {reference}\n")


def _check_files(options: Parsed) -> None:
    """What is to be written to at the end can be, so that no build is for nothing. Raises UsageError."""
    for flag, path in (("--iidfile", options.iidfile), ("--metadata-file", options.metadata_file)):
        folder = os.path.dirname(path) or "."
        if path and (os.path.isdir(path) or not os.access(folder, os.W_OK | os.X_OK)):
            why = "it is a folder" if os.path.isdir(path) else f"there is no folder {folder} that can be written to"
            raise UsageError(f"{flag} {path}: {why}")


def _write_files(options: Parsed, result: Result) -> None:
    if options.iidfile:
        _write_file("--iidfile", options.iidfile, result.id.encode())
    if options.metadata_file:
        import json

        document = {
            "containerimage.config.digest": result.id,
            "containerimage.digest": result.manifest_digest,
            "image.name": ",".join(result.references),
        }
        _write_file("--metadata-file", options.metadata_file, json.dumps(document, indent=2).encode() + b"\n")


def _write_file(flag: str, path: str, data: bytes) -> None:
    from specrun.errors import SpecrunError
    from specrun.files import write_atomic

    try:
        write_atomic(path, data, mode=0o644, durable=False)
    except OSError as error:
        raise SpecrunError(f"the image is built, but {flag} {path} can't be written: {error.strerror}") from error


def request_of(options: Parsed) -> BuildRequest:
    """The request that the options describe."""
    from specrun.build.request import BuildRequest

    context = options.arguments[0]
    text = None
    if context == "-" or options.file == "-":
        text = sys.stdin.buffer.read(4 << 20).decode("utf-8", "surrogateescape")
        context = "" if context == "-" else context
    if context.startswith(("http://", "https://", "git://", "git@", "ssh://")):
        raise UsageError(f"a remote context is not supported: {context}", hint="clone it, or use ADD in the Dockerfile")
    if context and not os.path.isdir(context):
        error = SpecrunError(f'unable to prepare context: path "{context}" not found')
        raise error
    return BuildRequest(
        context,
        dockerfile="" if options.file == "-" else options.file,
        text=text,
        tags=options.tag,
        arguments=dict(found for entry in options.build_arg if (found := _argument(entry))),
        labels=dict(_pair(entry, "label") for entry in options.label),
        target=options.target,
        network=options.network or "default",
        platform=options.platform,
        no_cache=options.no_cache,
        cache_from=_places(options.cache_from),
        cache_to=_places(options.cache_to),
        contexts=dict(_pair(entry, "build context", whole=True) for entry in options.build_context),
        secrets=_secrets(options.secret, options.ssh),
        pull=options.pull,
        extra_hosts=options.add_host,
        resources=None if LIMITS.isdisjoint(options.given) else resources_of(options),
        cgroup_parent=options.cgroup_parent,
    )


def _argument(entry: str) -> tuple[str, str] | None:
    """`NAME=value`, or a bare NAME that takes this command's own value, and is no argument where it has none."""
    name, equals, value = entry.partition("=")
    if not name:
        raise UsageError(f"invalid build argument: {entry!r}", hint="expected NAME=value")
    if equals:
        return name, value
    return (name, os.environ[name]) if name in os.environ else None


def _pair(entry: str, what: str, *, whole: bool = False) -> tuple[str, str]:
    name, _, value = entry.partition("=")
    if not name or (whole and not value):
        raise UsageError(f"invalid {what}: {entry!r}", hint="expected NAME=value")
    return name, value


def _places(entries: list[str]) -> list[Place]:
    if not entries:
        return []
    from specrun.build.exchange import Place

    return [Place(entry) for entry in entries]


def _secrets(secrets: list[str], agents: list[str]) -> Secrets:
    from specrun.build.request import Secrets

    found: dict[str, bytes] = {}
    for entry in secrets:
        fields = dict(field.partition("=")[::2] for field in entry.split(","))
        name = fields.get("id") or os.path.basename(fields.get("src") or fields.get("source") or "")
        if unknown := set(fields) - {"id", "src", "source", "env", "type"}:
            raise UsageError(f"unexpected key {sorted(unknown)[0]!r} in secret {entry!r}", hint="id=NAME,src=FILE")
        if not name:
            raise UsageError(f"invalid secret: {entry!r}", hint="expected id=NAME[,src=FILE|,env=VARIABLE]")
        path = fields.get("src") or fields.get("source")
        try:
            if path:
                with open(path, "rb") as file:
                    found[name] = file.read(512 << 10)
            elif (variable := fields.get("env") or name) in os.environ:
                found[name] = os.environb[variable.encode()]
            else:
                raise UsageError(f"secret {name}: no file was given and ${variable} is not set")
        except OSError as error:
            raise UsageError(f"cannot read secret {name} from {path}: {error.strerror}") from error
    return Secrets(found, dict(_agent(entry) for entry in agents))


def _agent(entry: str) -> tuple[str, str]:
    """Id and socket of an ssh agent."""
    name, _, path = entry.partition("=")
    path = path or os.environ.get("SSH_AUTH_SOCK", "")
    if not path:
        raise UsageError(f"ssh agent {name}: $SSH_AUTH_SOCK is not set", hint="--ssh NAME=SOCKET")
    try:
        is_socket = stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError as error:
        raise UsageError(f"ssh agent {name}: {path}: {error.strerror}", hint="--ssh NAME=SOCKET") from error
    if not is_socket:
        raise UsageError(
            f"ssh agent {name}: {path} is no socket, and keys are not read from files",
            hint="give the key to an agent with ssh-add, and name the agent's socket",
        )
    return name, os.path.abspath(path)
