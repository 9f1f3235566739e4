"""`specrun registry serve|gc|fsck`: a registry of one's own, in the foreground, and care for its folder."""

from __future__ import annotations

from specrun.cli.options import Command, Option
from specrun.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.cli.context import Context

SERVE = Command(
    "registry serve",
    "[OPTIONS]",
    "Serve a registry (OCI distribution 1.1) until SIGTERM.",
    [
        Option("--htpasswd", "value", "Users and their bcrypt hashes, as `htpasswd -B` writes them", "file"),
        Option("--listen", "value", "Address (default 127.0.0.1:5000)", "host:port"),
        Option("--no-delete", "flag", "Delete nothing"),
        Option("-q --quiet", "flag", "No access log"),
        Option("--quota", "number", "Bytes that the blobs may take"),
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

    from specrun.registry.gate import Htpasswd, Open, Tokens
    from specrun.registry.server import Policy, Registry
    from specrun.registry.serving import Listener, tls_context, to_stderr
    from specrun.registry.storage import Storage

    options = SERVE.parse(arguments)
    SERVE.require(options, 0, 0)
    host, port = _address(options.listen or "127.0.0.1:5000")
    if bool(options.tls_cert) != bool(options.tls_key):
        raise UsageError("--tls-cert and --tls-key go together")
    tls = tls_context(options.tls_cert, options.tls_key) if options.tls_cert else None
    storage = Storage(options.storage or f"{context.root().path}/registry", quota=options.quota or 0)
    token = (options.token_realm, options.token_service, options.token_issuer, options.token_key)
    if any(token) and not all(token):
        raise UsageError("tokens need --token-realm, --token-service, --token-issuer and --token-key")
    if any(token) and options.htpasswd:
        raise UsageError("--htpasswd and --token-... exclude each other")
    gate = Tokens(*token) if all(token) else Htpasswd(options.htpasswd) if options.htpasswd else Open()
    policy = Policy(allow_delete=not options.no_delete, read_only=options.read_only, warning=options.warning)

    async def run() -> None:
        listener = Listener(Registry(storage, gate, policy), log=None if options.quiet else to_stderr, tls=tls)
        await listener.run(host, port, lambda address: context.out(f"listening on {address}\n"))

    asyncio.run(run())
    return 0


def gc(arguments: list[str], context: Context) -> int:
    """Collect garbage, and say how much."""
    from specrun.cli import output
    from specrun.registry.storage import Storage
    from specrun.registry.sweep import GRACE, UPLOAD_AGE, collect

    options = GC.parse(arguments)
    GC.require(options, 0, 0)
    swept = collect(
        Storage(options.storage or f"{context.root().path}/registry"),
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
    storage = Storage(options.storage or f"{context.root().path}/registry")
    problems = 0
    for problem in examine(storage):
        problems += 1
        context.out(f"{problem}\n")
    count = sum(1 for _ in storage.blobs())
    context.out(f"{count} blobs examined, {problems} problem{'s' if problems != 1 else ''}\n")
    return 1 if problems else 0


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise UsageError(f"--listen {text}: expected HOST:PORT")
    return host.strip("[]"), int(port)
