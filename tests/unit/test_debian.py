"""Fetching of Debian's packages: a program that comes no further is ended, asked again, and named."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from specrun.store import debian

QUESTION = 'case "$*" in *--print-uris*) echo "\'x://y/one_1_all.deb\' one_1_all.deb 4 SHA256:"; exit;; esac\n'


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of packages, and a PATH whose first folder is `bin` beside it."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setattr(debian, "STALL", 0.6)
    monkeypatch.setattr(debian.Stalled, "after", 0.0)
    return tmp_path / "cache"


def _apt(cache: Path, script: str) -> None:
    program = cache.parent / "bin/apt-get"
    program.write_text(f"#!/bin/sh\n{QUESTION}echo $$ >> {cache.parent}/pids\n{script}")
    program.chmod(0o755)


def test_a_download_that_stands_still_is_ended_and_named(cache: Path) -> None:
    _apt(cache, "exec sleep 1000\n")
    began = time.monotonic()
    with pytest.raises(debian.Stalled, match=r"apt-get came no further for 0\.6 seconds"):
        debian.fetch(["one"], str(cache))
    assert time.monotonic() - began < 20
    pids = (cache.parent / "pids").read_text().split()
    assert len(pids) == debian.ATTEMPTS
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)


def test_a_download_that_stood_still_is_tried_again(cache: Path) -> None:
    _apt(cache, f"[ -e {cache}/tried ] || {{ touch {cache}/tried; exec sleep 1000; }}\necho deb > one_1_all.deb\n")
    assert [package.name for package in debian.fetch(["one"], str(cache))] == ["one"]


def test_a_slow_download_that_comes_on_is_waited_for(cache: Path) -> None:
    _apt(cache, "for i in 1 2 3 4 5; do sleep 0.4; echo part >> one_1_all.deb; done\n")
    debian.fetch(["one"], str(cache))
    assert (cache / "one_1_all.deb").read_text() == "part\n" * 5
    assert len((cache.parent / "pids").read_text().split()) == 1
