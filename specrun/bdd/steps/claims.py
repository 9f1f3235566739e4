"""Claims about the last command, and `eventually`, which repeats any claim for a while."""

from __future__ import annotations

import os
import re
import time

from specrun.bdd.sentences import expect, find, then
from specrun.bdd.world import World


@then("it succeeds")
def _(world: World) -> None:
    expect(world.last.status == 0, f"expected success\n{world.last}")


@then("it fails")
def _(world: World) -> None:
    expect(world.last.status != 0, f"expected a failure\n{world.last}")


@then("it exits with {status:d}")
def _(world: World, status: int) -> None:
    expect(world.last.status == status, f"expected exit status {status}\n{world.last}")


@then('its output is "{text}"')
def _(world: World, text: str) -> None:
    wanted = f"{text}\n" if text else ""
    expect(world.last.output == wanted, f"expected the output {wanted!r}\n{world.last}")


@then("its output is")
def _(world: World, docstring: str) -> None:
    expect(world.last.output.rstrip("\n") == docstring.rstrip("\n"), f"expected the output\n{docstring}\n{world.last}")


@then("it prints nothing")
def _(world: World) -> None:
    expect(world.last.output == "", f"expected no output\n{world.last}")


@then('its output contains "{text}"')
def _(world: World, text: str) -> None:
    _can_fail(text)
    expect(text in world.last.output, f"expected {text!r} in the output\n{world.last}")


@then('its output does not contain "{text}"')
def _(world: World, text: str) -> None:
    _can_fail(text)
    expect(world.last.status == 0, f"a command that fails proves nothing by what it does not print\n{world.last}")
    expect(text not in world.last.output, f"expected no {text!r} in the output\n{world.last}")


@then('its output matches "{pattern}"')
def _(world: World, pattern: str) -> None:
    expect(_pattern(pattern).search(world.last.output), f"expected a line like {pattern!r}\n{world.last}")


@then('no line of its output matches "{pattern}"')
def _(world: World, pattern: str) -> None:
    expect(world.last.status == 0, f"a command that fails proves nothing by what it does not print\n{world.last}")
    expect(not _pattern(pattern).search(world.last.output), f"expected no line like {pattern!r}\n{world.last}")


@then("its output contains the host's kernel release")
def _(world: World) -> None:
    expect(os.uname().release in world.last.output, f"expected {os.uname().release}\n{world.last}")


@then("its output has {count:d} lines")
def _(world: World, count: int) -> None:
    expect(len(world.last.output.splitlines()) == count, f"expected {count} lines\n{world.last}")


@then("its output has {count:d} different lines")
def _(world: World, count: int) -> None:
    lines = world.last.output.splitlines()
    expect(len(lines) == len(set(lines)) == count, f"expected {count} different lines\n{world.last}")


@then('its errors contain "{text}"')
def _(world: World, text: str) -> None:
    _can_fail(text)
    expect(text in world.last.errors, f"expected {text!r} in the errors\n{world.last}")


@then('its errors match "{pattern}"')
def _(world: World, pattern: str) -> None:
    expect(_pattern(pattern).search(world.last.errors), f"expected errors like {pattern!r}\n{world.last}")


@then("eventually within {seconds:d}s {claim}")
def _(world: World, seconds: int, claim: str) -> None:
    """Repeats the last command and the claim; fails at once when a container that the claim names has ended."""
    sentence, arguments = find("then", claim)
    world.watched = {value for value in arguments.values() if isinstance(value, str)}
    deadline = time.monotonic() + seconds
    while True:
        try:
            sentence.function(world, **arguments)
            return
        except AssertionError as failure:
            if stopped := world.stopped():
                raise AssertionError(f"{failure}\n{stopped}") from failure
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds} s: {failure}") from failure
        del world.evidence[:-2]  # of many tries the last ones are worth keeping
        time.sleep(0.1)
        world.repeat()


def _can_fail(text: str) -> None:
    if not text:
        raise ValueError("every output contains nothing: this claim can't fail")


def _pattern(text: str) -> re.Pattern[str]:
    pattern = re.compile(text, re.MULTILINE)
    if pattern.search("") or pattern.fullmatch("x\n"):
        raise ValueError(f"{text!r} matches any output: this claim can't fail")
    return pattern
