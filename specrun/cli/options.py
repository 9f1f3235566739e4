"""Options as values in a table: parsed as Docker's command line does it, and printed by `--help`.

argparse takes 13 ms to import and knows neither Docker's error texts nor that the options of `run` end at the
image's name.
"""

from __future__ import annotations

from specrun.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Option:
    """One option: `names` as they are typed, `kind` "flag", "value", "number" or "list"."""

    __slots__ = ("help", "kind", "meta", "names")

    def __init__(self, names: str, kind: str, help: str, meta: str = "string") -> None:
        self.names = names.split()
        self.kind = kind
        self.help = help
        self.meta = "list" if kind == "list" and meta == "string" else "int" if kind == "number" else meta

    @property
    def key(self) -> str:
        """The long name, as an attribute is called."""
        return self.names[-1].lstrip("-").replace("-", "_")

    def default(self) -> Any:
        """What the option is when it is not given."""
        return {"flag": False, "value": "", "number": None, "list": []}[self.kind]


class Command:
    """A verb's command line: what it takes, and what `--help` says."""

    __slots__ = ("examples", "interspersed", "name", "options", "summary", "unsupported", "usage")

    def __init__(
        self,
        name: str,
        usage: str,
        summary: str,
        options: list[Option],
        *,
        examples: list[str] | None = None,
        interspersed: bool = True,
        unsupported: str = "",
    ) -> None:
        self.name = name
        self.usage = usage
        self.summary = summary
        self.options = options
        self.examples = examples or []
        self.interspersed = interspersed
        """Whether options may follow the first argument; not where a container's own command follows."""
        self.unsupported = frozenset(unsupported.split())
        """Options of Docker's that are refused by name."""

    def parse(self, arguments: list[str]) -> Parsed:
        """Split the arguments. Raises UsageError, with Docker's words, and HelpWanted."""
        return _Parser(self, arguments).run()

    def help(self) -> str:
        """The text of `--help`."""
        lines = [f"Usage:  specrun {self.name} {self.usage}", "", self.summary]
        if self.options:
            lines += ["", "Options:"]
            left = [_column(option) for option in self.options]
            width = max(map(len, left)) + 3
            lines += [column.ljust(width) + option.help for column, option in zip(left, self.options, strict=True)]
        if self.examples:
            lines += ["", "Examples:", *(f"  $ specrun {example}" for example in self.examples)]
        return "\n".join(lines) + "\n"

    def wrong(self, message: str) -> UsageError:
        """A UsageError about this command."""
        return UsageError(message, hint=f"see 'specrun {self.name} --help'")

    def require(self, parsed: Parsed, least: int, most: int | None = None) -> None:
        """Refuse a wrong number of arguments, with Docker's words."""
        count = len(parsed.arguments)
        wrong = ""
        if count < least:
            plural = "s" if least != 1 else ""
            wrong = f"requires {'exactly' if most == least else 'at least'} {least} argument{plural}."
        elif most is not None and count > most:
            plural = "s" if most != 1 else ""
            wrong = "accepts no arguments." if most == 0 else f"requires at most {most} argument{plural}."
        if wrong:
            error = self.wrong(f'"specrun {self.name}" {wrong}')
            error.exit_status = 1  # unlike a wrong option, which is 125
            raise error


class HelpWanted(Exception):
    """`--help` was given; the text is the argument."""


class Parsed:
    """The values of the options by key, and the arguments that are no options."""

    def __init__(self, values: dict[str, Any], arguments: list[str], given: set[str]) -> None:
        self.values = values
        self.arguments = arguments
        self.given = given
        """The keys of the options that were given, if only an empty text."""

    def __getattr__(self, key: str) -> Any:
        try:
            return self.__dict__["values"][key]
        except KeyError as error:
            raise AttributeError(key) from error


class _Parser:
    def __init__(self, command: Command, arguments: list[str]) -> None:
        self.command = command
        self.left = list(arguments)
        self.by_name = {name: option for option in command.options for name in option.names}
        self.values = {option.key: option.default() for option in command.options}
        self.arguments: list[str] = []
        self.given: set[str] = set()

    def run(self) -> Parsed:
        while self.left:
            word = self.left.pop(0)
            if word == "--":
                self.arguments += self.left
                break
            if word.startswith("--"):
                self._long(word)
            elif word.startswith("-") and word != "-":
                self._short(word)
            else:
                self.arguments.append(word)
                if not self.command.interspersed:
                    self.arguments += self.left
                    break
        return Parsed(self.values, self.arguments, self.given)

    def _long(self, word: str) -> None:
        name, equals, value = word.partition("=")
        if name == "--help":
            raise HelpWanted(self.command.help())
        option = self.by_name.get(name)
        if option is None:
            raise self._unknown(name, f"unknown flag: {name}")
        if option.kind == "flag":
            self.given.add(option.key)
            self.values[option.key] = self._boolean(name, value) if equals else True
        elif equals:
            self._store(option, name, value)
        elif self.left:
            self._store(option, name, self.left.pop(0))
        else:
            raise self.command.wrong(f"flag needs an argument: {name}")

    def _short(self, word: str) -> None:
        letters = word[1:]
        while letters:
            name, letters = f"-{letters[0]}", letters[1:]
            option = self.by_name.get(name)
            if option is None:
                if name == "-h":
                    raise HelpWanted(self.command.help())
                raise self._unknown(name, f"unknown shorthand flag: '{name[1]}' in {word}")
            if option.kind == "flag":
                self.given.add(option.key)
                if letters.startswith("="):
                    self.values[option.key] = self._boolean(name, letters[1:])
                    return
                self.values[option.key] = True
                continue
            value = letters.removeprefix("=")
            if not letters:
                if not self.left:
                    raise self.command.wrong(f"flag needs an argument: '{name[1]}' in {word}")
                value = self.left.pop(0)
            self._store(option, name, value)
            return

    def _store(self, option: Option, name: str, value: str) -> None:
        self.given.add(option.key)
        if option.kind == "list":
            self.values[option.key] = [*self.values[option.key], value]
        elif option.kind == "number":
            digits = value.removeprefix("-")
            if not digits.isascii() or not digits.isdigit() or len(digits) > 18:
                raise self.command.wrong(f'invalid argument "{value}" for "{name}" flag: expected a whole number')
            self.values[option.key] = int(value)
        else:
            self.values[option.key] = value

    def _boolean(self, name: str, value: str) -> bool:
        if value in ("true", "1", "t", "T", "TRUE", "True"):
            return True
        if value in ("false", "0", "f", "F", "FALSE", "False"):
            return False
        raise self.command.wrong(f'invalid argument "{value}" for "{name}" flag: expected true or false')

    def _unknown(self, name: str, message: str) -> UsageError:
        if name in self.command.unsupported:
            return UsageError(f"{name} is not supported yet", hint="README.md lists what this version has")
        return self.command.wrong(message)


def _column(option: Option) -> str:
    names = ", ".join(option.names)
    if len(option.names) == 1 and option.names[0].startswith("--"):
        names = f"    {names}"
    return f"  {names}" + ("" if option.kind == "flag" else f" {option.meta}")
