"""The values of `RUN --mount=`: keys in an enumeration, nothing passed through to mount(2)."""

from __future__ import annotations

from specrun.build.errors import DockerfileError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from specrun.build.parser import Node

TYPES = ("bind", "cache", "tmpfs", "secret", "ssh")
SHARINGS = ("shared", "private", "locked")
_KEYS = {
    "bind": "type from source src target dst destination readwrite rw readonly ro",
    "cache": "type id from source src target dst destination readonly ro readwrite rw sharing mode uid gid",
    "tmpfs": "type target dst destination size",
    "secret": "type id source src target dst destination required mode uid gid env",
    "ssh": "type id target dst destination required mode uid gid",
}
_SIZES = {"": 1, "b": 1, "k": 1 << 10, "kb": 1 << 10, "m": 1 << 20, "mb": 1 << 20, "g": 1 << 30, "gb": 1 << 30}


class Mount:
    """One `--mount`."""

    __slots__ = (
        "env", "gid", "id", "mode", "readonly", "required", "sharing", "size", "source", "source_path", "target",
        "type", "uid",
    )  # fmt: skip

    def __init__(self, kind: str) -> None:
        self.type = kind
        self.source = ""
        """`from`: a stage, an image or a named context; "" is the build context."""
        self.source_path = ""
        self.target = ""
        self.readonly = kind in ("bind", "secret", "ssh")
        self.size = 0
        self.id = ""
        self.sharing = ""
        self.required = False
        self.env: str | None = None
        self.mode: int | None = None
        self.uid: int | None = None
        self.gid: int | None = None


def parse(text: str, node: Node, expand: Callable[[str], str]) -> Mount:
    """The mount that `text` describes, each value passed through `expand`. Raises DockerfileError."""
    fields = [_field(part, expand) for part in text.split(",")]
    kind = next((value for key, value in fields if key == "type"), "bind")
    if kind not in TYPES:
        raise _wrong(node, f'unsupported mount type "{kind}"', f"one of {', '.join(TYPES)}", kind or "")
    mount = Mount(kind)
    allowed = _KEYS[kind].split()
    for key, value in fields:
        if key not in allowed:
            raise _wrong(
                node, f"unexpected key '{key}' for mount type '{kind}'", f"{kind} has {', '.join(allowed)}", key
            )
        _set(mount, key, value, node)
    if not mount.target and mount.type in ("bind", "cache", "tmpfs"):
        raise _wrong(node, f'invalid mount of type "{kind}": target is required', "add target=PATH", text)
    if mount.type == "secret" and not (mount.id or mount.source_path or mount.target):
        raise _wrong(node, 'invalid secret mount: one of "source", "target" required', "add id=NAME", text)
    return mount


def _field(part: str, expand: Callable[[str], str]) -> tuple[str, str | None]:
    key, equals, value = part.partition("=")
    return key.strip().lower(), expand(value.strip('"')) if equals else None


def _set(mount: Mount, key: str, value: str | None, node: Node) -> None:
    if key in ("readonly", "ro", "readwrite", "rw", "required"):
        given = _boolean(key, value, node)
        if key == "required":
            mount.required = given
        else:
            mount.readonly = given if key in ("readonly", "ro") else not given
        return
    if value is None:
        raise _wrong(node, f"invalid field '{key}' must be a key=value pair", f"{key}=VALUE", key)
    if key == "from":
        mount.source = value
    elif key in ("source", "src"):
        mount.source_path = value
    elif key in ("target", "dst", "destination"):
        mount.target = value
    elif key == "id":
        mount.id = value
    elif key == "env":
        mount.env = value
    elif key == "sharing":
        if value not in SHARINGS:
            raise _wrong(node, f'unsupported sharing value "{value}"', f"one of {', '.join(SHARINGS)}", value)
        mount.sharing = value
    elif key == "size":
        mount.size = _size(value, node)
    elif key == "mode":
        mount.mode = _number(key, value, node, 8)
    elif key == "uid":
        mount.uid = _number(key, value, node, 10)
    elif key == "gid":
        mount.gid = _number(key, value, node, 10)


def _boolean(key: str, value: str | None, node: Node) -> bool:
    if value is None or value.lower() in ("true", "1", "t"):
        return True
    if value.lower() in ("false", "0", "f"):
        return False
    raise _wrong(node, f"invalid value for {key}: {value}", "true or false", value)


def _number(key: str, value: str, node: Node, base: int) -> int:
    try:
        if value.isascii() and value.isdigit() and len(value) < 11:
            return int(value, base)
    except ValueError:
        pass
    raise _wrong(node, f"invalid value {value} for {key}", "a number in base 8" if base == 8 else "a number", value)


def _size(value: str, node: Node) -> int:
    digits = value.rstrip("bBkKmMgG")
    unit = _SIZES.get(value[len(digits) :].lower())
    if not digits.isascii() or not digits.isdigit() or unit is None:
        raise _wrong(node, f"invalid value for size: {value}", "such as 64m", value)
    return int(digits) * unit


def _wrong(node: Node, message: str, hint: str, word: str = "") -> DockerfileError:
    return DockerfileError(message, node=node, hint=hint, word=word)
