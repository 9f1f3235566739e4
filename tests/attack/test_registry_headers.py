"""Whatever a registry says in headers and documents: the client makes a value of it, or says what is wrong."""

from __future__ import annotations

import json
import time
from urllib.parse import urlsplit

from hypothesis import given, settings
from hypothesis import strategies as st

from specrun.errors import SpecrunError
from specrun.registry import headers
from specrun.registry.hosts import hostname, is_loopback
from specrun.registry.protocol import Manifest
from specrun.registry.pull import choose

few = settings(max_examples=150, deadline=None)

LINES = st.text(st.characters(max_codepoint=0x2FF), max_size=200)
CHALLENGES = LINES | st.lists(
    st.sampled_from(
        ["Bearer ", "Basic", " ", ",", 'realm="https://a/b"', "scope=x", 'error="a\\"b"', '"', "=", "\t", "é", "=,="]
    ),
    max_size=12,
).map("".join)
LINKS = LINES | st.lists(st.sampled_from(["<", ">", "</v2/a?n=1>", "; rel=next", '; rel="next"', ",", " "])).map(
    "".join
)
RANGES = LINES | st.from_regex(r"(bytes[ =])?[0-9]{0,25}-[0-9]{0,25}(/([0-9]{0,25}|\*))?", fullmatch=True)
TIMES = (
    LINES
    | st.integers().map(str)
    | st.from_regex(r"[A-Z][a-z]{2}, [0-9]{1,2} [A-Z][a-z]{2} [0-9]{1,9} [0-9:]{1,9} GMT")
)
PLACES = LINES | st.from_regex(r"(https?|file|ftp)?:?//[a-z0-9.:\[\]@%-]{0,20}(/[a-z?=&%#]{0,20})?")


def test_the_usual_ones() -> None:
    assert headers.challenges(
        'Bearer realm="https://a/t?x=1,2",service="r \\"1\\"", scope="repository:a:pull,push"'
    ) == [("bearer", {"realm": "https://a/t?x=1,2", "service": 'r "1"', "scope": "repository:a:pull,push"})]
    assert headers.challenges('Basic realm=x, Bearer realm="y"') == [
        ("basic", {"realm": "x"}),
        ("bearer", {"realm": "y"}),
    ]
    assert headers.challenges("Negotiate") == [("negotiate", {})]
    assert headers.next_page('</v2/a/tags/list?last=b&n=1>; rel="next"') == "/v2/a/tags/list?last=b&n=1"
    assert headers.next_page("<a>; rel=prev, <b>; title=x; rel=next") == "b"
    assert headers.next_page("<a>; rel=prev") == ""
    assert headers.retry_after("120", 0) == 120
    assert headers.retry_after("Thu, 01 Jan 1970 00:01:00 GMT", 20) == 40
    assert headers.retry_after("soon", 0) is None and headers.retry_after("-1", 0) is None
    assert headers.content_range("bytes 5-9/10") == (5, 9, 10) and headers.content_range("bytes 5-9/*") == (5, 9, -1)
    assert headers.content_range("bytes 9-5/10") is None
    assert headers.uploaded("0-1023") == 1024 and headers.uploaded("0-0") == 0 and headers.uploaded("x") == -1
    assert headers.address("https://a:1/v2/x", "/v2/y?z") == "https://a:1/v2/y?z"
    assert headers.address("https://a/", "file:///etc/passwd") == headers.address("https://a/", "//u:p@b/") == ""
    assert hostname("[::1]:5000") == "::1" and is_loopback("[::1]:5000") and not is_loopback("localhost.example.com")


@given(CHALLENGES)
@few
def test_challenges(text: str) -> None:
    for scheme, parameters in headers.challenges(text):
        assert scheme and scheme == scheme.lower()
        assert all(isinstance(value, str) and key == key.lower() for key, value in parameters.items())


@given(LINKS)
@few
def test_links(text: str) -> None:
    assert isinstance(headers.next_page(text), str)


@given(RANGES)
@few
def test_ranges(text: str) -> None:
    found = headers.content_range(text)
    assert found is None or 0 <= found[0] <= found[1]
    assert headers.uploaded(text) >= -1 and headers.length(text) >= -1


@given(TIMES)
@few
def test_retry_after(text: str) -> None:
    found = headers.retry_after(text, time.time())
    assert found is None or found >= 0


@given(PLACES)
@few
def test_locations(text: str) -> None:
    found = headers.address("https://registry.example.com:5000/v2/a/blobs/uploads/", text)
    if found:
        parts = urlsplit(found)
        assert parts.scheme in ("http", "https") and parts.hostname and parts.username is None
        assert all(32 < ord(letter) != 127 for letter in found)
        assert isinstance(is_loopback(parts.netloc), bool)


def test_nothing_takes_long() -> None:
    """No header makes a regular expression go back and forth."""
    began = time.monotonic()
    for evil in ("Bearer " + 'a="' * 20000, "<" * 40000, "Bearer " + "a=" * 20000, ", " * 20000, "<a>;rel" * 9000):
        headers.challenges(evil)
        headers.next_page(evil)
        headers.retry_after(evil, 0)
        headers.address("https://a/", evil)
    assert time.monotonic() - began < 5


DIGESTS = st.just("sha256:" + 64 * "a") | st.text(max_size=12)
DESCRIPTORS = st.fixed_dictionaries(
    {
        "mediaType": st.sampled_from(["application/vnd.oci.image.manifest.v1+json", "x/y", "", 3]),
        "digest": DIGESTS,
        "size": st.integers() | st.floats() | st.booleans(),
    },
    optional={"platform": st.none() | st.text() | st.fixed_dictionaries({"os": st.text(), "architecture": st.text()})},
)
DOCUMENTS = st.fixed_dictionaries(
    {"schemaVersion": st.sampled_from([1, 2, "2", True, None])},
    optional={
        "mediaType": st.sampled_from(
            ["application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json", "", 4]
        ),
        "config": DESCRIPTORS | st.text(),
        "layers": st.lists(DESCRIPTORS, max_size=3) | st.text(),
        "manifests": st.lists(DESCRIPTORS, max_size=3) | st.integers(),
        "subject": DESCRIPTORS,
        "annotations": st.dictionaries(st.text(), st.text() | st.integers(), max_size=2),
        "fsLayers": st.lists(st.text()),
    },
)


@given(DOCUMENTS.map(lambda document: json.dumps(document).encode()) | st.binary(max_size=200), LINES)
@few
def test_manifests(raw: bytes, kind: str) -> None:
    try:
        found = Manifest(raw, kind)
        if found.is_index:
            choose(found, "linux/amd64")
    except SpecrunError as error:
        assert error.message
