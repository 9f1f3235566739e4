"""`specrun registry serve`: a registry of one's own, in the foreground."""

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
    ],
    examples=[
        "registry serve",
        "registry serve --listen 0.0.0.0:5000 --tls-cert c.pem --tls-key k.pem",
    ],
)


def serve(arguments: list[str], context: Context) -> int:
    """Serve; the address is printed when it is ready."""
    import asyncio

    from specrun.registry.gate import Htpasswd, Open
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
    gate = Htpasswd(options.htpasswd) if options.htpasswd else Open()
    policy = Policy(allow_delete=not options.no_delete, read_only=options.read_only)

    async def run() -> None:
        listener = Listener(Registry(storage, gate, policy), log=None if options.quiet else to_stderr, tls=tls)
        await listener.run(host, port, lambda address: context.out(f"listening on {address}\n"))

    asyncio.run(run())
    return 0


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise UsageError(f"--listen {text}: expected HOST:PORT")
    return host.strip("[]"), int(port)
