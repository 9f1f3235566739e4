"""JSON without what makes the `json` package slow to import: it loads `re` and `enum` for places in error messages.

The work is done by the same C code. Wherever it lacks (another implementation of Python), `json` does it all.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_c: Any
try:
    import _json

    _c = _json
except ImportError:
    _c = None


class _Rules:
    """What the scanner is to do with what it finds: numbers, objects, and no NaN."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int

    @staticmethod
    def parse_constant(name: str) -> None:
        """Refuse NaN and Infinity, which are not JSON."""
        raise ValueError(f"{name} is not JSON")


def loads(text: str | bytes) -> Any:
    """The value in a JSON text (RFC 8259), in UTF-8 if it is bytes. Raises ValueError."""
    if isinstance(text, (bytes, bytearray)):
        text = text.decode("utf-8", "surrogatepass")
    if _c is None:
        import json

        return json.loads(text, parse_constant=_Rules.parse_constant)
    text = text.strip(" \t\n\r")
    try:
        value, end = _c.make_scanner(_Rules)(text, 0)
    except StopIteration as stop:
        raise ValueError(f"not JSON: expected a value at character {stop.value}") from None
    except SystemError:
        # The scanner raises the exception of json.decoder, and none at all while nobody has imported that.
        import json

        value, end = json.loads(text), len(text)
    if end != len(text):
        raise ValueError(f"not JSON: more text after the value, at character {end}")
    return value


def dumps(value: Any, *, sort_keys: bool = False, compact: bool = False) -> str:
    """`value` as JSON on one line, with no space in it but in texts if `compact`.

    Raises TypeError for what JSON has no form of, and ValueError for NaN.
    """
    colon, comma = (":", ",") if compact else (": ", ", ")
    if _c is None:
        import json

        return json.dumps(value, sort_keys=sort_keys, allow_nan=False, separators=(comma, colon))
    encoder = _c.make_encoder({}, _refuse, _c.encode_basestring_ascii, None, colon, comma, sort_keys, False, False)
    return "".join(encoder(value, 0))


def pretty(value: Any, indent: str = "") -> str:
    """`value` as JSON on as many lines as it has parts, indented by four spaces, its characters as they are.

    The keys of objects must be texts. Raises TypeError and ValueError as `dumps`.
    """
    inner = indent + "    "
    if isinstance(value, str) and _c is not None:
        return str(_c.encode_basestring(value))
    if isinstance(value, dict) and value:
        parts = [f"{inner}{pretty(key)}: {pretty(part, inner)}" for key, part in value.items()]
        return "{\n" + ",\n".join(parts) + f"\n{indent}}}"
    if isinstance(value, (list, tuple)) and value:
        return "[\n" + ",\n".join(inner + pretty(part, inner) for part in value) + f"\n{indent}]"
    if _c is None:
        import json

        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    return dumps(value)


def _refuse(value: object) -> None:
    raise TypeError(f"JSON has no form of {type(value).__name__}")
