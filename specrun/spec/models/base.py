"""What the models of all kinds are made of: strict, closed, frozen, and scalar types that explain themselves.

Each type is one function from text to its one canonical form, and the JSON Schema of what it takes: two ways of
writing the same thing give equal specs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from specrun.errors import SpecrunError
from specrun.oci.reference import Reference
from specrun.paths import NAME, is_name
from specrun.spec import units


class Model(BaseModel):
    """A mapping of a spec. A field that is not here is an error, never ignored."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


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


def one_of(*fields: str, none: bool = False) -> Any:
    """A validator for models: exactly one of `fields` is given, or at most one."""

    def check(model: Any) -> Any:
        named = [field for field in fields if field in model.model_fields_set and getattr(model, field) is not None]
        if len(named) > 1 or (not named and not none):
            found = "names nothing" if not named else f"names {' and '.join(named)}"
            expected = f"{'at most' if none else 'exactly'} one of {', '.join(fields)}"
            raise PydanticCustomError("not-one", "{found}", {"found": found, "expected": expected})
        return model

    return model_validator(mode="after")(check)


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
ImageReference = Annotated[
    str, checked("bad-reference", "is not an image reference", "[host[:port]/]name[:tag][@digest]", _is_reference)
]
AbsolutePath = Annotated[
    str,
    checked("bad-path", "is not an absolute path", "a path that begins with /", lambda text: text.startswith("/")),
    _schema("string", pattern="^/"),
]
Environment = Annotated[dict[str, str], AfterValidator(_environment)]
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
    float, converted(units.number, "bad-number", "is not a number of CPUs", "a number above 0, as 0.5"), Field(gt=0)
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
