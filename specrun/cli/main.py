"""The entry of the `specrun` command: global options, the table of verbs, and the one place that prints errors."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from specrun.cli.context import Context
    from specrun.errors import SpecrunError

VERBS = {
    "run": "create a container from an image and start it",
    "create": "create a container without starting it",
    "start": "start containers that are not running",
    "stop": "stop running containers",
    "kill": "send a signal to running containers",
    "ps": "list containers",
    "restart": "stop and start containers",
    "pause": "let containers stand still",
    "unpause": "let paused containers go on",
    "rename": "give a container another name",
    "update": "give containers other limits",
    "top": "show the processes of a container",
    "stats": "show what containers use",
    "rm": "remove containers",
    "exec": "run a command in a running container",
    "attach": "attach to a running container",
    "logs": "print what a container has written",
    "wait": "wait until containers end, and print their exit status",
    "cp": "copy files between a container and the host",
    "diff": "show what a container has changed in its image's files",
    "commit": "create an image from a container's changes",
    "export": "write a container's files as a tar archive",
    "port": "list the published ports of a container",
    "network": "create, list, inspect and remove networks; connect containers",
    "inspect": "print all about containers and images as JSON",
    "build": "build an image from a Dockerfile",
    "builder": "remove what builds keep for later ones",
    "images": "list images",
    "import": "create an image from a tar archive of files",
    "pull": "pull an image from a registry",
    "push": "push an image to a registry",
    "search-tags": "list the tags of a repository in its registry",
    "login": "log in to a registry",
    "logout": "log out from a registry",
    "registry": "serve a registry of your own, and look after its folder",
    "tag": "give an image one more name",
    "rmi": "remove images",
    "history": "show the steps that made an image",
    "save": "write images to a tar archive",
    "load": "read images from a tar archive",
    "image": "assemble images, remove unused ones; the image verbs by their long names",
    "volume": "create, list, inspect and remove volumes",
    "container": "the container verbs by their long names",
    "validate": "check specs without doing anything",
    "plan": "show what apply would change, and why",
    "apply": "make it as the specs say",
    "status": "show what the specs' objects are doing",
    "delete": "remove what the specs have made",
    "revisions": "list what a project has been",
    "rollback": "go back to an earlier revision",
    "convert": "convert Compose files to specs, and specs to Compose or Kubernetes",
    "drift": "show what somebody has changed behind our back",
    "schema": "print the JSON Schema of specs",
    "explain": "print the documentation of a kind or field",
    "check": "look whether claims about images and containers hold",
    "test": "run features on one or more engines, and report",
    "workshop": "the workshop: its sections, and whether you have done them",
    "report": "write conformance reports from results",
    "events": "print what was and is done",
    "info": "print what this host is, and what of ours is on it",
    "system": "disk usage, and removal of what nobody needs",
    "completion": "print a shell's completion of these commands",
    "doctor": "examine what this host can do",
    "version": "print the version",
}
"""Verb -> what it does. A verb's module is specrun.cli.commands.<verb>, imported when it is used."""

GROUPS = (
    ("Specs", "validate plan apply drift status delete revisions rollback convert schema explain"),
    (
        "Containers",
        "run create start stop restart kill pause unpause rename update top stats exec attach ps rm logs wait cp diff "
        "commit export port inspect",
    ),
    ("Images", "build images pull push tag rmi history save load import image builder"),
    ("Registries", "search-tags login logout registry"),
    ("Volumes", "volume"),
    ("Networks", "network"),
    ("Tests", "check test report workshop"),
    ("Other", "container system events info doctor completion version"),
)
LONG_NAMES = {
    "container": {
        "ls": "ps",
        "list": "ps",
        "ps": "ps",
        "prune": "prune:containers",
        **{verb: verb for verb in GROUPS[1][1].split()},
        "inspect": "inspect:container",
    },
    "builder": {"build": "build", "prune": "builder:prune"},
    "image": {
        "assemble": "image:assemble",
        "build": "build",
        "history": "history",
        "import": "commit:import_",
        "inspect": "inspect:image",
        "list": "images",
        "load": "load",
        "ls": "images",
        "prune": "prune:images",
        "remove": "rmi",
        "rm": "rmi",
        "save": "save",
        "pull": "pull",
        "push": "push",
        "tag": "tag",
        "verify": "image:verify",
    },
    "registry": {
        "referrers": "search_tags:referrers",
        "fsck": "registry:fsck",
        "gc": "registry:gc",
        "serve": "registry:serve",
    },
    "system": {"df": "system:df", "prune": "system:prune", "info": "info", "events": "events"},
    "volume": {
        **{verb: f"volume:{verb}" for verb in ("create", "inspect", "ls", "prune", "rm")},
        "list": "volume:ls",
        "remove": "volume:rm",
    },
}
"""Docker's second spelling: `specrun container ls` is `specrun ps`. A verb is a module, or `module:function`."""


def start() -> NoReturn:
    """The process of the command `specrun`: as short as it can be. Never returns."""
    import atexit
    import gc

    gc.set_threshold(20_000)  # what is loaded stays; looking through it again and again takes milliseconds
    status = main()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _silence_stdout()
        status = 141
    threading = sys.modules.get("threading")
    if not atexit._ncallbacks() and (not threading or threading.active_count() == 1):
        os._exit(status)  # nobody waits for anything: the interpreter need not take its modules apart
    sys.exit(status)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; gives the exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    debug = "--debug" in arguments[:4]
    try:
        return _dispatch(arguments)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _silence_stdout()
        return 141
    except Exception as error:
        if debug:
            raise
        return _report(error)


def _dispatch(arguments: list[str]) -> int:
    from specrun.cli.context import Context

    root, debug = None, False
    words = list(arguments)
    while words and words[0].startswith("-"):
        word = words.pop(0)
        if word in ("--help", "-h"):
            os.write(1, _usage().encode())
            return 0
        if word in ("--version", "-v"):
            from specrun import __version__

            os.write(1, f"specrun {__version__}\n".encode())
            return 0
        if word == "--debug":
            debug = True
        elif word.startswith("--root="):
            root = word.removeprefix("--root=")
        elif word == "--root" and words:
            root = words.pop(0)
        else:
            raise _usage_error(f"unknown flag: {word}")
    if not words:
        os.write(1, _usage().encode())
        return 0
    from specrun.cli.options import HelpWanted

    try:
        verb, rest = _verb(words)
        return _action(verb)(rest, Context(root, debug))
    except HelpWanted as wanted:
        os.write(1, str(wanted).encode())
        return 0


def _action(verb: str) -> Callable[[list[str], Context], int]:
    """What does a verb's work."""
    module, _, function = verb.replace("-", "_").partition(":")
    __import__(f"specrun.cli.commands.{module}")
    action: Callable[[list[str], Context], int] = getattr(
        sys.modules[f"specrun.cli.commands.{module}"], function or "run"
    )
    return action


def _verb(words: list[str]) -> tuple[str, list[str]]:
    verb, rest = words[0], words[1:]
    if verb in LONG_NAMES:
        if not rest or rest[0] in ("--help", "-h"):
            from specrun.cli.options import HelpWanted

            raise HelpWanted(_group_usage(verb))
        if rest[0] not in LONG_NAMES[verb]:
            raise _unknown(f"{verb} {rest[0]}", rest[0], list(LONG_NAMES[verb]), verb)
        return LONG_NAMES[verb][rest[0]], rest[1:]
    if verb == "import":  # no module can have that name
        return "commit:import_", rest
    if verb not in VERBS:
        raise _unknown(verb, verb, list(VERBS))
    return verb, rest


def _unknown(what: str, word: str, known: list[str], group: str = "") -> SpecrunError:
    from difflib import get_close_matches

    from specrun.errors import SpecrunError

    close = get_close_matches(word, known, 1)
    hint = f"did you mean {close[0]}?" if close else f"see '{' '.join(filter(None, ('specrun', group)))} --help'"
    return SpecrunError(f"'{what}' is not a specrun command.", hint=hint)


def _usage_error(message: str) -> SpecrunError:
    from specrun.errors import UsageError

    return UsageError(message, hint="see 'specrun --help'")


def _group_usage(group: str) -> str:
    lines = [f"Usage:  specrun {group} COMMAND", "", f"{VERBS[group].capitalize()}.", "", "Commands:"]
    width = max(map(len, LONG_NAMES[group]))
    lines += [f"  {verb.ljust(width)}   {_summary(LONG_NAMES[group][verb])}" for verb in sorted(LONG_NAMES[group])]
    return "\n".join([*lines, "", f"`specrun {group} COMMAND --help` explains a command."]) + "\n"


def _summary(verb: str) -> str:
    """The first sentence about a verb, as its help has it."""
    from specrun.cli.context import Context
    from specrun.cli.options import HelpWanted

    try:
        _action(verb)(["--help"], Context(None, False))
    except HelpWanted as wanted:
        return str(wanted).split("\n\n")[1].split("\n")[0].split(". ")[0].rstrip(".")
    return ""


def _usage() -> str:
    lines = ["Usage:  specrun [--root DIR] [--debug] COMMAND", "", "Containers from YAML specs, without a daemon.", ""]
    for title, verbs in GROUPS:
        lines.append(f"{title}:")
        lines += [f"  {verb.ljust(10)} {VERBS[verb]}" for verb in verbs.split()]
        lines.append("")
    lines += [
        "Options:",
        "  --root DIR   the state folder (default $SPECRUN_ROOT or /var/lib/specrun)",
        "  --debug      show where an error comes from",
        "  --version    print the version",
        "",
        "`specrun COMMAND --help` explains a command.",
    ]
    return "\n".join(lines) + "\n"


def _report(error: Exception) -> int:
    """Print an error as its user should see it; gives the exit status."""
    from specrun.errors import SpecrunError

    if isinstance(error, SpecrunError):
        text = describe(error)
        status = error.exit_status
    elif isinstance(error, OSError):
        text, status = f"specrun: {error}", 1
        if error.errno in (1, 13):
            text += "\n  hint: specrun needs root for this; `specrun doctor` examines the host"
        elif error.errno == 28:
            text += "\n  hint: the disk is full; nothing was left half done"
    else:
        text = f"specrun: internal error: {type(error).__name__}: {error}\n  hint: run again with --debug and report it"
        status = 125
    try:
        os.write(2, (text + "\n").encode("utf-8", "surrogateescape"))
    except OSError:
        pass
    return status


def describe(error: SpecrunError) -> str:
    """The text of an error: message, place and hint."""
    lines = [f"specrun: {error.message} [{error.code}]"]
    if error.place:
        place = error.place
        lines[0] = f"{place}: {error.message} [{error.code}]"
        if place.source:
            lines.append(f"  {place.line:>4} | {place.source}")
            lines.append("       | " + " " * (place.column - 1) + "^" + "~" * (place.width - 1))
    if error.hint:
        lines.append(f"  hint: {error.hint}")
    return "\n".join(lines)


def _silence_stdout() -> None:
    """Nobody reads on: let the interpreter's last flush go nowhere."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


if __name__ == "__main__":
    sys.exit(main())
