"""Options, listings and templates, as Docker has them."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specrun.cli import output
from specrun.cli.commands.run import COMMAND as RUN
from specrun.cli.main import LONG_NAMES, main
from specrun.cli.options import HelpWanted
from specrun.errors import UsageError


def test_options_end_at_the_image() -> None:
    parsed = RUN.parse(["--rm", "-d=false", "-e", "A=1", "-eB=2", "--name=x", "busybox", "ls", "-l", "--rm=false"])
    assert (parsed.rm, parsed.detach, parsed.env, parsed.name) == (True, False, ["A=1", "B=2"], "x")
    assert parsed.arguments == ["busybox", "ls", "-l", "--rm=false"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nosuch"], "unknown flag: --nosuch"),
        (["-X"], "unknown shorthand flag: 'X' in -X"),
        (["--name"], "flag needs an argument: --name"),
        (["-dX"], "unknown shorthand flag: 'X' in -dX"),
        (["--link=x"], "--link is not supported yet"),
        (["--stop-timeout", "1_0"], 'invalid argument "1_0"'),
        (["--rm=maybe"], 'invalid argument "maybe"'),
    ],
)
def test_a_wrong_option_is_named(arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError, match="^" + message.replace("(", r"\(")):
        RUN.parse(arguments)


def test_help_has_examples() -> None:
    with pytest.raises(HelpWanted, match="Examples:"):
        RUN.parse(["--help"])


@pytest.mark.parametrize("group", LONG_NAMES)
def test_a_group_says_what_each_of_its_verbs_does(group: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([group]) == 0
    lines = capfd.readouterr().out.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    said = [line.split(maxsplit=1) for line in lines]
    assert [words[0] for words in said] == sorted(LONG_NAMES[group])
    assert all(len(words) == 2 and len(words[1]) > 8 for words in said), lines


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ("registry bogus", 1, "see 'specrun registry --help'"),
        ("registry gc", 1, "there is no registry in {folder}/registry"),
        ("registry fsck --storage {folder}/typo", 1, "there is no registry in {folder}/typo"),
        ("registry gc --grace -1", 125, "--grace -1: expected seconds, 0 or more"),
        ("registry gc --upload-age -1", 125, "--upload-age -1: expected seconds"),
        ("registry serve --proxy=", 125, "expected the address of a registry"),
        ("registry serve --proxy docker.io --proxy-ttl -1", 125, "--proxy-ttl -1: expected seconds"),
        ("registry serve --storage /proc/x", 1, "no registry can be kept in /proc/x: No such file or directory"),
        ("registry serve --tls-cert /no --tls-key /no", 1, "the key /no: No such file or directory"),
        ("registry serve --htpasswd /no", 1, "the password file /no: No such file or directory"),
        ("build --iidfile {folder}/no/id .", 125, "--iidfile {folder}/no/id: there is no folder {folder}/no that can"),
        ("build --metadata-file /tmp .", 125, "--metadata-file /tmp: it is a folder"),
        ("build --build-context x .", 125, "invalid build context: 'x'"),
        ("pull --platform arm46 a", 125, "--platform arm46: no such platform"),
        ("login -u a -p b http://127.0.0.1:1/v2/", 1, "127.0.0.1:1 cannot be reached: Connection refused"),
    ],
)
def test_what_is_wrong_is_said(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: str, status: int,
    message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    before = list(tmp_path.rglob("*"))
    assert main(["--root", str(tmp_path), *words.format(folder=tmp_path).split()]) == status
    said = capfd.readouterr().err
    assert message.format(folder=tmp_path) in said and "Errno" not in said
    assert not (tmp_path / "typo").exists() and before == []


def test_columns_are_docker_s() -> None:
    rows = [["CONTAINER ID", "IMAGE", "NAMES"], ["eea49c9314db", "busybox", "a"]]
    assert output.columns(rows) == "CONTAINER ID   IMAGE     NAMES\neea49c9314db   busybox   a\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.5, "Less than a second"), (1, "1 second"), (59, "59 seconds"), (60, "About a minute"), (120, "2 minutes"),
        (3600, "About an hour"), (7200, "2 hours"), (48 * 3600, "2 days"), (14 * 86400, "2 weeks"),
        (60 * 86400, "2 months"), (730 * 86400, "2 years"),
    ],
)  # fmt: skip
def test_durations_are_docker_s(seconds: float, text: str) -> None:
    assert output.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0B"),
        (34, "34B"),
        (999, "999B"),
        (1110000, "1.11MB"),
        (2976014, "2.98MB"),
        (106000000, "106MB"),
        (10**9, "1GB"),
    ],
)
def test_sizes_are_docker_s(count: int, text: str) -> None:
    assert output.size(count) == text


@given(st.datetimes(min_value=datetime.datetime(1, 1, 1), timezones=st.just(datetime.UTC)))
def test_a_time_of_a_configuration_is_what_the_calendar_says(moment: datetime.datetime) -> None:
    text = f"{moment.year:04}-{moment:%m-%dT%H:%M:%S}"
    assert output.parse_time(f"{text}.123456789Z") == moment.replace(microsecond=0).timestamp()


@pytest.mark.parametrize(
    "text", ["", "10m", "2026", "2026-13-01T00:00:00Z", "2026-01-01T24:00:00Z", "today's morning!!!"]
)
def test_what_is_no_time_is_none(text: str) -> None:
    assert output.parse_time(text) == 0.0


@pytest.mark.parametrize("left", [16 << 20, 90 << 20, (90 << 20) + 1, (128 << 20) + 17_000, 5 << 30])
def test_a_large_blob_goes_in_few_chunks_of_one_size(left: int) -> None:
    from specrun.registry.upload import CHUNK, even

    sizes = []
    while left:
        sizes.append(min(left, even(left)))
        left -= sizes[-1]
    assert max(sizes) <= CHUNK < 100_000_000 and max(sizes) - min(sizes) < len(sizes)
    assert len(sizes) == -(-sum(sizes) // CHUNK)
