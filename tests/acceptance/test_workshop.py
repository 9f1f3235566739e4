"""Binds the features of the workshop, and says what their sentences mean."""

from __future__ import annotations

import os
import re

from pytest_bdd import given, parsers, scenarios, then, when

from tests.acceptance.conftest import Engine

scenarios("workshop")


@given(parsers.parse('the image "{name}"'))
def _image(engine: Engine, name: str) -> None:
    assert name in engine.run("docker images --format '{{.Repository}}'").stdout.split()


@given(parsers.parse("I ran `{line}`"))
def _ran(engine: Engine, line: str) -> None:
    done = engine.run(line)
    assert done.returncode == 0, f"$ {line}\n{done.stderr}"


@when(parsers.parse("I run `{line}`"))
def _run(engine: Engine, line: str) -> None:
    engine.run(line)


@then("it succeeds")
def _succeeds(engine: Engine) -> None:
    _exits(engine, 0)


@then(parsers.parse("it exits with {status:d}"))
def _exits(engine: Engine, status: int) -> None:
    assert engine.last is not None
    assert engine.last.returncode == status, engine.last.stderr


@then(parsers.re('its output is "(?P<text>.*)"'))
def _output_is(engine: Engine, text: str) -> None:
    assert engine.last is not None
    assert engine.last.stdout == (f"{text}\n" if text else "")


@then(parsers.parse('its output contains "{text}"'))
def _output_contains(engine: Engine, text: str) -> None:
    assert engine.last is not None
    assert text in engine.last.stdout


@then("its output contains the host's kernel release")
def _output_has_kernel(engine: Engine) -> None:
    _output_contains(engine, os.uname().release)


@then(parsers.parse('its output does not contain "{text}"'))
def _output_lacks(engine: Engine, text: str) -> None:
    assert engine.last is not None
    assert engine.last.returncode == 0, engine.last.stderr
    assert text not in engine.last.stdout


@then(parsers.parse('its output matches "{pattern}"'))
def _output_matches(engine: Engine, pattern: str) -> None:
    assert engine.last is not None
    assert re.search(pattern, engine.last.stdout, re.MULTILINE), engine.last.stdout


@then(parsers.parse("its output has {count:d} different lines"))
def _output_lines(engine: Engine, count: int) -> None:
    assert engine.last is not None
    lines = engine.last.stdout.splitlines()
    assert len(lines) == len(set(lines)) == count


@then(parsers.parse('its errors contain "{text}"'))
def _errors_contain(engine: Engine, text: str) -> None:
    assert engine.last is not None
    assert text in engine.last.stderr
