"""Stages that need nothing of each other are built at the same time, told in order, and ended together."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support import leaks
from tests.support.host import Host, kill

TWO = (
    "FROM busybox AS one\nRUN cat /proc/uptime > /began; sleep 2; echo of one; cat /proc/uptime > /ended\n"
    "FROM busybox AS two\nRUN cat /proc/uptime > /began; echo of two; sleep 2; cat /proc/uptime > /ended\n"
    "FROM scratch\nCOPY --from=one / /one\nCOPY --from=two / /two\n"
)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    folder.mkdir()
    return folder


def build(host: Host, context: Path, text: str, *options: str) -> str:
    (context / "Dockerfile").write_text(text)
    return host.ok("build", "--network=none", "-t", "image", *options, str(context))


def extract(host: Host, *paths: str) -> list[str]:
    """The content of files of the image."""
    made = host.ok("create", "image", "none").strip()
    try:
        return [host.ok("cp", f"{made}:{path}", "-").partition("ustar")[2] for path in paths]
    finally:
        host.ok("rm", made)


def test_independent_stages_run_at_the_same_time(host: Host, context: Path) -> None:
    began = time.monotonic()
    output = build(host, context, TWO)
    took = time.monotonic() - began
    moments = [float(found[-1]) for text in extract(host, *(f"/{stage}/{name}" for stage in ("one", "two")
               for name in ("began", "ended"))) if (found := re.findall(r"(\d+\.\d\d) \d+\.\d\d\n", text))]  # fmt: skip
    assert max(moments[0], moments[2]) < min(moments[1], moments[3])  # each began before the other had ended
    assert took < 3.5 or os.getloadavg()[0] > 2, took
    steps = re.findall(r"^Step (\d)/7 : (\w+)", output, re.MULTILINE)
    assert steps == [
        ("1", "FROM"),
        ("2", "RUN"),
        ("3", "FROM"),
        ("4", "RUN"),
        ("5", "FROM"),
        ("6", "COPY"),
        ("7", "COPY"),
    ]
    first, second = output.index("of one"), output.index("of two")
    assert output.index("Step 2/7") < first < output.index("Step 3/7") < output.index("Step 4/7") < second
    assert second < output.index("Step 5/7")


def test_the_output_of_several_stages_is_the_same_each_time(host: Host, context: Path) -> None:
    text = "".join(f"FROM busybox AS s{n}\nRUN echo {n} > /f{n}; seq 1 {n * 300}; echo of {n}\n" for n in range(5))
    text += "FROM busybox\n" + "".join(f"COPY --from=s{n} /f{n} /\n" for n in (3, 1, 4, 0, 2))
    outputs = [build(host, context, text, "--no-cache") for _ in range(2)]
    hidden = [
        re.sub(r"(?m)^( ---> |Removing.* |.*Running in |Successfully built )[0-9a-f]*$", "", one) for one in outputs
    ]
    assert hidden[0] == hidden[1]
    assert re.findall(r"^of (\d)$", outputs[0], re.MULTILINE) == ["0", "1", "2", "3", "4"]
    assert build(host, context, text).count("Using cache") == 10


def test_what_is_cached_does_not_depend_on_who_made_it(host: Host, context: Path) -> None:
    text = "FROM busybox AS a\nRUN touch /a\nFROM busybox AS b\nRUN touch /b\nFROM a\nCOPY --from=b /b /\n"
    build(host, context, text)
    output = build(host, context, text.replace("touch /b", "touch /b /c"), "--explain")
    assert output.count("Using cache") == 2 and "the instruction changed" in output
    assert build(host, context, text, "--target", "b").count("Using cache") == 1


def test_arguments_of_all_stages_are_consumed(host: Host, context: Path) -> None:
    text = "FROM busybox AS a\nARG ONE\nFROM busybox AS b\nARG TWO\n"
    text += "FROM scratch\nCOPY --from=a /etc /a\nCOPY --from=b /etc /b\n"
    output = build(host, context, text, "--build-arg=ONE=1", "--build-arg=TWO=2", "--build-arg=THREE=3")
    assert "[THREE] were not consumed" in output


def test_mounts_in_stages_at_once(host: Host, context: Path) -> None:
    (context / "file").write_text("of the context\n")
    text = "FROM busybox AS base\nRUN echo base > /base\n"
    for name in ("a", "b", "c"):
        text += (
            f"FROM busybox AS {name}\nRUN --mount=type=bind,target=/ctx --mount=type=bind,from=base,target=/m"
            f" --mount=type=tmpfs,target=/t cat /ctx/file /m/base > /{name}\n"
        )
    text += "FROM scratch\n" + "".join(f"COPY --from={name} /{name} /\n" for name in ("a", "b", "c"))
    build(host, context, text)
    assert all(found.endswith("of the context\nbase\n" + "\0" * (len(found) - found.rindex("base\n") - 5))
               for found in extract(host, "/a", "/b", "/c"))  # fmt: skip


def test_a_failure_ends_the_other_stages_and_leaves_nothing(host: Host, context: Path) -> None:
    text = (
        "FROM busybox AS slow\nRUN echo begun; sleep 1000\n"
        "FROM busybox AS bad\nRUN --mount=type=bind,target=/ctx echo going wrong; sleep 1; exit 7\n"
        "FROM scratch\nCOPY --from=slow /etc /a\nCOPY --from=bad /etc /b\n"
    )
    (context / "Dockerfile").write_text(text)
    began = time.monotonic()
    done = host.run("build", "--network=none", "-t", "image", str(context))
    assert time.monotonic() - began < 20
    assert done.returncode == 7
    output, errors = done.stdout.decode(), done.stderr.decode()
    assert "Dockerfile:4:1" in errors and "returned a non-zero code: 7" in errors
    assert output.index("begun") < output.index("going wrong")
    _nothing_left(host)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build_leaves_nothing(host: Host, context: Path, number: int) -> None:
    process = _sleeping(host, context)
    process.send_signal(number)
    assert process.wait(20) == 128 + number
    _nothing_left(host)


def test_a_killed_build_takes_its_stages_with_it(host: Host, context: Path) -> None:
    kill(_sleeping(host, context))
    assert not leaks.left(leaks.marks_of(host.root), 10)
    build(host, context, "FROM busybox\nRUN true\n")
    _nothing_left(host)


def test_a_killed_worker_is_named(host: Host, context: Path) -> None:
    process = _sleeping(host, context)
    with open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="ascii") as file:
        workers = [int(word) for word in file.read().split()]
    os.kill(workers[0], signal.SIGKILL)
    assert process.wait(20) == 1
    _nothing_left(host)


def _sleeping(host: Host, context: Path) -> subprocess.Popen[bytes]:
    """A build whose two stages sleep."""
    stages = "".join(f"FROM busybox AS {name}\nRUN sleep 1000\n" for name in ("a", "b"))
    (context / "Dockerfile").write_text(f"{stages}FROM scratch\nCOPY --from=a /etc /a\nCOPY --from=b /etc /b\n")
    process = host.spawn("build", "--network=none", "-t", "image", str(context))
    deadline = time.monotonic() + 20
    while len(host.ok("ps", "-q").split()) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    return process


def _nothing_left(host: Host) -> None:
    assert host.containers() == [] and host.leftovers() == []
    assert os.listdir(host.root / "build" / "work") == []
    assert not leaks.left(leaks.marks_of(host.root))
