"""The functions of templates: Go's own (text/template) and those that Docker adds."""

from __future__ import annotations

from specrun.cli.evaluation import NULL, json_of, text_of, truth, type_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_MANY = 1 << 20


class Misuse(Exception):
    """A function was given what it can't work with; the text says why, in Go's words."""


def _length(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogateescape"))
    if isinstance(value, (list, tuple, dict)):
        return len(value)
    raise Misuse(f"len of type {type_of(value)}" if value is not None else "len of nil pointer")


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, dict):
            if not isinstance(key, str):
                raise Misuse(f"value has type {type_of(key)}; should be string")
            value = value.get(key, "")
        elif isinstance(value, (list, tuple, str)):
            if not isinstance(key, int) or isinstance(key, bool):
                raise Misuse(f"cannot index slice/array with type {type_of(key)}")
            if not 0 <= key < len(value):
                raise Misuse(f"index out of range: {key}")
            value = ord(value[key]) if isinstance(value, str) else value[key]
        elif value is None or value is NULL:
            raise Misuse("index of untyped nil" if value is None else "index of nil pointer")
        else:
            raise Misuse(f"can't index item of type {type_of(value)}")
    return value


def _slice(value: Any, *bounds: Any) -> Any:
    if not isinstance(value, (str, list, tuple)):
        raise Misuse(f"can't slice item of type {type_of(value)}")
    for bound in bounds:
        if not isinstance(bound, int) or isinstance(bound, bool):
            raise Misuse(f"cannot index slice/array with type {type_of(bound)}")
        if not 0 <= bound <= len(value):
            raise Misuse(f"index out of range: {bound}")
    start = bounds[0] if bounds else 0
    stop = bounds[1] if len(bounds) > 1 else len(value)
    if start > stop:
        raise Misuse(f"invalid slice index: {start} > {stop}")
    return value[start:stop]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Misuse(f"wrong type for value; expected string; got {type_of(value)}")
    return value


def _join(values: Any, separator: Any) -> str:
    if not isinstance(values, (list, tuple)):
        raise Misuse(f"wrong type for value; expected []string; got {type_of(values)}")
    return _text(separator).join(text_of(value) for value in values)


def _title(value: Any) -> str:
    text = _text(value)
    return "".join(
        char.upper() if index == 0 or not (text[index - 1].isalnum() or text[index - 1] in "_'") else char
        for index, char in enumerate(text)
    )


def _print(*values: Any) -> str:
    """A blank between two operands of which neither is a text."""
    parts: list[str] = []
    for number, value in enumerate(values):
        if number and not isinstance(value, str) and not isinstance(values[number - 1], str):
            parts.append(" ")
        parts.append(text_of(value, nested=True))
    return "".join(parts)


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int"
    return "float" if isinstance(value, float) else "string" if isinstance(value, str) else "other"


def _equal(left: Any, *rights: Any) -> bool:
    if not rights:
        raise Misuse("missing argument for comparison")
    for right in rights:
        kinds = {_kind(left), _kind(right)}
        if len(kinds) > 1 and left is not None and right is not None:
            raise Misuse("incompatible types for comparison")
        if left == right:
            return True
    return False


def _ordered(test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def compare(left: Any, right: Any) -> bool:
        if _kind(left) != _kind(right):
            raise Misuse("incompatible types for comparison")
        if _kind(left) in ("bool", "other"):
            raise Misuse("invalid type for comparison")
        return test(left, right)

    return compare


def _call(function: Any, *arguments: Any) -> Any:
    if not callable(function):
        raise Misuse(f"non-function of type {type_of(function)}")
    return function(*arguments)


def _html(*values: Any) -> str:
    text = _print(*values)
    for char, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&#34;"), ("'", "&#39;")):
        text = text.replace(char, entity)
    return text


def _js(*values: Any) -> str:
    text = _print(*values).replace("\\", "\\\\")
    for char, escape in (("'", "\\'"), ('"', '\\"'), ("<", "\\u003C"), (">", "\\u003E"), ("&", "\\u0026")):
        text = text.replace(char, escape)
    return text.replace("=", "\\u003D").replace("\n", "\\u000A").replace("\t", "\\u0009")


def _urlquery(*values: Any) -> str:
    from urllib.parse import quote_plus

    return quote_plus(_print(*values))


def _printf(format: Any, *values: Any) -> str:
    text, left, parts, position = _text(format), list(values), [], 0
    while (start := text.find("%", position)) >= 0:
        parts.append(text[position:start])
        stop = start + 1
        while stop < len(text) and text[stop] in "+-# 0123456789.*":
            stop += 1
        flags, verb = text[start + 1 : stop], text[stop : stop + 1]
        position = stop + 1
        if verb == "%":
            parts.append("%")
        elif not verb:
            parts.append("%!(NOVERB)")
        elif not left:
            parts.append(f"%!{verb}(MISSING)")
        else:
            while "*" in flags and len(left) > 1:
                flags = flags.replace("*", str(left.pop(0)), 1)
            parts.append(_formatted(flags, verb, left.pop(0)))
    parts.append(text[position:])
    if left:
        parts.append("%!(EXTRA " + ", ".join(f"{type_of(value)}={text_of(value, nested=True)}" for value in left) + ")")
    return "".join(parts)


def _formatted(flags: str, verb: str, value: Any) -> str:
    kind = _kind(value)
    try:
        if verb in "vs":
            if verb == "s" and kind in ("int", "float", "bool"):
                return f"%!s({type_of(value)}={text_of(value)})"
            return f"%{flags.replace('+', '').replace('#', '')}s" % text_of(value, nested=True)
        if verb == "q" and kind == "string":
            import json

            return f"%{flags}s" % json.dumps(value, ensure_ascii=False)
        if verb == "T":
            return type_of(value)
        if verb == "t" and kind == "bool":
            return text_of(value)
        if verb == "c" and kind == "int":
            return chr(value)
        if verb == "b" and kind == "int":
            return f"%{flags}s" % f"{value:b}"
        if verb in "dxXo" and kind == "int":
            return str(f"%{flags}{verb}" % value)
        if verb in "xX" and kind == "string":
            digits = value.encode().hex()
            return str(f"%{flags}s" % (digits if verb == "x" else digits.upper()))
        if verb in "feEgG" and kind == "float":
            return str(f"%{flags}{verb}" % value)
    except (ValueError, TypeError):
        pass
    return f"%!{verb}({type_of(value)}={text_of(value, nested=True)})"


TABLE: dict[str, tuple[Callable[..., Any], int, int]] = {
    "not": (lambda value: not truth(value), 1, 1),
    "len": (_length, 1, 1),
    "index": (_index, 1, _MANY),
    "slice": (_slice, 1, 4),
    "print": (_print, 0, _MANY),
    "printf": (_printf, 1, _MANY),
    "println": (lambda *values: " ".join(text_of(value, nested=True) for value in values) + "\n", 0, _MANY),
    "html": (_html, 0, _MANY),
    "js": (_js, 0, _MANY),
    "urlquery": (_urlquery, 0, _MANY),
    "call": (_call, 1, _MANY),
    "eq": (_equal, 1, _MANY),
    "ne": (lambda left, right: not _equal(left, right), 2, 2),
    "lt": (_ordered(lambda left, right: left < right), 2, 2),
    "le": (_ordered(lambda left, right: left <= right), 2, 2),
    "gt": (_ordered(lambda left, right: left > right), 2, 2),
    "ge": (_ordered(lambda left, right: left >= right), 2, 2),
    "json": (json_of, 1, 1),
    "join": (_join, 2, 2),
    "split": (lambda text, separator: _text(text).split(_text(separator)), 2, 2),
    "title": (_title, 1, 1),
    "upper": (lambda text: _text(text).upper(), 1, 1),
    "lower": (lambda text: _text(text).lower(), 1, 1),
    "trim": (lambda text: _text(text).strip(), 1, 1),
    "pad": (lambda text, before, after: " " * before + _text(text) + " " * after if text else "", 3, 3),
    "truncate": (lambda text, length: _text(text)[:length], 2, 2),
}
"""Name -> the function, and the least and the greatest number of its arguments."""
