"""`specrun login` and `logout`: who we are at a registry."""

from __future__ import annotations

import os
import sys

from specrun.cli.commands.pull import TLS_VERIFY, verified
from specrun.cli.options import Command, Option
from specrun.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.cli.context import Context

COMMAND = Command(
    "login",
    "[OPTIONS] [SERVER]",
    "Log in to a registry; the hub if none is named.",
    [
        Option("-p --password", "value", "Password (better: --password-stdin)"),
        Option("--password-stdin", "flag", "Take the password from stdin"),
        Option("-u --username", "value", "Username"),
        TLS_VERIFY,
    ],
    examples=["login -u alice --password-stdin registry.example.com < secret"],
)
LOGOUT = Command("logout", "[SERVER]", "Log out from a registry; the hub if none is named.", [], examples=["logout"])


def run(arguments: list[str], context: Context) -> int:
    """Prove the password at the registry, then keep it."""
    from specrun.registry import credentials
    from specrun.registry.client import RegistryError

    options = COMMAND.parse(arguments)
    COMMAND.require(options, 0, 1)
    domain = _domain(options.arguments)
    if options.password and options.password_stdin:
        raise UsageError("--password and --password-stdin are mutually exclusive")
    if options.password_stdin and not options.username:
        raise UsageError("Must provide --username with --password-stdin")
    verify = verified(options.tls_verify)
    if not options.username and not options.password and (known := credentials.find(domain)):
        context.out("Authenticating with existing credentials...\n")
        try:
            identity = _prove(domain, *known, verify)
        except RegistryError as error:
            if error.status != 401 or not os.isatty(0):
                raise
            context.err(f"Login did not succeed: {error.message}\n")
        else:
            if identity not in ("", known[1]):
                credentials.renew(domain, identity)
            context.out("Login Succeeded\n")
            return 0
    if options.password:
        context.err("WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n")
    user = options.username or _ask("Username: ")
    password = options.password
    if options.password_stdin:
        password = sys.stdin.read().rstrip("\r\n")
    elif not password:
        from getpass import getpass

        if not os.isatty(0):
            message = "Cannot perform an interactive login from a non TTY device"
            raise UsageError(message, hint="give --password-stdin")
        password = getpass("Password: ")
    identity = _prove(domain, user, password, verify)
    credentials.store(domain, user, password, identity)
    context.out("Login Succeeded\n")
    return 0


def _prove(domain: str, user: str, password: str, verify: bool) -> str:
    """Gives an identity token that may be kept for the password, "" without one. Raises RegistryError."""
    from specrun.registry.client import Client, RegistryError

    client = Client(domain, verify=verify)
    client.login(user, password, lasting=True)
    try:
        client.request("GET", "/v2/", scope="")
    except RegistryError as error:
        if error.hint.startswith("specrun login"):
            error.hint = "are user and password right?"
        raise
    return client.identity


def logout(arguments: list[str], context: Context) -> int:
    """Forget the password."""
    from specrun.registry import credentials

    options = LOGOUT.parse(arguments)
    LOGOUT.require(options, 0, 1)
    domain = _domain(options.arguments)
    known = credentials.erase(domain)
    context.out(f"Removing login credentials for {domain}\n" if known else f"Not logged in to {domain}\n")
    return 0


def _domain(words: list[str]) -> str:
    text = (words or ["docker.io"])[0].removeprefix("https://").removeprefix("http://").partition("/")[0]
    return "docker.io" if text in ("index.docker.io", "registry-1.docker.io") else text


def _ask(prompt: str) -> str:
    if not os.isatty(0):
        raise UsageError("Cannot perform an interactive login from a non TTY device", hint="give --username")
    return input(prompt)
