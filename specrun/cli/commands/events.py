"""`specrun events`: what was and is done to containers, images, volumes and networks."""

from __future__ import annotations

import time

from specrun.cli import moments
from specrun.cli.options import Command, Option
from specrun.errors import UsageError
from specrun_runtime import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from specrun.cli.context import Context

COMMAND = Command(
    "events",
    "[OPTIONS]",
    "Print events: first those since a time, then those that come.",
    [
        Option("-f --filter", "list", "Filter by container= image= volume= network= event= type= label=", "filter"),
        Option("--format", "value", "json or a Go template"),
        Option("--since", "value", "Show the events since a time (or for a duration before now)"),
        Option("--until", "value", "Stop at a time (or a duration before now)"),
    ],
    examples=[
        "events --since 10m --until 0s",
        "events --filter type=container --filter event=die",
        "events --since 2026-01-01 --format '{{.Time}} {{.Action}} {{.Actor.Attributes.name}}'",
    ],
)
FILTERS = ("container", "daemon", "event", "image", "label", "network", "plugin", "scope", "type", "volume")


def run(arguments: list[str], context: Context) -> int:
    """Print the events until `--until`, or for ever."""
    from specrun.events import follow

    options = COMMAND.parse(arguments)
    COMMAND.require(options, 0, 0)
    filters = [_filter(text) for text in options.filter]
    since = moments.parse(options.since, "since") if options.since else time.time()
    until = moments.parse(options.until, "until") if options.until else None
    if until is not None and not options.since:
        since = 0.0
    printer = _printer(options.format)
    try:
        for event in follow(context.root(), until=until):
            if event["timeNano"] >= since * 1e9 and _passes(event, filters):
                context.out(printer(event) + "\n")
    except KeyboardInterrupt:
        return 130
    return 0


def _printer(format: str) -> Any:
    if not format:
        return _line
    if format in ("json", "{{json .}}"):
        return lambda event: jsontext.dumps(event, compact=True)
    from specrun.cli.templates import Template

    template = Template(format)
    return lambda event: template.render(_fields(event))


def _fields(event: dict[str, Any]) -> dict[str, Any]:
    """The names that templates use for what the JSON spells differently."""
    names = {"Status": "status", "ID": "id", "From": "from", "Scope": "scope", "Time": "time", "TimeNano": "timeNano"}
    return {**event, **{name: event.get(key, "") for name, key in names.items()}}


def _line(event: dict[str, Any]) -> str:
    attributes = event["Actor"]["Attributes"]
    details = ", ".join(f"{key}={_visible(value)}" for key, value in sorted(attributes.items()))
    line = f"{moments.local(event['timeNano'])} {event['Type']} {event['Action']} {event['Actor']['ID']}"
    return f"{line} ({details})" if details else line


def _visible(text: str) -> str:
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _filter(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"bad format of filter (expected name=value): {text}")
    if key not in FILTERS:
        raise UsageError(f"Invalid filter '{key}'", hint=f"expected one of {', '.join(f'{key}=' for key in FILTERS)}")
    return key, value


def _passes(event: dict[str, Any], filters: list[tuple[str, str]]) -> bool:
    """Values of one key are alternatives, different keys must all hold; labels must hold each."""
    for key in {key for key, _ in filters}:
        tests = [_holds(event, key, value) for other, value in filters if other == key]
        if not (all(tests) if key == "label" else any(tests)):
            return False
    return True


def _holds(event: dict[str, Any], key: str, value: str) -> bool:
    kind, actor = event["Type"], event["Actor"]
    attributes = actor["Attributes"]
    if key == "type":
        return bool(kind == value)
    if key == "scope":
        return bool(event["scope"] == value)
    if key == "event":
        return bool(event["Action"] == value or event["Action"].partition(":")[0] == value)
    if key == "label":
        name, equals, wanted = value.partition("=")
        return name in attributes and (not equals or attributes[name] == wanted)
    if key == "image":
        found = attributes.get("image" if kind == "container" else "name", actor["ID"])
        return kind in ("container", "image") and value in (actor["ID"], found, found.partition(":")[0])
    return bool(kind == key) and (actor["ID"].startswith(value) or attributes.get("name") == value)
