"""`cp`, `commit` and `export` of containers that fight back: nothing of the host's is read, written or run."""

from __future__ import annotations

import io
import os
import tarfile  # noqa: TID251 - a stranger's archive, written here and never extracted by it
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.host import Host
from tests.support.images import spoiled

NONE = ("--network", "none")


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "canary"
    folder.mkdir()
    (folder / "secret").write_text("untouched")
    yield folder
    assert os.listdir(folder) == ["secret"]
    assert (folder / "secret").read_text() == "untouched"


@pytest.mark.parametrize("running", [True, False])
def test_links_in_the_container_lead_nowhere_else(host: Host, canary: Path, tmp_path: Path, running: bool) -> None:
    spoiled(host, "links", {"abs": str(canary), "up": "../../../../.." + str(canary), "file": f"{canary}/secret"})
    host.ok(
        "run" if running else "create", *(("-d",) if running else ()), "--name", "one", *NONE, "links", "sleep", "60"
    )
    (tmp_path / "given").write_text("given")
    for path in ("/abs/secret", "/up/secret", "/abs/", "/file/"):
        assert host.run("cp", f"one:{path}", str(tmp_path / "out")).returncode == 1
        assert not (tmp_path / "out").exists()
    assert host.run("cp", "-L", "one:/file", str(tmp_path / "out")).returncode == 1
    for path in ("/abs/new", "/up/secret", "/abs/secret"):
        assert host.run("cp", str(tmp_path / "given"), f"one:{path}").returncode == 1
    host.run("cp", str(tmp_path / "given"), "one:/file")
    host.ok("rm", "-f", "one")


def test_a_container_that_swaps_folders_for_links_is_copied_from_and_to(
    host: Host, canary: Path, tmp_path: Path
) -> None:
    """CVE-2018-15664, CVE-2026-42306: between looking and opening, the path becomes another one."""
    swap = "mkdir -p /w/d; echo mine > /w/d/secret; "
    swap += f"while :; do mv /w/d /w/k; ln -s {canary} /w/d; rm /w/d; mv /w/k /w/d; done"
    host.ok("run", "-d", "--name", "one", *NONE, "busybox", "sh", "-c", swap)
    (tmp_path / "given").write_text("mine\n")
    for number in range(30):
        out = tmp_path / f"out{number}"
        if host.run("cp", "one:/w/d/secret", str(out)).returncode == 0 and out.is_file() and not out.is_symlink():
            assert out.read_text() == "mine\n"
        host.run("cp", str(tmp_path / "given"), "one:/w/d/secret")
    host.ok("rm", "-f", "one")


def test_a_hostile_archive_on_stdin_stays_in_the_container(host: Host, canary: Path) -> None:
    host.ok("create", "--name", "one", *NONE, "busybox")
    for name, link in (("../../x", ""), ("/x/../../y", ""), ("in/link", str(canary)), ("hard", f"{canary}/secret")):
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as archive:
            member = tarfile.TarInfo(name)
            if link:
                member.type, member.linkname = (tarfile.SYMTYPE if name != "hard" else tarfile.LNKTYPE), link
            archive.addfile(member)
            inner = tarfile.TarInfo(f"{name}/secret")
            inner.size = 4
            archive.addfile(inner, io.BytesIO(b"evil"))
        host.run("cp", "-", "one:/tmp", input=data.getvalue())


def test_special_files_are_never_opened(host: Host, tmp_path: Path) -> None:
    script = "mkdir /d; mkfifo /d/fifo; mknod /d/zero c 1 5; mknod /d/disk b 8 0; echo x > /d/f"
    host.ok("run", "--name", "one", *NONE, "busybox", "sh", "-c", script)
    done = host.run("cp", "one:/d", str(tmp_path / "out"), timeout=20)
    assert done.returncode == 0 and b"was left out" in done.stderr
    assert sorted(os.listdir(tmp_path / "out")) == ["f", "fifo"]
    assert host.run("cp", "one:/d", "-", timeout=20).returncode == 0
    assert host.run("export", "one", timeout=20).returncode == 0
    assert host.run("commit", "one", "two", timeout=20).returncode == 0


def test_a_deep_tree_is_refused_in_words(host: Host, tmp_path: Path) -> None:
    script = "i=0; while [ $i -lt 300 ]; do mkdir d && cd d || exit; i=$((i+1)); done"
    host.ok("run", "--name", "one", *NONE, "-w", "/deep", "busybox", "sh", "-c", script)
    done = host.run("cp", "one:/deep", str(tmp_path / "out"), timeout=30)
    assert done.returncode == 1 and b"folders in each other" in done.stderr
    assert host.ok("rm", "one") == "one\n"
    assert host.leftovers() == []


def test_nothing_of_the_image_is_run_or_imported(host: Host, tmp_path: Path) -> None:
    """CVE-2019-14271, CVE-2026-41567: programs and modules of the image in the places where a helper would look."""
    marker = tmp_path / "ran"

    def fill(tree: Path) -> None:
        for name in ("tar", "gzip", "xz", "unpigz", "git"):
            program = tree / "usr" / "bin" / name
            program.parent.mkdir(parents=True, exist_ok=True)
            program.write_text(f"#!/bin/sh\ntouch {marker}\n")
            program.chmod(0o755)
        for folder in ("usr/lib/python3/dist-packages", "usr/lib/python3.11/encodings"):
            (tree / folder).mkdir(parents=True, exist_ok=True)
            (tree / folder / "idna.py").write_text(f"open({str(marker)!r}, 'w')\n")

    spoiled(host, "evil", fill=fill)
    host.ok("run", "-d", "--name", "one", *NONE, "evil", "sleep", "60")
    (tmp_path / "f").write_text("1")
    for _ in range(2):
        host.ok("cp", str(tmp_path / "f"), "one:/f")
        host.ok("cp", "one:/usr", str(tmp_path / "usr"))
        host.ok("diff", "one")
        host.ok("commit", "one", "again")
        host.run("stop", "-t", "0", "one")
    assert not marker.exists()
