"""References, case by case as distribution/reference answers, and whatever else anybody may type."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specrun.oci import reference
from specrun.oci.reference import InvalidReference, Reference
from tests.support.corpora import cases

PARTS = ("domain", "path", "tag", "digest")


def test_the_usual_ones() -> None:
    assert Reference.parse("busybox").canonical == "docker.io/library/busybox:latest"
    assert Reference.parse("127.0.0.1:5000/hello:v7").familiar == "127.0.0.1:5000/hello:v7"
    assert Reference.parse("library/python:3").familiar == "python:3"


def fields(found: Reference) -> dict[str, str]:
    """As the corpus has them: what is empty is not there."""
    described = {
        **{part: getattr(found, part) for part in PARTS},
        "name": found.name, "familiar_name": found.familiar_name,
        "string": found.canonical, "familiar": found.familiar,
    }  # fmt: skip
    return {key: value for key, value in described.items() if value}


def normalized(text: str) -> dict[str, str]:
    """distribution/reference adds the default tag in a call of its own: here it is taken away again."""
    found = Reference.parse(text)
    if found.tag == "latest" and not text.endswith(":latest") and ":latest@" not in text:
        found = Reference(found.domain, found.path, "", found.digest, text)
    return fields(found)


def plain(text: str) -> dict[str, str]:
    found = fields(Reference(*reference.parts(text), text))
    return {key: value.removeprefix("/") for key, value in found.items()}  # without a domain


def test_every_field_of_the_corpus() -> None:
    found = cases("image_reference")
    assert len(found) >= 292
    readings = {
        "normalized": normalized,
        "any": lambda text: {key: normalized(text)[key] for key in ("familiar", "string")},
        "dockerref": lambda text: fields(Reference.parse(text).pinned),
        "tagnameonly": lambda text: Reference.parse(text).canonical,
        "parse": plain,
    }
    wrong = []
    for case in found:
        for reading, read in readings.items():
            wanted = case["expected"].get(reading, {"error": ""})
            if reading == "any" and len(case["input"].removeprefix("sha256:")) == 64:  # an id, for the store
                continue
            if isinstance(wanted, dict):
                wanted = {key: value for key, value in wanted.items() if value or key == "error"}
            try:
                answer = read(case["input"])
            except InvalidReference:
                answer = "error"
            if answer != ("error" if "error" in wanted else wanted):
                wrong.append((case["input"], reading, wanted, answer))
    assert wrong == []


@given(st.text() | st.from_regex(r"[a-zA-Z0-9._:/@\[\]-]{0,40}", fullmatch=True))
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    try:
        found = Reference.parse(text)
    except InvalidReference as error:
        assert "\n" not in error.message.replace(repr(text), "")
        return
    again = Reference.parse(found.canonical)
    assert fields(again) == fields(found) == fields(Reference.parse(found.familiar))


def test_what_is_refused_says_why() -> None:
    for text, why in {
        "": "not a repository name",
        "Foo": "must be lowercase",
        "a:b:c": "'b:c' is not a tag",
        f"a@sha256:{'A' * 64}": "invalid checksum digest length",
        f"a@md5:{'a' * 32}": "unsupported digest algorithm",
        "a" * 256: "255 characters",
        "ab" * 32: "64-byte hexadecimal",
    }.items():
        with pytest.raises(InvalidReference, match=why):
            Reference.parse(text)
