"""OCI's documents: the specification's own valid and invalid ones, and what is refused by place."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from specrun.errors import Damaged
from specrun.oci import documents
from tests.support import corpora

_READERS = {
    "image-config": documents.image_config,
    "manifest": documents.manifest,
    "index": documents.index,
    "descriptor": documents.descriptor,
    "layout": documents.layout,
}


def test_a_document_of_the_specification_is_judged_as_there() -> None:
    cases = corpora.cases("image_spec_schema")
    assert len(cases) == 65
    assert [case["id"] for case in cases if _is_valid(case) is not (case["expected"] == "valid")] == []


def _is_valid(case: dict[str, Any]) -> bool:
    try:
        read = _READERS[case["kind"]](case["input"].encode(), "it")
    except Damaged:
        return False
    assert read == json.loads(case["input"])
    return True


def test_an_error_names_the_place() -> None:
    raw = b'{"schemaVersion": 2, "config": {"mediaType": "a/b", "digest": "sha256:0", "size": 1}, "layers": []}'
    with pytest.raises(Damaged, match=r"m1: config\.digest must be a digest, found 'sha256:0'"):
        documents.manifest(raw, "m1")


def test_a_manifest_that_is_an_index_too_is_refused() -> None:
    raw = json.dumps({"schemaVersion": 2, "manifests": [], "layers": []}).encode()
    for reader in (documents.manifest, documents.index):
        with pytest.raises(Damaged):
            reader(raw, "it")


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(Damaged):
        documents.image_config(b"[" * 200_000, "it")


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_FIELDS = (
    "schemaVersion mediaType config layers manifests digest size urls data annotations platform architecture os "
    "rootfs diff_ids type history created Env Cmd Volumes Labels Config RepoTags Layers"
).split()


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(_FIELDS), _VALUES, max_size=6), st.sampled_from(sorted(_READERS)))
def test_whatever_comes_is_read_or_refused(document: dict[str, Any], kind: str) -> None:
    try:
        _READERS[kind](json.dumps(document).encode(), "it")
    except Damaged:
        pass


@given(st.binary(max_size=200))
def test_bytes_that_are_no_document_are_refused(raw: bytes) -> None:
    for reader in _READERS.values():
        try:
            reader(raw, "it")
        except Damaged:
            pass
    try:
        documents.docker_listing(raw)
    except Damaged:
        pass
