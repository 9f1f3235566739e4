"""A service laid over the one that it extends, by the rules of Compose.

Mappings are merged, lists joined, and other values replaced, as is what is tagged with `!override`. What differs from
that is named below, by its path in a service.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from specrun.spec import short
from specrun.spec.compose.tree import Node

Path = tuple[str, ...]

REPLACED = frozenset({("command",), ("entrypoint",), ("healthcheck", "test")})
TABLES = frozenset(
    {
        ("annotations",),
        ("build", "additional_contexts"),
        ("build", "args"),
        ("build", "extra_hosts"),
        ("build", "labels"),
        ("deploy", "labels"),
        ("environment",),
        ("extra_hosts",),
        ("labels",),
        ("sysctls",),
    }
)
"""A mapping, or a list of `NAME=value`."""
NAMED = frozenset({("depends_on",), ("networks",)})
"""A mapping, or a list of its names."""
LISTS = frozenset({("dns",), ("dns_opt",), ("dns_search",), ("env_file",), ("tmpfs",)})
"""A list, or its only item."""


class Unlike(ValueError):
    """Two values that cannot be merged; `node` is the one of the service that extends."""

    def __init__(self, node: Node, path: Path, base: Node) -> None:
        super().__init__(f"{_kind(node)} does not go with {_kind(base)} of the service that it extends")
        self.node, self.path, self.base = node, path, base


def merge(base: Node, over: Node, path: Path = ()) -> Node:
    """`over` laid over `base`. Raises Unlike."""
    if over.overriding or over.value is None or base.value is None or path in REPLACED:
        return base if over.value is None and not over.overriding else over
    base, over = _long(base, path), _long(over, path)
    if path == ("logging",) and _drivers_differ(base, over):
        return over
    if isinstance(base.value, dict) and isinstance(over.value, dict):
        laid = {
            name: merge(base.value[name], node, (*path, name)) if name in base.value else node
            for name, node in over.value.items()
        }
        kept = {name: node for name, node in base.value.items() if name not in over.reset}
        return over.but({name: laid.pop(name, node) for name, node in kept.items()} | laid)
    if isinstance(base.value, list) and isinstance(over.value, list):
        return over.but(_joined(base.value, over.value, path))
    if isinstance(base.value, (dict, list)) != isinstance(over.value, (dict, list)) and path[:1] != ("ulimits",):
        raise Unlike(over, path, base)
    return over


def _long(node: Node, path: Path) -> Node:
    """The form that can be merged, of what has a short one."""
    value = node.value
    if path == ("build",) and isinstance(value, str):
        return node.but({"context": node})
    if path in LISTS and isinstance(value, (str, dict)):
        return node.but([node])
    if not isinstance(value, list) or not all(isinstance(one.value, str) for one in value):
        return node
    if path in NAMED:
        empty = {"condition": node.but("service_started")} if path == ("depends_on",) else None
        return node.but({one.value: Node(one.mark, empty, one.mark) for one in value})
    if path in TABLES:
        return node.but(dict(_pair(one, path) for one in value))
    return node


def _pair(node: Node, path: Path) -> tuple[str, Node]:
    sign = ":" if path[-1] == "extra_hosts" and "=" not in node.value else "="
    name, found, text = node.value.partition(sign)
    return name, Node(node.mark, text if found else None, node.mark)


def _drivers_differ(base: Node, over: Node) -> bool:
    if not isinstance(base.value, dict) or not isinstance(over.value, dict):
        return False
    names = {side.value["driver"].plain for side in (base, over) if "driver" in side.value}
    return len(names) > 1


def _joined(base: list[Node], over: list[Node], path: Path) -> list[Node]:
    """Both lists; an item that stands for the same thing as an earlier one takes its place."""
    identity = _IDENTITIES.get(path, lambda value: value)
    found = {_key(node, identity): node for node in base}
    found.update((_key(node, identity), node) for node in over)
    return list(found.values())


def _key(node: Node, identity: Callable[[Any], Any]) -> str:
    try:
        return repr(identity(node.plain))
    except (ValueError, TypeError, AttributeError):  # it is refused when it is read
        return repr(node.plain)


def _target(value: Any) -> Any:
    """The path in the container that a mount or a device is at."""
    if isinstance(value, dict):
        return value.get("target", value)
    return short.volume(value, drives=True)["target"]


def _file(value: Any) -> Any:
    """Where a secret or config is mounted: by default, under the name of its source."""
    if isinstance(value, dict):
        return value.get("target", value.get("source"))
    return value


def _port(value: Any) -> Any:
    if not isinstance(value, dict):
        return sorted(map(_port_key, short.ports(str(value))))
    names = {"target": "containerPort", "published": "hostPort", "host_ip": "hostIP", "protocol": "protocol"}
    return [_port_key({names[name]: one for name, one in value.items() if name in names})]


def _port_key(fields: dict[str, Any]) -> list[str]:
    return [str(fields.get(name, "")) for name in ("hostIP", "hostPort", "containerPort")] + [
        str(fields.get("protocol") or "tcp")
    ]


_IDENTITIES: dict[Path, Callable[[Any], Any]] = {
    ("volumes",): _target,
    ("devices",): lambda value: (value.split(":") * 2)[1],
    ("tmpfs",): lambda value: value.partition(":")[0],
    ("secrets",): _file,
    ("configs",): _file,
    ("ports",): _port,
    ("env_file",): lambda value: value["path"] if isinstance(value, dict) else value,
}


def _kind(node: Node) -> str:
    if isinstance(node.value, dict):
        return "a mapping"
    return "a list" if isinstance(node.value, list) else "a single value"
