"""Command lines: run, in the background, in a terminal."""

from __future__ import annotations

from specrun.bdd.sentences import expect, given, then, when
from specrun.bdd.terminal import Terminal
from specrun.bdd.world import World


@given("I ran `{line}`")
def _(world: World, line: str) -> None:
    done = world.run(line)
    expect(done.status == 0, f"a step that prepares the scenario failed\n{done}")


@when("I run `{line}`")
def _(world: World, line: str) -> None:
    world.run(line)


@given("the workshop says `{line}`")
def _(world: World, line: str) -> None:
    """Runs a line of the workshop's text; it must stand in the section that the feature is named after."""
    quote(world, line)
    done = world.run(line)
    expect(done.status == 0, f"a step that prepares the scenario failed\n{done}")


@when("the workshop says `{line}`")
def _(world: World, line: str) -> None:
    quote(world, line)
    world.run(line)


@when("the workshop says, in the background, `{line}`")
def _(world: World, line: str) -> None:
    quote(world, line)
    world.start(line)


@when("the workshop says, in a terminal, `{line}`")
def _(world: World, line: str) -> None:
    quote(world, line)
    _open(world, line)


@when('I type there what the workshop says: "{line}"')
def _(world: World, line: str) -> None:
    quote(world, line)
    _terminal(world).type(f"{line}\r")


@when("I run")
def _(world: World, docstring: str) -> None:
    """Several lines, as a script."""
    world.run(docstring)


@when("I start `{line}` in the background")
def _(world: World, line: str) -> None:
    world.start(line)


@given("I started `{line}` in the background")
def _(world: World, line: str) -> None:
    world.start(line)


@when("I press Ctrl-C there")
def _(world: World) -> None:
    expect(world.background, "nothing was started in the background")
    world.background[-1].interrupt()


@then("it ends within {seconds:d} seconds")
def _(world: World, seconds: int) -> None:
    import subprocess

    expect(world.background, "nothing was started in the background")
    started = world.background[-1]
    try:
        started.process.wait(seconds)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"`{started.line}` still runs after {seconds} s:\n{started.output()}") from None


@then('what it has printed contains "{text}"')
def _(world: World, text: str) -> None:
    expect(world.background, "nothing was started in the background")
    output = world.background[-1].output()
    expect(text in output, f"{text!r} is not in what `{world.background[-1].line}` printed:\n{output}")


@when("I run `{line}` in a terminal")
def _(world: World, line: str) -> None:
    _open(world, line)


@when('I type "{text}"')
def _(world: World, text: str) -> None:
    _terminal(world).type(f"{text}\r")


@when("I press Ctrl-{letter}")
def _(world: World, letter: str) -> None:
    expect(len(letter) == 1 and letter.isalpha(), f"Ctrl-{letter} is no key")
    _terminal(world).type(chr(ord(letter.upper()) - 64))


@then('the terminal shows "{text}"')
def _(world: World, text: str) -> None:
    terminal = _terminal(world)
    shown = terminal.await_text(text, 15)
    world.evidence.append({"line": terminal.line, "status": None, "output": terminal.shown, "errors": "", "seconds": 0})
    expect(shown, f"{text!r} was not shown within 15 s; the terminal has:\n{terminal.shown}")


@then("the command in the terminal exits with {status:d}")
def _(world: World, status: int) -> None:
    found = _terminal(world).await_end(15)
    expect(found == status, f"expected exit status {status}, found {found}:\n{_terminal(world).shown}")


def quote(world: World, line: str) -> None:
    """Hold the scenario to the workshop's text. Raises AssertionError when its section has no such line."""
    from specrun.bdd.workshop import commands_of, parts_of, text

    part = parts_of(text().read_text(encoding="utf-8")).get(world.section)
    expect(part is not None, f"docs/workshop.md has no section {world.section!r}, which the feature is named after")
    known = commands_of(part or "")
    said = "\n".join(f"  $ {one}" for one in known)
    expect(line in known, f"docs/workshop.md does not say so in the section {world.section!r}; it says:\n{said}")


def _open(world: World, line: str) -> None:
    if world.terminal:
        world.terminal.close()
    world.terminal = Terminal(world, line)


def _terminal(world: World) -> Terminal:
    if world.terminal is None:
        raise AssertionError("no command was run in a terminal")
    return world.terminal
