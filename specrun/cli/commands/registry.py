"""`specrun registry serve|gc|fsck`: a registry of one's own, in the foreground, and care for its folder."""

from __future__ import annotations

from specrun.cli.options import Command, Option
from specrun.errors import SpecrunError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from specrun.cli.context import Context
    from specrun.cli.options import Parsed
    from specrun.registry.gate import Gate
    from specrun.registry.server import Registry
    from specrun.registry.upstream import Upstream

SERVE = Command(
    "registry serve",
    "[OPTIONS]",
    "Serve a registry (OCI distribution 1.1) until SIGTERM.",
    [
        Option("--htpasswd", "value", "Users and their bcrypt hashes, as `htpasswd -B` writes them", "file"),
        Option("--listen", "value", "Address (default 127.0.0.1:5000)", "host:port"),
        Option("--mount", "value", "Where blobs may be mounted from: any (default), named or none", "string"),
        Option("--no-delete", "flag", "Delete nothing"),
        Option("--proxy", "value", "Be a pull-through cache of this registry", "url"),
        Option("--proxy-insecure", "flag", "Do not verify the certificate of that registry"),
        Option("--proxy-password", "value", "The password there (default: what specrun login has kept)", "file"),
        Option("--proxy-ttl", "number", "Ask what a tag stands for after so many seconds (default 60)", "seconds"),
        Option("--proxy-user", "value", "Who the cache is there"),
        Option("-q --quiet", "flag", "No access log"),
        Option("--quota", "value", "How much it may hold", "bytes"),
        Option("--read-only", "flag", "Take nothing"),
        Option("--storage", "value", "Folder (default: registry in the state folder)", "folder"),
        Option("--tls-cert", "value", "Certificate (PEM)", "file"),
        Option("--tls-key", "value", "Its key (PEM)", "file"),
        Option("--token-issuer", "value", "Who issues the bearer tokens"),
        Option("--token-key", "value", "Public keys or certificates that tokens are signed with (PEM)", "file"),
        Option("--token-realm", "value", "The address of the token server", "url"),
        Option("--token-service", "value", "What the tokens must be for"),
        Option("--warning", "value", "A text that clients show to whoever pulls or pushes"),
    ],
    examples=[
        "registry serve",
        "registry serve --listen 0.0.0.0:5000 --tls-cert c.pem --tls-key k.pem",
        "registry serve --proxy docker.io --quota 20g",
    ],
)
GC = Command(
    "registry gc",
    "[OPTIONS]",
    "Remove what no manifest needs. The registry may go on serving and being pushed to.",
    [
        Option("--dry-run", "flag", "Only say what would be removed"),
        Option("--grace", "number", "Keep what is younger than so many seconds (default 3600)", "seconds"),
        Option("--storage", "value", "Folder (default: registry in the state folder)", "folder"),
        Option("--untagged", "flag", "Remove manifests too that no tag, index or subject needs"),
        Option("--upload-age", "number", "Give up uploads that rest for so many seconds (default 86400)", "seconds"),
    ],
    examples=["registry gc --untagged"],
)
FSCK = Command(
    "registry fsck",
    "[OPTIONS]",
    "Examine all blobs, manifests and tags; exit status 1 when something is wrong.",
    [Option("--storage", "value", "Folder (default: registry in the state folder)", "folder")],
    examples=["registry fsck --storage /srv/registry"],
)


def serve(arguments: list[str], context: Context) -> int:
    """Serve; the address is printed when it is ready."""
    import asyncio

    from specrun.registry import sockets
    from specrun.registry.serving import LEFT, Listener, tls_context, to_stderr

    options = SERVE.parse(arguments)
    SERVE.require(options, 0, 0)
    host, port = _address(options.listen or "127.0.0.1:5000")
    listening = sockets.handed_over()
    if bool(options.tls_cert) != bool(options.tls_key):
        raise UsageError("--tls-cert and --tls-key go together")
    tls = tls_context(options.tls_cert, options.tls_key) if options.tls_cert else None
    make = _routes(options, options.storage or f"{context.root().path}/registry")

    async def run() -> None:
        listener = Listener(make(), log=None if options.quiet else to_stderr, tls=tls)
        said = (lambda address: context.out(f"listening on {address}\n"), lambda: context.out(f"{LEFT}\n"))
        await listener.run(host, port, *said, listening=listening)

    asyncio.run(run())
    return 0


def _routes(options: Parsed, folder: str) -> Callable[[], Registry]:
    """What is served, to be made in the server's loop. Raises UsageError, and SpecrunError for files that are wrong."""
    from specrun.registry.cache import TTL, Cache
    from specrun.registry.server import Policy, Registry
    from specrun.registry.storage import Storage

    if options.mount not in ("", *Policy.MOUNTS):
        raise UsageError(f"--mount {options.mount}: expected {', '.join(Policy.MOUNTS)}")
    policy = Policy(
        allow_delete=not options.no_delete, read_only=options.read_only, warning=options.warning,
        mount=options.mount or "any",
    )  # fmt: skip
    gate = _gate(options)
    upstream = _upstream(options)
    try:
        storage = Storage(folder, quota=_bytes(options.quota))
    except OSError as error:
        raise SpecrunError(
            f"no registry can be kept in {folder}: {error.strerror}", hint="--storage FOLDER names another folder"
        ) from error
    if upstream:
        storage.become_cache(upstream.name)
        ttl = TTL if options.proxy_ttl is None else float(options.proxy_ttl)
        return lambda: Cache(storage, gate, policy, upstream, ttl)
    if storage.cache_of:
        raise SpecrunError(f"{folder} is a cache of {storage.cache_of}", hint="serve it with --proxy")
    return lambda: Registry(storage, gate, policy)


def _gate(options: Parsed) -> Gate:
    """Who is let in."""
    from specrun.registry.gate import Htpasswd, Open, Tokens

    token = (options.token_realm, options.token_service, options.token_issuer, options.token_key)
    if any(token) and not all(token):
        raise UsageError("tokens need --token-realm, --token-service, --token-issuer and --token-key")
    if any(token) and options.htpasswd:
        raise UsageError("--htpasswd and --token-... exclude each other")
    return Tokens(*token) if all(token) else Htpasswd(options.htpasswd) if options.htpasswd else Open()


def _upstream(options: Parsed) -> Upstream | None:
    """The registry that is behind a cache."""
    more = [name for name in sorted(options.given) if name.startswith("proxy_")]
    _check_seconds(options, "proxy_ttl")
    if not options.proxy and "proxy" not in options.given:
        if more:
            raise UsageError(f"--{more[0].replace('_', '-')} belongs to --proxy")
        return None
    if bool(options.proxy_user) != bool(options.proxy_password):
        raise UsageError("--proxy-user and --proxy-password go together")
    login = None
    if options.proxy_user:
        try:
            with open(options.proxy_password, encoding="utf-8") as file:
                login = (options.proxy_user, file.read(4096).rstrip("\n"))
        except (OSError, UnicodeDecodeError) as error:
            raise SpecrunError(f"cannot read the password file {options.proxy_password}: {error}") from error
    from specrun.registry.upstream import Upstream

    return Upstream(options.proxy, verify=not options.proxy_insecure, login=login)


def _bytes(text: str) -> int:
    """`10g`; 0 for no limit."""
    from specrun.engine.policies import parse_size

    return parse_size(text, "--quota") if text else 0


def gc(arguments: list[str], context: Context) -> int:
    """Collect garbage, and say how much."""
    from specrun.cli import output
    from specrun.registry.storage import Storage
    from specrun.registry.sweep import GRACE, UPLOAD_AGE, collect

    options = GC.parse(arguments)
    GC.require(options, 0, 0)
    _check_seconds(options, "grace", "upload_age")
    swept = collect(
        Storage(_existing(options, context)),
        grace=GRACE if options.grace is None else options.grace,
        upload_age=UPLOAD_AGE if options.upload_age is None else options.upload_age,
        untagged=options.untagged,
        dry_run=options.dry_run,
    )
    context.out(
        f"{'would remove' if options.dry_run else 'removed'} {swept.manifests} manifests, {swept.blobs} blobs "
        f"({output.size(swept.bytes)}), {swept.uploads} uploads\n"
    )
    return 0


def fsck(arguments: list[str], context: Context) -> int:
    """Print what is wrong, a line each."""
    from specrun.registry.storage import Storage
    from specrun.registry.sweep import examine

    options = FSCK.parse(arguments)
    FSCK.require(options, 0, 0)
    storage = Storage(_existing(options, context))
    problems = 0
    for problem in examine(storage):
        problems += 1
        context.out(f"{problem}\n")
    count = sum(1 for _ in storage.blobs())
    context.out(f"{count} blobs examined, {problems} problem{'s' if problems != 1 else ''}\n")
    return 1 if problems else 0


def _existing(options: Parsed, context: Context) -> str:
    """The folder of a registry that is there: a name that was mistyped is not made one. Raises SpecrunError."""
    import os

    folder = options.storage or f"{context.root().path}/registry"
    if not os.path.isdir(f"{folder}/repositories"):
        raise SpecrunError(f"there is no registry in {folder}", hint="--storage FOLDER names the folder of one")
    return folder


def _check_seconds(options: Parsed, *names: str) -> None:
    for name in names:
        if (getattr(options, name) or 0) < 0:
            raise UsageError(f"--{name.replace('_', '-')} {getattr(options, name)}: expected seconds, 0 or more")


def _address(text: str) -> tuple[str, int]:
    from specrun.registry.sockets import parse

    try:
        return parse(text)
    except ValueError:
        raise UsageError(f"--listen {text}: expected HOST:PORT") from None
