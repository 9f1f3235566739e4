"""The log of events: no event is lost or seen twice, whatever several writers do at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from specrun_runtime import eventlog

WRITER = """
import sys
from specrun_runtime import eventlog
eventlog.SEGMENT_SIZE, eventlog.KEPT = 8192, 1000
for number in range(300):
    eventlog.append(sys.argv[1], "container", "start", f"{sys.argv[2]}-{number}", {})
"""


def identities(folder: Path, cursor: tuple[int, int] = (0, 0)) -> list[str]:
    return [event["Actor"]["ID"] for _, event in eventlog.read(str(folder), cursor)]


def test_a_reader_sees_all_of_several_writers_once_across_segments(tmp_path: Path) -> None:
    folder = tmp_path / "events"
    path = os.pathsep.join(entry for entry in sys.path if entry)
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder), str(number)], env={**os.environ, "PYTHONPATH": path}
        )
        for number in range(3)
    ]
    seen: list[str] = []
    cursor = (0, 0)
    while any(writer.poll() is None for writer in writers):
        for behind, event in eventlog.read(str(folder), cursor):
            cursor = behind
            seen.append(event["Actor"]["ID"])
    seen += identities(folder, cursor)
    assert all(writer.returncode == 0 for writer in writers)
    assert len(os.listdir(folder)) > 5
    assert sorted(seen) == sorted(f"{writer}-{number}" for writer in range(3) for number in range(300))
    for writer in range(3):
        assert [name for name in seen if name.startswith(f"{writer}-")] == [f"{writer}-{n}" for n in range(300)]


def test_a_torn_record_is_passed_over_and_what_follows_is_whole(tmp_path: Path) -> None:
    eventlog.append(str(tmp_path), "container", "create", "a", {})
    with open(tmp_path / "00000001", "ab") as file:
        file.write(b'{"Type":"container","Act')
    eventlog.append(str(tmp_path), "container", "create", "b", {})
    assert identities(tmp_path) == ["a", "b"]


def test_old_segments_are_dropped_and_an_old_cursor_reads_on(tmp_path: Path) -> None:
    before, eventlog.SEGMENT_SIZE = eventlog.SEGMENT_SIZE, 1
    try:
        for number in range(10):
            eventlog.append(str(tmp_path), "volume", "create", str(number), {})
    finally:
        eventlog.SEGMENT_SIZE = before
    assert len(os.listdir(tmp_path)) <= eventlog.KEPT
    assert identities(tmp_path, (1, 0))[-1] == "9"
    assert identities(tmp_path, eventlog.end(str(tmp_path))) == []
