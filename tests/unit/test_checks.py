"""Expectations: what holds, what does not, and what could never fail."""

from __future__ import annotations

from typing import Any

import pytest

from specrun.checks.check import Check
from specrun.checks.cst import BadTest, checks_of
from specrun.checks.matchers import BadExpectation, Matcher
from specrun.checks.subjects import Port


@pytest.mark.parametrize(
    ("wanted", "found", "holds"),
    [
        (0, 0, True),
        (0, 1, False),
        (0, False, False),
        ("a", "a\n", False),
        ({"contains": "b"}, "abc", True),
        ({"contains": "d"}, "abc", False),
        ({"contains": ["a", "d"]}, "abc", False),
        ({"contains": "x"}, ["x", "y"], True),
        ({"matches": "^b$"}, "a\nb\n", True),
        ({"matches": "^c$"}, "a\nb\n", False),
        ({"not": 0}, 3, True),
        ({"not": 0}, 0, False),
        ({"not": {"contains": "a"}}, "abc", False),
        ({"atLeast": 2, "atMost": 3}, 3, True),
        ({"atLeast": 2, "atMost": 3}, 4, False),
        ({"atLeast": 2}, "4", False),
        ([{"contains": "a"}, {"contains": "z"}], "abc", False),
        ({"equals": {"A": "1"}}, {"A": "1"}, True),
        (["sh"], ["sh"], True),
        ([], [], True),
        (["sh"], ["sh", "-c"], False),
    ],
)
def test_conditions(wanted: Any, found: Any, holds: bool) -> None:
    assert (Matcher.parse(wanted).problem(found) == "") is holds


@pytest.mark.parametrize(
    ("wanted", "path"),
    [
        ({}, ()),
        ({"contains": ""}, ("contains",)),
        ({"matches": ".*"}, ("matches",)),
        ({"matches": "("}, ("matches",)),
        ({"matches": 3}, ("matches",)),
        ({"contain": "x"}, ("contain",)),
        ({"atLeast": "2"}, ("atLeast",)),
        ([{"equals": 1}, {"not": {}}], (1, "not")),
    ],
)
def test_what_says_nothing_is_refused_with_its_place(wanted: Any, path: tuple[str | int, ...]) -> None:
    with pytest.raises(BadExpectation) as caught:
        Matcher.parse(wanted)
    assert caught.value.path == path


@pytest.mark.parametrize("expected", [{}, {"closed": True}])
def test_a_check_expects_facts_that_there_are(expected: dict[str, Any]) -> None:
    with pytest.raises(BadExpectation):
        Check("x", Port("127.0.0.1", 1), expected)


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ([], ()),
        ({"schemaVersion": "1.0.0"}, ("schemaVersion",)),
        ({"schemaVersion": "2.0.0"}, ()),
        ({"schemaVersion": "2.0.0", "licenseTests": []}, ("licenseTests",)),
        ({"schemaVersion": "2.0.0", "fileTests": []}, ("fileTests",)),
        ({"schemaVersion": "2.0.0", "fileExistenceTests": [{"name": "x"}]}, ("fileExistenceTests", 0, "path")),
        ({"schemaVersion": "2.0.0", "fileExistenceTests": [{"path": "/x"}]}, ("fileExistenceTests", 0)),
        (
            {"schemaVersion": "2.0.0", "fileContentTests": [{"name": "x", "path": "/x", "expectedContents": ["("]}]},
            ("fileContentTests", 0, "expectedContents", 0),
        ),
        ({"schemaVersion": "2.0.0", "metadataTest": {"env": []}}, ("metadataTest", "env")),
        (
            {"schemaVersion": "2.0.0", "commandTests": [{"name": "x", "command": "ls", "args": "-l"}]},
            ("commandTests", 0, "args"),
        ),
        (
            {"schemaVersion": "2.0.0", "commandTests": [{"name": "x", "command": "ls", "args": ["a", 3]}]},
            ("commandTests", 0, "args", 1),
        ),
        (
            {"schemaVersion": "2.0.0", "commandTests": [{"name": "x", "command": "ls", "exitCode": "0"}]},
            ("commandTests", 0, "exitCode"),
        ),
        (
            {"schemaVersion": "2.0.0", "fileExistenceTests": [{"name": "x", "path": "/x", "isExecutableBy": []}]},
            ("fileExistenceTests", 0, "isExecutableBy"),
        ),
        ({"schemaVersion": "2.0.0", "metadataTest": {"exposedPorts": "80"}}, ("metadataTest", "exposedPorts")),
        (
            {"schemaVersion": "2.0.0", "metadataTest": {"labels": [{"key": "a", "value": "(", "isRegex": True}]}},
            ("metadataTest", "labels", 0, "value"),
        ),
    ],
)
def test_a_wrong_file_of_tests_is_refused_with_its_place(document: Any, path: tuple[str | int, ...]) -> None:
    with pytest.raises(BadTest) as caught:
        checks_of(document, "busybox")
    assert caught.value.path == path
