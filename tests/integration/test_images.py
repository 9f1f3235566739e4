"""The verbs of images: names, removal, history, archives; nothing is lost and nothing is left."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.host import Host

NONE = ("--network", "none")


def test_a_tag_is_one_more_name(host: Host) -> None:
    host.ok("tag", "busybox", "hello:v7")
    host.ok("image", "tag", "hello:v7", "127.0.0.1:5000/hello:v7")
    names = host.ok("images", "--format", "{{.Repository}}:{{.Tag}}").split()
    assert set(names) == {"busybox:latest", "hello:v7", "127.0.0.1:5000/hello:v7"}
    assert len(set(host.ok("images", "-q").split())) == 1


@pytest.mark.parametrize("target", ["Hello:v1", "hello@sha256:" + "0" * 64, "a b"])
def test_a_name_that_cannot_be_is_refused(host: Host, target: str) -> None:
    done = host.run("tag", "busybox", target)
    assert done.returncode != 0
    assert host.ok("images", "-q").split() == [host.ok("images", "-q", "busybox").strip()]


def test_rmi_untags_first_and_deletes_with_the_last_name(host: Host) -> None:
    host.ok("tag", "busybox", "one:1")
    assert host.ok("rmi", "busybox") == "Untagged: busybox:latest\n"
    lines = host.ok("rmi", "one:1").splitlines()
    assert lines[0] == "Untagged: one:1"
    assert [line.split(":")[0] for line in lines[1:]] == ["Deleted", "Deleted"]
    assert os.listdir(host.root / "layers") == []
    assert os.listdir(host.root / "oci/blobs/sha256") == []


def test_rmi_names_the_container_in_the_way(host: Host) -> None:
    identity = host.ok("create", *NONE, "--name", "holder", "busybox", "true").strip()
    done = host.run("rmi", "busybox")
    assert done.returncode == 1
    assert b'unable to remove repository reference "busybox" (must force)' in done.stderr
    assert f"container {identity[:12]} is using its referenced image".encode() in done.stderr
    image = host.ok("images", "-q").strip()
    assert b"image is being used by stopped container" in host.run("rmi", image).stderr
    host.ok("rm", "holder")
    host.ok("rmi", image)


def test_a_container_outlives_its_image_removed_by_force(host: Host) -> None:
    host.ok("create", *NONE, "--name", "late", "busybox", "echo", "still here")
    assert "Deleted: sha256:" in host.ok("rmi", "-f", "busybox")
    assert host.ok("images", "-aq") == ""
    assert host.run("run", *NONE, "--rm", "busybox", "true").returncode == 125
    assert host.ok("start", "-a", "late") == "still here\n"
    host.ok("rm", "late")
    host.ok("image", "prune", "-f")
    assert os.listdir(host.root / "layers") == []


def test_a_running_container_keeps_its_image(host: Host) -> None:
    host.ok("run", "-d", *NONE, "--name", "up", "busybox", "sleep", "60")
    done = host.run("rmi", "-f", host.ok("images", "-q").strip())
    assert b"(cannot be forced) - image is being used by running container" in done.stderr
    assert host.ok("images", "-q") != ""


def test_a_missing_image_does_not_stop_the_others(host: Host) -> None:
    done = host.run("rmi", "nothere", "busybox")
    assert done.returncode == 1
    assert b"No such image: nothere" in done.stderr
    assert b"Untagged: busybox:latest" in done.stdout


def test_saved_and_loaded_is_the_same(host: Host, tmp_path: Path) -> None:
    host.ok("tag", "busybox", "two:2")
    before = host.ok("images", "--digests", "--no-trunc", "--format", "{{.ID}} {{.Digest}}")
    archive = tmp_path / "two.tar"
    host.ok("save", "-o", str(archive), "busybox", "two:2")
    host.ok("rmi", "busybox", "two:2")
    assert host.ok("load", "-i", str(archive)).splitlines() == ["Loaded image: busybox:latest", "Loaded image: two:2"]
    assert host.ok("images", "--digests", "--no-trunc", "--format", "{{.ID}} {{.Digest}}") == before
    assert host.ok("run", *NONE, "--rm", "two:2", "echo", "whole") == "whole\n"
    assert host.ok("image", "verify") == ""


def test_equal_images_are_saved_as_equal_bytes(host: Host) -> None:
    assert host.run("save", "busybox").stdout == host.run("save", "busybox").stdout


def test_an_archive_has_both_forms(host: Host, tmp_path: Path) -> None:
    archive = tmp_path / "b.tar"
    archive.write_bytes(host.run("save", "busybox").stdout)
    names = subprocess.check_output(["tar", "-tf", str(archive)], text=True).split()
    listing = json.loads(subprocess.check_output(["tar", "-xOf", str(archive), "manifest.json"]))
    assert {"index.json", "oci-layout", "manifest.json"} <= set(names)
    assert listing[0]["RepoTags"] == ["busybox:latest"]
    assert {listing[0]["Config"], *listing[0]["Layers"]} <= set(names)


def test_an_image_saved_by_its_id_has_no_name(host: Host) -> None:
    image = host.ok("images", "-q").strip()
    data = host.run("save", image).stdout
    host.ok("rmi", "busybox")
    assert host.ok("load", input=data).startswith("Loaded image ID: sha256:")
    assert host.ok("images", "--format", "{{.Repository}}") == "<none>\n"
    assert host.ok("images", "-qf", "dangling=true").strip() == image
    assert "Deleted Images:" in host.ok("image", "prune", "-f")
    assert host.ok("images", "-aq") == ""


def test_a_tag_that_moves_on_leaves_a_dangling_image(host: Host, tmp_path: Path) -> None:
    data = host.run("save", "busybox").stdout
    host.ok("image", "assemble", "registry:2", "--tag", "busybox:latest")
    assert host.ok("images", "-f", "dangling=true", "--format", "{{.Repository}}") == "<none>\n"
    host.ok("load", input=data)
    assert host.ok("images", "-qf", "dangling=true") == ""


def test_history_shows_the_steps(host: Host) -> None:
    table = host.ok("history", "busybox").splitlines()
    assert table[0].split() == ["IMAGE", "CREATED", "CREATED", "BY", "SIZE", "COMMENT"]
    row = json.loads(host.ok("history", "--no-trunc", "--format", "json", "busybox"))
    assert row["ID"] == host.ok("images", "-q", "--no-trunc").strip()
    assert row["CreatedBy"].startswith("specrun image assemble busybox=")
    assert row["Size"] == host.ok("images", "--format", "{{.Size}}").strip()


def test_filters(host: Host) -> None:
    host.ok("tag", "busybox", "other:1")
    assert host.ok("images", "-f", "reference=oth*:1", "--format", "{{.Repository}}") == "other\n"
    assert host.ok("images", "-qf", "before=busybox") == ""
    assert host.ok("images", "-qf", "label=none") == ""
    assert host.ok("images", "other", "--format", "{{.Tag}}") == "1\n"
    done = host.run("images", "-f", "colour=red")
    assert done.returncode != 0
    assert b"Invalid filter 'colour'" in done.stderr


def test_verify_finds_one_flipped_byte_and_a_missing_blob(host: Host) -> None:
    blobs = sorted((host.root / "oci/blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(blobs[-1].read_bytes())
    data[1000] ^= 1
    blobs[-1].write_bytes(data)
    done = host.run("image", "verify")
    assert done.returncode == 1
    assert f"blob sha256:{blobs[-1].name} is damaged".encode() in done.stdout
    blobs[-1].unlink()
    assert b"is missing" in host.run("image", "verify").stdout


@pytest.mark.parametrize("data", [b"", b"bad", b"\x1f\x8b" + b"junk" * 20, bytes(1024)])
def test_what_is_no_archive_is_refused(host: Host, data: bytes) -> None:
    before = sorted(os.listdir(host.root / "oci/blobs/sha256"))
    done = host.run("load", input=data)
    assert done.returncode == 1
    assert b"internal error" not in done.stderr
    assert sorted(os.listdir(host.root / "oci/blobs/sha256")) == before
