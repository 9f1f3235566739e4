"""`specrun completion`: what a shell needs to complete our command lines, and the candidates that it then asks for."""

from __future__ import annotations

from specrun.cli.options import Command
from specrun.errors import SpecrunError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from specrun.cli.context import Context

COMMAND = Command(
    "completion",
    "bash|zsh|fish",
    "Print a shell's completion of these commands.",
    [],
    examples=[
        "completion bash > /etc/bash_completion.d/specrun",
        "completion zsh > ~/.zfunc/_specrun",
        "completion fish > ~/.config/fish/completions/specrun.fish",
    ],
    interspersed=False,
)
SCRIPTS = {
    "bash": """# bash completion of specrun: source this file.
_specrun() {
    local IFS=$'\\n'
    COMPREPLY=($(compgen -W "$(specrun completion -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)" \\
        -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _specrun specrun
""",
    "zsh": """#compdef specrun
_specrun() {
    local -a found
    found=(${(f)"$(specrun completion -- "${(@)words[2,CURRENT]}" 2>/dev/null)"})
    if (( $#found )); then compadd -a found; else _files; fi
}
if [ "$funcstack[1]" = _specrun ]; then _specrun "$@"; else compdef _specrun specrun; fi
""",
    "fish": """# fish completion of specrun
function __specrun_candidates
    set -l before (commandline -opc)
    specrun completion -- $before[2..-1] (commandline -ct) 2>/dev/null
end
complete -c specrun -a '(__specrun_candidates)'
""",
}


def run(arguments: list[str], context: Context) -> int:
    """Print the script; behind `--`, the candidates for the last of the words that were typed so far."""
    if arguments[:1] == ["--"]:
        try:
            found = candidates(arguments[1:] or [""], context)
        except SpecrunError:
            found = []
        context.out("".join(f"{word}\n" for word in found))
        return 0
    options = COMMAND.parse(arguments)
    COMMAND.require(options, 1, 1)
    shell = options.arguments[0]
    if shell not in SCRIPTS:
        raise UsageError(f"no completion for the shell {shell!r}", hint=f"expected one of {', '.join(SCRIPTS)}")
    context.out(SCRIPTS[shell])
    return 0


def candidates(words: list[str], context: Context) -> list[str]:
    """What the last of `words` may become."""
    from specrun.cli.main import LONG_NAMES, VERBS

    *before, last = words
    while before and before[0].startswith("-"):  # options of specrun's own
        before = before[2 if before[0] == "--root" else 1 :]
    if not before:
        return _fitting([*VERBS, "--root", "--debug", "--version", "--help"], last)
    groups = {**{group: list(verbs) for group, verbs in LONG_NAMES.items()}, "network": _NETWORK.split()}
    if before[0] in groups and len(before) == 1:
        return _fitting(groups[before[0]], last)
    command, rest = _command(before)
    if command is None:
        return []
    previous = next((option for option in command.options if rest and rest[-1] in option.names), None)
    if previous is not None and previous.kind != "flag":
        return _fitting(_things(previous.meta.upper(), context), last)
    if last.startswith("-"):
        return _fitting([name for option in command.options for name in option.names] + ["--help"], last)
    if not command.interspersed and _arguments(command, rest):
        return []  # the container's own command
    return _fitting(_things(command.usage, context), last)


_NETWORK = "create ls inspect rm prune connect disconnect"


def _command(words: list[str]) -> tuple[Command | None, list[str]]:
    """The command that the words name, and the words behind its name."""
    from importlib import import_module

    from specrun.cli.main import LONG_NAMES, VERBS

    if words[0] in LONG_NAMES and len(words) > 1:
        target, name, rest = LONG_NAMES[words[0]].get(words[1], ""), " ".join(words[:2]), words[2:]
    elif words[0] == "network" and len(words) > 1:
        target, name, rest = "network", " ".join(words[:2]), words[2:]
    else:
        target, name, rest = words[0], words[0], words[1:]
    module = "commit" if target == "import" else target.partition(":")[0]
    if not module or (target not in VERBS and ":" not in target):
        return None, rest
    found = [
        one
        for one in vars(import_module(f"specrun.cli.commands.{module.replace('-', '_')}")).values()
        if isinstance(one, Command)
    ]
    named = [one for one in found if one.name in (name, target)]
    return next(iter([*named, *found]), None), rest


def _arguments(command: Command, words: list[str]) -> list[str]:
    """Those of the words that are neither options nor their values."""
    valued = {name for option in command.options if option.kind != "flag" for name in option.names}
    found, skip = [], False
    for word in words:
        if skip:
            skip = False
        elif word.startswith("-"):
            skip = word in valued
        else:
            found.append(word)
    return found


def _things(usage: str, context: Context) -> list[str]:
    """The names of what the usage asks for."""
    from specrun.paths import peek_root

    root = peek_root(context.root_path)
    if root is None:
        return []
    if "CONTAINER" in usage or "NAME|ID" in usage:
        return [one.name for one in context.engine().list(all=True)]
    if "IMAGE" in usage:
        from specrun.oci.reference import Reference

        return [Reference.parse(text).familiar for one in context.engine().images.all() for text in one.references]
    if "VOLUME" in usage:
        from specrun.engine.volumes import VolumeStore

        return [one.name for one in VolumeStore(root).all()]
    return []


def _fitting(words: list[str], beginning: str) -> list[str]:
    return sorted({word for word in words if word.startswith(beginning)})
