"""Running a template of `specrun.cli.templates`: Go's rules for values, and its functions."""

from __future__ import annotations

import json

from specrun.cli.templates import Action, Branch, Call, Jump, Text, wrong

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from specrun.cli.templates import Node, Operand, Pipe, Template, TemplateError

_MAPS = frozenset(
    "Annotations Attributes Config Data DriverOpts ExposedPorts Labels Networks Options PortBindings Ports StorageOpt "
    "Sysctls Tmpfs Volumes".split()
)
"""Objects of Docker's documents that are Go maps; the others are structs. `Config` is one inside `LogConfig` only."""
_LISTS = frozenset(
    "Aliases Args Binds BlkioDeviceReadBps BlkioDeviceReadIOps BlkioDeviceWriteBps BlkioDeviceWriteIOps CapAdd CapDrop "
    "Cmd DeviceCgroupRules DeviceRequests Devices Dns DnsOptions DnsSearch Entrypoint Env ExecIDs ExtraHosts GroupAdd "
    "Links Mounts OnBuild RepoDigests RepoTags SecondaryIPAddresses SecondaryIPv6Addresses SecurityOpt Shell Ulimits "
    "VolumesFrom".split()
)
"""Fields whose null is an empty list to a template."""
_OPTIONAL: dict[str, Any] = {
    "Driver": "",
    "Health": None,
    "Healthcheck": None,
    "MacAddress": "",
    "Name": "",
    "NetworkDisabled": False,
    "Shell": [],
    "SizeRootFs": None,
    "SizeRw": None,
    "StopSignal": "",
    "StopTimeout": None,
}
"""Fields that Docker's JSON leaves out when they are empty, and that a template may ask for all the same."""
_EMPTY_MAPS = frozenset(("Annotations", "ExposedPorts", "StorageOpt", "Sysctls", "Tmpfs"))
_MISSING = object()


class _Leave(Exception):
    """`break` or `continue`, on its way to the loop."""


class Run:
    """One rendering. With `heading`, functions give their first text back, to make the heading of a table."""

    def __init__(self, template: Template, *, heading: bool = False) -> None:
        self.template = template
        self.text = template.text
        self.heading = heading
        self.output: list[str] = []
        self.scopes: list[dict[str, Any]] = [{}]

    def text_for(self, value: Any) -> str:
        """The text for `value`."""
        self.scopes[0]["$"] = value
        self.nodes(self.template.nodes, value)
        return "".join(self.output)

    def nodes(self, nodes: list[Node], dot: Any) -> None:
        """Do one after the other."""
        for node in nodes:
            if isinstance(node, Text):
                self.output.append(node.text)
            elif isinstance(node, Action):
                value = self.pipe(node.pipe, dot)
                if not node.pipe.variables:
                    self.output.append(text_of(value))
            elif isinstance(node, Branch):
                self.branch(node, dot)
            elif isinstance(node, Jump):
                raise _Leave(node.keyword)
            elif isinstance(node, Call):
                self.call(node, dot)

    def branch(self, node: Branch, dot: Any) -> None:
        """`if`, `with` and `range`."""
        self.scopes.append({})
        try:
            if node.keyword == "range":
                self.loop(node, dot)
                return
            value = self.pipe(node.pipe, dot)
            if truth(value):
                self.nodes(node.body, value if node.keyword == "with" else dot)
            else:
                self.nodes(node.otherwise, dot)
        finally:
            self.scopes.pop()

    def loop(self, node: Branch, dot: Any) -> None:
        """`range`, over lists and maps; maps by their sorted keys."""
        names, node.pipe.variables = node.pipe.variables, []
        try:
            value = self.pipe(node.pipe, dot)
        finally:
            node.pipe.variables = names
        if value is None:
            items: list[tuple[Any, Any]] = []
        elif isinstance(value, dict):
            items = sorted(value.items())
        elif isinstance(value, (list, tuple)):
            items = list(enumerate(value))
        else:
            raise self.failed(node.pipe.commands[-1], f"range can't iterate over {text_of(value)}")
        if not items:
            self.nodes(node.otherwise, dot)
        for key, item in items:
            for name, content in zip(names[::-1], (item, key), strict=False):
                self.assign(name, content, node.pipe.declares)
            self.scopes.append({})
            try:
                self.nodes(node.body, item)
            except _Leave as leave:
                if leave.args[0] == "break":
                    return
            finally:
                self.scopes.pop()

    def call(self, node: Call, dot: Any) -> None:
        """`template`: its own variables, and only its own dot."""
        body = self.template.defined.get(node.name)
        if body is None:
            raise self.at(node.start, node.end, f'template "{node.name}" not defined')
        value = self.pipe(node.pipe, dot) if node.pipe else None
        kept, self.scopes = self.scopes, [{"$": value}]
        if len(kept) > 200:
            raise self.at(node.start, node.end, "exceeded maximum template depth")
        self.scopes = [{"$": value}, *({} for _ in kept)]
        try:
            self.nodes(body, value)
        finally:
            self.scopes = kept

    def pipe(self, pipe: Pipe, dot: Any) -> Any:
        """The value of a pipe."""
        value: Any = _MISSING
        for command in pipe.commands:
            value = self.command(command, dot, value)
        for name in pipe.variables:
            self.assign(name, value, pipe.declares)
        return value

    def assign(self, name: str, value: Any, declares: bool) -> None:
        """Set a variable: a new one here, or the one that there is."""
        if not declares:
            for scope in reversed(self.scopes):
                if name in scope:
                    scope[name] = value
                    return
        self.scopes[-1][name] = value

    def command(self, command: list[Operand], dot: Any, piped: Any) -> Any:
        """One command, given the value of the one before it, if there is one."""
        first, rest = command[0], command[1:]
        if first.kind == "function":
            return self.function(command, dot, piped)
        value = self.operand(first, dot)
        given = [] if piped is _MISSING else [piped]
        if callable(value):  # a method, such as `.Label "name"`
            return value(*(self.operand(item, dot) for item in rest), *given)
        if rest or given:
            raise self.failed(command, f"can't give argument to non-function {self.source(first)}")
        return value

    def function(self, command: list[Operand], dot: Any, piped: Any) -> Any:
        """A function of Go's or of Docker's; `and` and `or` stop at the operand that decides."""
        name = command[0].value
        if name in ("and", "or"):
            value: Any = _MISSING
            for item in command[1:]:
                value = self.operand(item, dot)
                if truth(value) is (name == "or"):
                    return value
            value = piped if piped is not _MISSING else value
            if value is _MISSING:
                raise self.failed(command, f"wrong number of args for {name}: want at least 1 got 0")
            return value
        arguments = [self.operand(item, dot) for item in command[1:]]
        if piped is not _MISSING:
            arguments.append(piped)
        if self.heading:
            return next((item for item in arguments if isinstance(item, str)), "")
        from specrun.cli.functions import TABLE, Misuse

        function, least, most = TABLE[name]
        if not least <= len(arguments) <= most:
            want = f"want {least}" if least == most else f"want at least {least}"
            raise self.failed(command, f"wrong number of args for {name}: {want} got {len(arguments)}")
        try:
            return function(*arguments)
        except Misuse as error:
            raise self.failed(command, f"error calling {name}: {error}") from error

    def operand(self, item: Operand, dot: Any) -> Any:
        """The value of an operand, with the fields that are asked of it."""
        if item.kind == "literal":
            return item.value
        if item.kind == "function":
            return self.function([item], dot, _MISSING)
        if item.kind == "pipe":
            value = self.pipe(item.value, dot)
        elif item.kind == "variable":
            value = self.variable(item)
        else:
            value = dot
        owner = ""
        for name in item.names:
            value, owner = self.field(item, value, name, owner), name
        return value

    def variable(self, item: Operand) -> Any:
        """The innermost variable of that name."""
        for scope in reversed(self.scopes):
            if item.value in scope:
                return scope[item.value]
        known = ", ".join(sorted({name for scope in self.scopes for name in scope}))
        raise self.at(item.start, item.end, f'undefined variable "{item.value}"', f"there are {known}")

    def field(self, item: Operand, value: Any, name: str, owner: str) -> Any:
        """A field of a struct, or the entry of a map: one that a map lacks has no value."""
        if isinstance(value, dict):
            found = value.get(name, _MISSING)
            if found is None:
                return _null(name)
            if found is not _MISSING:
                return found
            if owner in _MAPS and not (owner == "Config" and "Env" in value):
                return None
            if name in _EMPTY_MAPS:
                return {}
            if name in _OPTIONAL:
                return NULL if _OPTIONAL[name] is None else _OPTIONAL[name]
            place = item.value if item.kind == "field" else item.start
            from difflib import get_close_matches

            close = get_close_matches(name, list(value), 1)
            hint = f"did you mean .{close[0]}?" if close else _fields_hint(value)
            raise self.at(place, item.end, f'map has no entry for key "{name}"', hint, self.source(item))
        if value is None or isinstance(value, _Null):
            kind = "nil data; no entry for key" if value is None else f"nil pointer evaluating {owner}."
            raise self.at(item.start, item.end, f'{kind} "{name}"', "", self.source(item))
        message = f"can't evaluate field {name} in type {type_of(value)}"
        place = item.value if item.kind == "field" else item.start
        raise self.at(place, item.end, message, "", self.source(item))

    def source(self, item: Node) -> str:
        """As it was written."""
        return self.text[item.start : item.end]

    def failed(self, command: list[Operand], message: str) -> TemplateError:
        """The command could not be done."""
        return self.at(command[0].start, command[-1].end, message)

    def at(self, start: int, end: int, message: str, hint: str = "", source: str = "") -> TemplateError:
        """An error while the template runs, with Go's words."""
        what = source or self.text[start:end]
        what = what if len(what) <= 20 else f"{what[:20]}..."
        error = wrong(self.text, start, f'executing "" at <{what}>: {message}', hint, max(1, end - start))
        error.exit_status = 1
        return error


class _Null:
    """Go's nil pointer, which prints differently from a map's missing entry."""

    def __bool__(self) -> bool:
        return False


NULL = _Null()


def _null(name: str) -> Any:
    if name in _LISTS:
        return _NullList()
    return _NullMap() if name in _MAPS else NULL


class _NullList(list[object]):
    """A list that JSON shows as null."""


class _NullMap(dict[str, object]):
    """A map that JSON shows as null."""


def _fields_hint(value: dict[str, Any]) -> str:
    names = [name for name in value if name and name[0].isupper()]
    return f"there are {', '.join(names[:30])}" if names else ""


def truth(value: Any) -> bool:
    """What `if` takes for true."""
    return bool(value)


def text_of(value: Any, owner: str = "", nested: bool = False) -> str:
    """As Go prints it."""
    if value is None:
        return "<nil>" if nested else "<no value>"
    if isinstance(value, _Null):
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}" if abs(value) < 1e21 else f"{value:e}"
    if isinstance(value, dict):
        return _text_of_dict(value, owner)
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(text_of(item, nested=True) for item in value) + "]"
    return str(value)


def _text_of_dict(value: dict[str, Any], owner: str) -> str:
    struct = bool(value) and all(name[:1].isupper() and name.isalnum() for name in value) and owner not in _MAPS
    if isinstance(value, _NullMap) or not struct:
        return "map[" + " ".join(f"{key}:{text_of(item, nested=True)}" for key, item in sorted(value.items())) + "]"
    parts = []
    for name, item in value.items():
        item = _null(name) if item is None else item
        inner = "Config" if name == "Config" and owner == "" and isinstance(item, dict) and "Env" not in item else name
        parts.append(text_of(item, inner, nested=True))
    return "{" + " ".join(parts) + "}"


def type_of(value: Any) -> str:
    """The name of a value's type, in Go's words."""
    if isinstance(value, bool):
        return "bool"
    for kind, name in ((int, "int"), (float, "float64"), (str, "string"), (list, "[]string")):
        if isinstance(value, kind):
            return name
    return "map[string]string" if isinstance(value, dict) else "<nil>"


def json_of(value: Any) -> str:
    """JSON as Go writes it: compact, and with `<`, `>` and `&` escaped."""
    text = json.dumps(_plain(value), separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _plain(value: Any, owner: str = "") -> Any:
    if isinstance(value, (_Null, _NullList, _NullMap)):
        return None
    if isinstance(value, dict):
        names = sorted(value) if owner in _MAPS or not all(name[:1].isupper() for name in value) else list(value)
        return {name: _plain(value[name], name) for name in names if not callable(value[name])}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
