"""Images, and what `inspect` and the log say of containers."""

from __future__ import annotations

import shlex

from specrun.bdd.sentences import expect, given, then
from specrun.bdd.world import World


@given('the image "{name}"')
def _(world: World, name: str) -> None:
    """A base image, assembled from packages where no registry has it."""
    world.engine.image(name)
    if not _inspect(world, "image", name, "{{.Id}}"):
        raise AssertionError(f"there is no image {name}")


@then('the container "{name}" is {state}')
def _(world: World, name: str, state: str) -> None:
    """One of created, running, paused, restarting, exited."""
    expect(state in _STATES, f"{state!r} is no state of a container, expected one of {', '.join(_STATES)}")
    found = _inspect(world, "container", name, "{{.State.Status}}")
    expect(found == state, f"the container {name} is {found or 'not there'}, expected {state}")


_STATES = ("created", "running", "paused", "restarting", "exited")


@then('there is no container "{name}"')
def _(world: World, name: str) -> None:
    expect(not _inspect(world, "container", name, "{{.Id}}"), f"there is a container {name}")


@then('there is an image "{name}"')
def _(world: World, name: str) -> None:
    expect(_inspect(world, "image", name, "{{.Id}}"), f"there is no image {name}")


@then('there is no image "{name}"')
def _(world: World, name: str) -> None:
    expect(not _inspect(world, "image", name, "{{.Id}}"), f"there is an image {name}")


@then('the log of "{name}" contains "{text}"')
def _(world: World, name: str, text: str) -> None:
    expect(text, "every log contains nothing: this claim can't fail")
    done = world.ask(f"docker logs {shlex.quote(name)}")
    expect(text in done.output + done.errors, f"expected {text!r} in the log of {name}\n{done}")


@then('`{command}` in "{name}" prints "{text}"')
def _(world: World, command: str, name: str, text: str) -> None:
    done = world.ask(f"docker exec {shlex.quote(name)} {command}")
    expect(done.output.rstrip("\n") == text, f"expected the output {text!r}\n{done}")


def _inspect(world: World, kind: str, name: str, template: str) -> str:
    done = world.ask(f"docker {kind} inspect -f {shlex.quote(template)} {shlex.quote(name)}")
    return done.output.strip() if done.status == 0 else ""
