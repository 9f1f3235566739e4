"""What the models of all kinds are made of: strict, closed, frozen, and scalar types that explain themselves.

Each type is one function from text to its one canonical form, and the JSON Schema of what it takes: two ways of
writing the same thing give equal specs.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from specrun.errors import SpecrunError
from specrun.oci.reference import Reference
from specrun.paths import NAME, is_name
from specrun.spec import units


class Model(BaseModel):
    """A mapping of a spec. A field that is not here is an error, never ignored."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)

    ONE_OF: ClassVar[tuple[str, ...]] = ()
    """Exactly one of these fields is given."""
    AT_MOST_ONE_OF: ClassVar[tuple[str, ...]] = ()
    """Not two of these fields are given."""
    LIST_FIELD: ClassVar[str] = ""
    """The field that a list in the place of the mapping is taken for."""

    @classmethod
    def read(cls, value: Any) -> Self:
        """From plain data. Raises pydantic's ValidationError."""
        return cls.model_validate({cls.LIST_FIELD: value} if cls.LIST_FIELD and isinstance(value, list) else value)

    @model_validator(mode="after")
    def _count(self) -> Self:
        for fields, least in ((self.ONE_OF, 1), (self.AT_MOST_ONE_OF, 0)):
            named = [name for name in fields if name in self.model_fields_set and getattr(self, name) is not None]
            if fields and not least <= len(named) <= 1:
                found = "names nothing" if not named else f"names {' and '.join(named)}"
                expected = f"{'exactly' if least else 'at most'} one of {', '.join(fields)}"
                raise PydanticCustomError("not-one", "{found}", {"found": found, "expected": expected})
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The same rules for JSON Schema."""
        document = handler.resolve_ref_schema(handler(core))
        given = [{"required": [name], "properties": {name: {"not": {"type": "null"}}}} for name in cls.ONE_OF]
        if given:
            document["oneOf"] = given
        pairs = list(combinations(cls.AT_MOST_ONE_OF, 2))
        if pairs:
            document["not"] = {"anyOf": [_both(*pair) for pair in pairs]}
        if rules := cls.schema_rules():
            document["allOf"] = rules
        if cls.LIST_FIELD:
            return {"anyOf": [document["properties"][cls.LIST_FIELD], document], "description": cls.__doc__}
        return document

    @classmethod
    def schema_rules(cls) -> list[dict[str, Any]]:
        """What JSON Schema has to say beyond the fields, of the rules that validators of the model check."""
        return []


def _both(first: str, second: str) -> dict[str, Any]:
    set_ = {"not": {"type": "null"}}
    return {"required": [first, second], "properties": {first: set_, second: set_}}


def checked(code: str, message: str, expected: str, test: Callable[[str], bool]) -> AfterValidator:
    """A validator that lets text through or says why not."""

    def check(text: str) -> str:
        if not test(text):
            raise PydanticCustomError(code, "{found} " + message, {"found": repr(text), "expected": expected})
        return text

    return AfterValidator(check)


def converted(convert: Callable[[Any], Any], code: str, message: str, expected: str) -> BeforeValidator:
    """A validator that turns what was written into its canonical form, or says why it can't."""

    def change(value: Any) -> Any:
        try:
            return convert(value)
        except ValueError as error:
            raise PydanticCustomError(
                code, "{found} " + message, {"found": repr(value), "expected": expected}
            ) from error

    return BeforeValidator(change)


def _is_reference(text: str) -> bool:
    try:
        Reference.parse(text)
    except SpecrunError:
        return False
    return True


def _environment(values: dict[str, Any]) -> dict[str, Any]:
    for key in values:
        if not key or "=" in key or "\0" in key:
            raise PydanticCustomError(
                "bad-variable", "{found} is not the name of a variable", {"found": repr(key), "expected": "no = in it"}
            )
    return values


def _schema(kind: str | list[str], **more: Any) -> WithJsonSchema:
    return WithJsonSchema({"type": kind, **more})


Name = Annotated[
    str,
    checked("bad-name", "is not a name", f"{NAME}, at most 128 characters", is_name),
    _schema("string", pattern=f"^{NAME}$", maxLength=128),
]
_PART = "[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?"
_PATH = "[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*"
REFERENCE = (
    f"^({_PART}(\\.{_PART})*(:[0-9]+)?/)?{_PATH}(/{_PATH})*(:[a-zA-Z0-9_][a-zA-Z0-9_.-]{{0,127}})?"
    "(@sha256:[0-9a-f]{64})?$"
)

ImageReference = Annotated[
    str,
    checked("bad-reference", "is not an image reference", "[host[:port]/]name[:tag][@digest]", _is_reference),
    _schema("string", pattern=REFERENCE),
]
AbsolutePath = Annotated[
    str,
    checked("bad-path", "is not an absolute path", "a path that begins with /", lambda text: text.startswith("/")),
    _schema("string", pattern="^/"),
]
Environment = Annotated[
    dict[str, str],
    AfterValidator(_environment),
    WithJsonSchema(
        {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "propertyNames": {"pattern": "^[^=\\u0000]+$"},
        }
    ),
]
Texts = Annotated[list[str], Field(min_length=1)]
Command = Texts
Labels = dict[str, str]
Bytes = Annotated[
    int,
    converted(units.size, "bad-size", "is not an amount of memory", "bytes, or a number with k, m, g or t, as 64m"),
    _schema(["integer", "string"], minimum=0, pattern=units.SIZE),
]
Seconds = Annotated[
    float,
    converted(units.duration, "bad-duration", "is not a duration", "a number with ms, s, m or h, as 1m30s"),
    _schema("string", pattern=units.DURATION),
]
Mode = Annotated[
    str,
    converted(units.mode, "bad-mode", "is not a file mode", 'octal digits in quotes, as "0440"'),
    _schema("string", pattern=units.MODE),
]
PortNumber = Annotated[int, Field(ge=1, le=65535)]
Cpus = Annotated[
    float,
    converted(units.number, "bad-number", "is not a number of CPUs", "a number above 0, as 0.5"),
    WithJsonSchema(
        {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "pattern": units.ABOVE_ZERO}]}
    ),
]
Address = Annotated[
    str,
    converted(units.address, "bad-address", "is not an IP address", "an IPv4 or IPv6 address"),
    WithJsonSchema({"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}),
]
Subnet = Annotated[
    str,
    converted(units.subnet, "bad-subnet", "is not a subnet", "an address and the length of its prefix, as 10.1.0.0/24"),
    _schema("string", pattern="/[0-9]{1,3}$"),
]
Mac = Annotated[
    str,
    converted(units.mac, "bad-mac", "is not a MAC address", "six pairs of hexadecimal digits, as 02:42:ac:11:00:02"),
    _schema("string", pattern=units.MAC),
]
