"""Our light way to the C code of `json` says what `json` says."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specrun_runtime import jsontext

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_texts_are_those_of_json(value: object) -> None:
    assert jsontext.dumps(value) == json.dumps(value)
    assert jsontext.dumps(value, compact=True) == json.dumps(value, separators=(",", ":"))
    assert jsontext.loads(jsontext.dumps(value)) == value
    assert jsontext.loads(json.dumps(value, indent=2, ensure_ascii=False).encode("utf-8", "surrogatepass")) == value


@given(VALUES)
def test_texts_of_many_lines_are_those_of_json(value: object) -> None:
    assert jsontext.pretty(value) == json.dumps(value, indent=4, ensure_ascii=False)


def test_keys_are_sorted_on_demand() -> None:
    assert jsontext.dumps({"b": 1, "a": 2}, sort_keys=True) == '{"a": 2, "b": 1}'


@pytest.mark.parametrize("text", ["", " ", "{", "[1,]", "nul", "1 2", '{"a": NaN}', "-Infinity", b"\xff", "'a'"])
def test_what_is_not_json_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        jsontext.loads(text)


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, object()])
def test_what_json_has_no_form_of_is_refused(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        jsontext.dumps(value)
    with pytest.raises((TypeError, ValueError)):
        jsontext.pretty([value])
