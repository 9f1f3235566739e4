"""Platforms by their usual names, as containerd reads them."""

from __future__ import annotations

import os

import pytest

from specrun.errors import UsageError
from specrun.oci import platform


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("linux/amd64", "linux/amd64"),
        ("amd64", "linux/amd64"),
        ("x86_64", "linux/amd64"),
        ("Linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("armhf", "linux/arm/v7"),
        ("linux/arm/v6", "linux/arm/v6"),
        ("windows/amd64", "windows/amd64"),
    ],
)
def test_a_name_stands_for_one_platform(text: str, wanted: str) -> None:
    assert platform.parse(text) == wanted


def test_a_system_alone_is_for_this_machine() -> None:
    assert platform.parse("linux") == platform.host() == platform.parse(f"linux/{os.uname().machine}")


@pytest.mark.parametrize("text", ["", "/", "linux/", "amd46", "linux/arm/v7/x"])
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no such platform"):
        platform.parse(text)
